"""Plans of sweeps: read, checked before anything is trained."""

import json

import pytest

from bsaviz._checks import BsavizError
from bsaviz.study import SweepPlan

GRID = dict(block_size=[4, 8], top_k=[2, 4])


def test_grid_is_every_combination():
    plan = SweepPlan(GRID, preset="tiny", seeds=[0, 1])
    assert len(plan.combinations()) == 4
    chosen = {"block_size": 4, "top_k": 2, "learning_rate": 0.01}
    cars, name, preset, settings, training = plan.arguments(chosen, seed=7)
    assert (cars, name, preset, settings) == ("generated", "bsa", "tiny", {"block_size": 4, "top_k": 2})
    assert (training.learning_rate, training.seed) == (0.01, 7)


def test_reads_yaml(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("preset: tiny\nparameters:\n  model: [bsa, full]\n  depth: [2]\nseeds: [3]\n")
    plan = SweepPlan.from_file(path)
    assert plan.combinations() == [{"model": "bsa", "depth": 2}, {"model": "full", "depth": 2}]


def test_variants_are_named_settings_of_everything():
    variants = {"wide": dict(dim=48, num_heads=3), "other": dict(model="ball", cars="laplace", steps=7, preset="small")}
    plan = SweepPlan(dict(top_k=[2]), variants=variants, model="bsa", preset="tiny")
    assert plan.combinations() == [{"variant": name, "top_k": 2} for name in variants]
    wide, other = (plan.arguments(chosen) for chosen in plan.combinations())
    assert wide[:4] == ("generated", "bsa", "tiny", {"dim": 48, "num_heads": 3, "top_k": 2})
    assert other[:3] == ("laplace", "ball", "small")
    assert (other[4].steps, other[4].target, other[4].features) == (7, "potential", ("charge",))
    again = SweepPlan.from_dict(json.loads(plan.to_json()))
    assert again.to_json() == plan.to_json()
    assert again.arguments({"variant": "other"})[:4] == plan.arguments({"variant": "other"})[:4]


def test_impossible_settings_are_all_named_before_the_first_training():
    with pytest.raises(BsavizError, match=r"2 of 4 settings cannot be built; nothing was trained(.|\n)*block_size=3"):
        SweepPlan(dict(block_size=[3, 8], top_k=[2, 4]))
    plan = SweepPlan(dict(block_size=[3, 8], top_k=[2, 4]), skip_impossible=True)
    assert {chosen["block_size"] for chosen in plan.combinations()} == {8}


def test_more_blocks_than_a_cloud_has_are_named_before_the_first_training():
    words = r"1 of 2 settings cannot be built(.|\n)*top_k=32: top_k=32 blocks of 8 points, but a cloud of 100 .* has 16"
    with pytest.raises(BsavizError, match=words):
        SweepPlan({"top_k": [4, 32]}, preset="tiny", training={"num_points": 100})
    SweepPlan({"top_k": [4, 32]}, preset="tiny", training={"num_points": 1000})
    SweepPlan({"top_k": [4, 32]}, model="ball", preset="tiny", training={"num_points": 100})


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (dict(parameters={}), "parameters must name one parameter or more"),
        (dict(parameters={"ball_sise": [64]}), "ball_sise"),
        (dict(parameters={"ball_size": 64}), "ball_size: expected a list of values, got 64"),
        (dict(parameters={"seed": [0]}), "list the seeds under 'seeds'"),
        (dict(variants={"a": 3}), "variants must give each name its settings"),
        (dict(variants={"a": {}}, sampler="tpe", trials=2), "variants are tried one by one"),
        (dict(variants={"a": {"ball_sise": 3}}), "ball_sise"),
        (dict(parameters=GRID, looks=-1), "looks must be a whole number of test cars of at least 0, got -1"),
        (dict(parameters=GRID, sampler="grit"), "unknown sampler 'grit'; there are grid, random, tpe, nsga2"),
        (dict(parameters=GRID, objectives=["speed"]), "unknown objective 'speed'"),
        (dict(parameters=GRID, training={"step": 3}), "unknown training setting 'step'"),
        (dict(parameters=GRID, training={"steps": 0}), "steps must be a whole number of at least 1"),
        (dict(parameters=GRID, seeds=3), "seeds must be a list of at least one entry, got 3"),
        (dict(parameters=GRID, seeds=[-1]), "seeds must be whole numbers of at least 0"),
        (dict(parameters=GRID, trials=3), "a grid tries them all"),
        (dict(parameters=GRID, sampler="tpe"), "trials .how many settings to try."),
        (dict(parameters=GRID, sampler="tpe", trials=0), "trials must be a whole number of at least 1, got 0"),
        (dict(parameters={"top_k": {"low": 1, "high": 4}}), "a grid needs a list of values, got a range"),
        (dict(parameters={"top_k": {"low": 1}}, sampler="tpe", trials=2), "a range needs low and high"),
        (dict(parameters={"top_k": {"lo": 1}}, sampler="tpe", trials=2), "unknown entry of the range of top_k 'lo'"),
    ],
)
def test_errors_say_what_was_expected(entries, words):
    with pytest.raises(BsavizError, match=words):
        SweepPlan.from_dict(entries)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parameters: [", "is no YAML"),
        ("depth: 3", "must have an entry 'parameters'"),
        ("parameters: {}\nfoo: 1", "unknown entry of .*'foo'"),
    ],
)
def test_files_that_are_no_plans(tmp_path, text, words):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(BsavizError, match=words):
        SweepPlan.from_file(path)


def test_missing_file(tmp_path):
    with pytest.raises(BsavizError, match="cannot read the plan .*: No such file"):
        SweepPlan.from_file(tmp_path / "none.yaml")
