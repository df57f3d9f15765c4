"""The benchmarks of the family: what they run, what they write, and the ratios they draw from it."""

import json

import pytest
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.models import build
from bsaviz.study import ablate_top_k, bench_family, family
from bsaviz.study.family import TASKS, Task, Work, attention_pairs, models_of, operations
from bsaviz.study.studies.plans import config_of, settings_of

TINY = Task(
    120, (1, 2), dict(spatial_dims=3, in_features=2, out_features=2), {"erwin": "tiny", "erwin-nsa": "tiny"}
)  # fmt: skip
CPU = torch.device("cpu")


@pytest.mark.parametrize("task", TASKS)
def test_every_row_of_every_task_can_be_built(task):
    rows = models_of(TASKS[task])
    assert {"full", "ball", "bsa", "nsa", "erwin", "erwin-nsa"} <= set(rows)
    for name, preset, settings in rows.values():
        model = build(name, preset, **settings)
        assert model.config.out_features == TASKS[task].schema["out_features"]
        assert model.config.in_features == TASKS[task].schema["in_features"]


def test_sizes_are_those_of_the_public_sets():
    assert {name: task.points for name, task in TASKS.items()} == {
        "cars": 3586, "elasticity": 972, "md": 890, "cosmology": 5000,
    }  # fmt: skip
    assert {name: task.batches[-1] for name, task in TASKS.items()} == {
        "cars": 2, "elasticity": 16, "md": 32, "cosmology": 16,
    }  # fmt: skip


def test_a_step_trains_the_model_on_the_backend_asked_for():
    work = Work(models_of(TINY)["erwin-nsa"], TINY, 2, "torch", CPU)
    assert {m.backend for m in work.model.modules() if hasattr(m, "backend")} == {"torch"}
    before = [p.clone() for p in work.model.parameters()]
    work.step()
    assert any(not a.equal(b) for a, b in zip(before, work.model.parameters()))
    assert all(p.grad is None for p in work.model.parameters())


def test_operations_grow_where_queries_choose_alone():
    counted = operations(TINY, ["erwin-nsa", "erwin-nsa, groups of 8", "erwin-nsa, recomputed"])
    gflops = {name: entry["gflops_of_a_forward"] for name, entry in counted.items()}
    assert gflops["erwin-nsa"] > gflops["erwin-nsa, groups of 8"]
    assert counted["erwin-nsa"] == counted["erwin-nsa, recomputed"]


@pytest.mark.parametrize(("name", "pairs"), [
    ("full", 4 * 2 * 120 * 120),
    ("ball", 4 * 2 * 128 * 64),
    ("bsa", 4 * 2 * 128 * (64 + 16 + 4 * 8)),
    ("bsa-group-compression", 4 * 2 * 128 * (64 + 2 + 4 * 8)),
    ("nsa", 4 * 2 * 128 * (64 + 16 + 4 * 8)),
    ("erwin-nsa", 4 * 2 * 128 * (64 + 8 + 4 * 16)),
    ("erwin", 4 * 2 * 128 * 64 + 4 * 4 * 64 * 64 + 2 * 4 * 32 * 32),
])  # fmt: skip
def test_pairs_are_those_of_every_layer_head_and_branch(name, pairs):
    assert attention_pairs(build(name, "tiny"), 120) == pairs


def test_the_benchmark_writes_rows_and_ratios(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(TASKS, "md", TINY)
    out = tmp_path / "family.json"
    names = ["erwin", "erwin-nsa"]
    bench_family.main(["--tasks", "md", "--models", *names, "--seconds", "0", "--device", "cpu", "--out", str(out)])
    report = json.loads(out.read_text())
    rows = {(row["model"], row["backend"], row["batch"]): row for row in report["rows"]}
    assert set(rows) == {(name, backend, batch) for name in names for backend in ("auto", "torch") for batch in (1, 2)}
    for row in rows.values():
        assert row["step_ms"] > 0
        assert row["prepare_ms"] > 0
        assert row["pairs_of_a_forward"] > 0
        assert row["steps_per_s"] == pytest.approx(1e3 / row["step_ms"])
    assert report["versions"]["torch"] == str(torch.__version__)
    ratio = next(r for r in report["erwin_nsa_against_erwin"] if r["backend"] == "torch" and r["batch"] == 2)
    expected = rows["erwin", "torch", 2]["step_ms"] / rows["erwin-nsa", "torch", 2]["step_ms"]
    assert ratio["speed"] == pytest.approx(expected)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)

    report["rows"] = [row for row in report["rows"] if row["model"] == "erwin"]  # as if a limit had ended it there
    report["notes"].insert(0, "a busy host")
    out.write_text(json.dumps(report))
    again = ["--tasks", "md", "--seconds", "0", "--device", "cpu", "--out", str(out), "--stages", "measure", "--add"]
    bench_family.main([*again, "--models", "erwin", "ball"])
    models = [row["model"] for row in json.loads(out.read_text())["rows"]]
    assert models == ["erwin"] * 4 + ["ball"] * 2
    assert json.loads(out.read_text())["notes"] == ["a busy host", *bench_family.NOTES]
    assert len(capsys.readouterr().out.splitlines()) == 2
    out.write_text(json.dumps({**report, "device": "another"}))
    with pytest.raises(SystemExit, match="was measured on another"):
        bench_family.main(again)


def test_a_ratio_is_taken_with_the_same_backend_and_batch():
    row = lambda model, backend, ms, mib: dict(
        task="md", model=model, backend=backend, batch=1, step_ms=ms, peak_mib=mib, gflops_of_a_forward=ms / 2
    )
    rows = [row("erwin", "auto", 10, 100), row("erwin-nsa", "auto", 5, 50), row("erwin-nsa", "torch", 40, 70)]
    (ratio,) = bench_family.against_erwin(rows)
    assert ratio["backend"] == "auto"
    assert (ratio["speed"], ratio["memory"], ratio["gflops_of_a_forward"]) == (2, 0.5, 0.5)
    assert "speed_over_plain_erwin" not in ratio
    plain = bench_family.against_erwin([*rows, row("erwin", "torch", 30, 200)])[0]
    assert plain["speed_over_plain_erwin"] == 6


def test_jobs_are_every_row_once_and_the_papers_come_first():
    jobs = bench_family.jobs(TASKS)
    assert len(set(jobs)) == len(jobs)
    every = {(task, name) for task in TASKS for name in models_of(TASKS[task])}
    assert {(task, name) for task, _, name, _ in jobs} == every
    assert {backend for _, _, name, backend in jobs if name == "full"} == {"auto"}
    assert {name.split("-")[0].split(",")[0] for _, batch, name, _ in jobs if batch == 1} == {"erwin"}
    first = jobs[: 2 * 3 * len(TASKS)]
    assert {name for _, _, name, _ in first} == {"erwin", "erwin-nsa", "erwin-nsa, groups of 8"}
    assert all(batch == TASKS[task].batches[-1] for task, batch, _, _ in first)


def test_what_does_not_fit_is_said(monkeypatch):
    monkeypatch.setitem(TASKS, "md", TINY)

    def too_large(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench_family, "measure", too_large)
    row = bench_family.run(CPU, ("md", 2, "bsa", "auto"), 0)
    assert row["failed"] == "out of memory"
    assert "out of memory" in bench_family.line(row)
    assert bench_family.against_erwin([row]) == []


def test_a_time_limit_leaves_rows_out_and_says_which(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "md", TINY)
    out = tmp_path / "family.json"
    bench_family.main(["--tasks", "md", "--models", "erwin", "--limit", "-1", "--device", "cpu", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["rows"] == []
    assert {row["backend"] for row in report["left_out_by_the_time_limit"]} == {"auto", "torch"}


def test_time_is_a_median_of_calls_after_the_first(monkeypatch):
    calls = iter([9.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(family, "_milliseconds", lambda call, device: next(calls))
    assert family.time_steps(lambda: None, CPU, seconds=0.003) == 2.0


def test_the_ablation_draws_k_from_the_study_and_leaves_out_what_is_missing(tmp_path, monkeypatch, capsys):
    names = ["BSA", "top-k 8", "Erwin-NSA, top-k 4", "ball 64"]
    error = xr.DataArray([[0.4, 0.42], [0.3, float("nan")], [0.2, 0.21], [0.9, 0.9]], dims=("variant", "seed"))
    study = xr.Dataset(
        {"relative_l2": error, "training_ms": ("variant", [10.0, 20.0, float("nan"), 1.0])},
        {"variant": names, "seed": [0, 1]},
        {"device": "a device", "versions": '{"torch": "2"}', "notes": '["short"]'},
    )  # fmt: skip
    monkeypatch.setattr(ablate_top_k, "open_study", {"sensitivity": study}.get)
    out = tmp_path / "top-k.json"
    ablate_top_k.main(["--out", str(out)])
    report = json.loads(out.read_text())
    found = [(row["model"], row["top_k"], row["seed"], row["relative_l2"]) for row in report["rows"]]
    assert found == [
        ("bsa", 4, 0, 0.4), ("bsa", 4, 1, 0.42), ("bsa", 8, 0, 0.3),
        ("erwin-nsa", 4, 0, 0.2), ("erwin-nsa", 4, 1, 0.21),
    ]  # fmt: skip
    assert [row.get("steps_per_s") for row in report["rows"]] == [100, 100, 50, None, None]
    assert report["device"] == "a device"
    assert report["versions"] == {"torch": "2"}
    assert report["notes"][0] == "short"
    assert len(capsys.readouterr().out.splitlines()) == len(found)
    with pytest.raises(BsavizError, match="no trainings with different top_k"):
        ablate_top_k.top_k_rows(study.isel(variant=[3]))


def test_the_study_has_the_variants_that_the_ablation_reads():
    for (model, k), name in ablate_top_k.VARIANTS.items():
        settings = settings_of("sensitivity", name)
        assert config_of(settings).top_k == k
        assert settings["model"] == model
