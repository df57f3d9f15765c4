"""The comparing explorer without a browser: what is painted, counted, picked and refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ui_cases import bar, marks, tints, tiny_car, tiny_model, titles

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.models import build
from bsaviz.study import count_gflops
from bsaviz.ui import CompareExplorer
from bsaviz.ui.hot_spot import CLASSES, DIRECT, MEANS, NEVER, THROUGH, nearest
from bsaviz.view.branches import rgb

CAR = replace(tiny_car(), fields={"pressure": tiny_car().positions[:, 0] * 3}, units={"pressure": "Pa"})


def predicted(model):
    return model.predict(torch.as_tensor(CAR.positions)).numpy()


def painted(scene, panel, c):
    return (tints(scene, panel) == rgb(CLASSES[c][1])).all(1)


@pytest.fixture
def explorer():
    with_it = CompareExplorer(tiny_model(), car=CAR, sizes={"ball_size": 8}, point=11)
    yield with_it
    with_it.close()


def test_predictions_errors_and_their_difference(explorer):
    a, b = predicted(tiny_model()), predicted(tiny_model(ball_size=8))
    np.testing.assert_allclose(explorer.comparison.a, a, rtol=1e-5)
    np.testing.assert_allclose(explorer.comparison.b, b, rtol=1e-5)
    np.testing.assert_allclose(explorer.comparison.errors[1], b - CAR.pressure, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        explorer.comparison.worse, np.abs(b - CAR.pressure) - np.abs(a - CAR.pressure), atol=1e-4
    )
    assert np.abs(a - b).max() > 0.01, "the sizes make a difference"


def test_both_sides_have_one_range_and_differences_are_centred_at_zero(explorer):
    explorer.limits.value = "whole"
    explorer.show.value = "prediction"
    assert titles(explorer.scene, 3) == ["Prediction of A", "Prediction of B", "Difference B − A"]
    both = np.concatenate([explorer.comparison.a, explorer.comparison.b])
    expected = ("pressure (Pa)", pytest.approx(both.min()), pytest.approx(both.max()))
    assert bar(explorer.scene, 0) == bar(explorer.scene, 1) == expected
    highest = np.abs(explorer.comparison.difference).max()
    assert bar(explorer.scene, 2) == ("difference of pressure (Pa)", pytest.approx(-highest), pytest.approx(highest))
    explorer.show.value = "error"
    highest = max(np.abs(error).max() for error in explorer.comparison.errors)
    assert bar(explorer.scene, 0) == bar(explorer.scene, 1)
    assert bar(explorer.scene, 0)[1:] == (pytest.approx(-highest), pytest.approx(highest))
    explorer.limits.value = "percentiles"
    assert bar(explorer.scene, 0)[2] < 0.999 * highest
    explorer.show.value = "difference"
    assert titles(explorer.scene, 1) == ["Difference B − A"]


def test_errors_and_reading_stand_side_by_side_at_first(explorer):
    assert titles(explorer.scene, 4) == ["Error of A", "Error of B", "Read by A", "Read by B"]
    hot_spot = nearest(CAR.positions, 11, 8)
    assert marks(explorer.scene, 3) == {"#D55E00": [11], "#000000": hot_spot[1:].tolist()}


def test_what_is_read_is_that_of_the_fields(explorer):
    explorer.layer.value = 1
    hot_spot = nearest(CAR.positions, 11, 8)
    for panel, sizes in ((2, {}), (3, {"ball_size": 8})):
        model, query = tiny_model(**sizes), {"it": hot_spot}
        field = bsaviz.receptive_field(model, CAR, query, layers=1, kinds=("structural", "mass", "reach"))
        field = field.isel(query=0, layer=0)
        direct = field["structural"].sel(branch=["ball", "selection"]).any(("head", "branch")).values
        through = field["reach"].sel(branch="selection").values & ~direct
        np.testing.assert_array_equal(painted(explorer.scene, panel, DIRECT), direct)
        np.testing.assert_array_equal(painted(explorer.scene, panel, THROUGH), through)
        np.testing.assert_array_equal(painted(explorer.scene, panel, MEANS), ~direct & ~through)
        reading = explorer.readings[panel - 2]
        assert reading.surface[DIRECT] == pytest.approx(100 * direct.mean())
        assert reading.surface.sum() == pytest.approx(100)
        own = field["structural"].sel(branch="ball").any("head").values
        mass = field["mass"].sum(("head", "branch")).values
        assert reading.outside == pytest.approx(100 * mass[~own].sum() / mass.sum(), rel=1e-4)


def test_all_layers_read_what_any_of_them_does(explorer):
    alone = []
    for layer in range(3):
        explorer.layer.value = layer
        alone.append(explorer.readings[1].classes == DIRECT)
    explorer.layer.value = "all"
    np.testing.assert_array_equal(explorer.readings[1].classes == DIRECT, np.any(alone, axis=0))
    assert f"{explorer.readings[1].never_directly:.1f} % by B" in explorer.numbers.value


def test_ball_attention_never_reads_far_away_and_full_attention_reads_all():
    explorer = CompareExplorer(tiny_model("ball", depth=1), tiny_model("full", depth=1), CAR, point=5)
    a, b = explorer.readings
    assert set(np.unique(a.classes)) == {DIRECT, NEVER}
    assert a.surface[NEVER] > 50
    assert (a.outside, b.surface[DIRECT]) == (0.0, 100.0)
    assert np.isnan(b.outside)
    explorer.show.value = "never read"
    np.testing.assert_array_equal(painted(explorer.scene, 0, NEVER), a.classes == NEVER)
    assert (tints(explorer.scene, 2) == rgb("#B2182B")).all(1).sum() == (a.classes == NEVER).sum(), "only B reads them"
    explorer.close()


def test_a_pick_and_the_buttons_move_the_hot_spot(explorer):
    explorer._pick(40, panel=1)
    assert explorer.point.value == 40
    assert marks(explorer.scene)["#D55E00"] == [40]
    explorer.worst["b"].click()
    assert explorer.point.value == np.abs(explorer.comparison.errors[1]).argmax()
    explorer.show.value = "difference"
    explorer.go_to_worst("difference")
    assert marks(explorer.scene)["#D55E00"] == [np.abs(explorer.comparison.difference).argmax()]
    explorer.count.value = 1
    assert marks(explorer.scene).keys() == {"#D55E00"}
    with pytest.raises(BsavizError, match="can be sent to 'a', 'b', 'difference', got 'c'"):
        explorer.go_to_worst("c")


def test_numbers_beside_it(explorer):
    errors = explorer.comparison.errors
    told = explorer.numbers.value
    for error in errors:
        assert f"{np.linalg.norm(error) / np.linalg.norm(CAR.pressure):.4f}" in told
        assert f"{np.abs(error).max():.4g}" in told
        assert f"{error[11]:.4g}" in told
    for model in (tiny_model(), tiny_model(ball_size=8)):
        assert f"<td>{count_gflops(model, 200):.2f}</td>" in told
    assert "bsa, ball 8, block 4, group 4, top-k 2" in told
    assert "error at 11 (Pa)" in told


def test_sizes_of_b_run_it_again_and_leave_a_alone(explorer):
    a = explorer.comparison.a
    explorer.sizes["ball_size"].value, explorer.sizes["top_k"].value = 64, 3
    np.testing.assert_allclose(explorer.comparison.b, predicted(tiny_model(ball_size=64, top_k=3)), rtol=1e-5)
    assert explorer.comparison.a is a
    explorer.sizes["ball_size"].value, explorer.sizes["top_k"].value = 32, 2
    np.testing.assert_allclose(explorer.comparison.difference, 0, atol=1e-6)
    assert explorer.problem is None


def test_problems_are_shown_in_place_and_it_goes_on(explorer):
    before = tints(explorer.scene, 3).copy()
    explorer.sizes["ball_size"].value = 256
    assert "larger than this cloud of 200" in explorer.message.value
    explorer._pick(30, panel=0)
    explorer.sizes["ball_size"].value = 8
    assert explorer.message.value == ""
    explorer.point.value = 11
    np.testing.assert_array_equal(tints(explorer.scene, 3), before)


def test_a_cloud_without_pressure_compares_predictions():
    explorer = CompareExplorer(tiny_model(), car=CAR.positions)
    assert explorer.sizes["ball_size"].value == 8, "by default a quarter of A's"
    assert explorer.point.value == np.abs(explorer.comparison.difference).argmax()
    assert "error" not in dict(explorer.show.options).values()
    assert titles(explorer.scene, 3) == ["Difference B − A", "Read by A", "Read by B"]
    assert list(explorer.worst) == ["difference"]
    explorer.close()


def test_features_go_to_the_model_that_reads_them():
    normals = CAR.positions / np.linalg.norm(CAR.positions, axis=1, keepdims=True)
    model = tiny_model(in_features=3)
    explorer = CompareExplorer(tiny_model(), model, CAR, features=normals)
    expected = model.predict(torch.as_tensor(CAR.positions), torch.as_tensor(normals)).numpy()
    np.testing.assert_allclose(explorer.comparison.b, expected, rtol=1e-5)
    explorer.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(sizes={"window": 4}), "B has no size 'window'; it has: ball_size, block_size, group_size, top_k"),
        (dict(sizes={"top_k": 1.5}), r"sizes\['top_k'\] must be a whole number of at least 1, got 1.5"),
        (dict(sizes={"ball_size": 512}), "larger than this cloud of 200"),
        (dict(point=200), "point must be a whole number from 0 to 199, got 200"),
        (dict(target="drag"), "has no field 'drag' to measure errors against; its fields: pressure"),
        (dict(other=build("bsa", "tiny", out_features=2)), "this one predicts 2"),
    ],
)
def test_what_cannot_be_shown_at_all_is_an_error_of_the_call(options, message):
    with pytest.raises(BsavizError, match=message):
        CompareExplorer(**(dict(model=tiny_model(), car=CAR) | options))


def test_a_vector_field_is_no_target():
    car = replace(CAR, fields={"wind": CAR.positions})
    with pytest.raises(BsavizError, match=r"one number a point, field 'wind' has shape \(200, 3\)"):
        CompareExplorer(tiny_model(), car=car, target="wind")
