"""The benchmarks of the family: what they run, what they write, and the ratios they draw from it."""

import json

import pytest
import torch

from bsaviz.models import build
from bsaviz.study import ablate_top_k, bench_family, family
from bsaviz.study.family import TASKS, Task, Work, models_of, operations

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
    assert counted["erwin-nsa"] > counted["erwin-nsa, groups of 8"]
    assert counted["erwin-nsa"] == counted["erwin-nsa, recomputed"]


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
        assert row["graph_ms"] > 0
        assert row["steps_per_s"] == pytest.approx(1e3 / row["step_ms"])
    assert report["versions"]["torch"] == str(torch.__version__)
    ratio = next(r for r in report["erwin_nsa_against_erwin"] if r["backend"] == "torch" and r["batch"] == 2)
    expected = rows["erwin", "torch", 2]["step_ms"] / rows["erwin-nsa", "torch", 2]["step_ms"]
    assert ratio["speed"] == pytest.approx(expected)
    assert len(capsys.readouterr().out.splitlines()) == len(rows)


def test_a_ratio_is_taken_with_the_same_backend_and_batch():
    row = lambda model, backend, ms, mib: dict(
        task="md", model=model, backend=backend, batch=1, step_ms=ms, peak_mib=mib, gflops_of_a_forward=ms / 2
    )
    rows = [row("erwin", "auto", 10, 100), row("erwin-nsa", "auto", 5, 50), row("erwin-nsa", "torch", 40, 70)]
    (ratio,) = bench_family.against_erwin(rows)
    assert ratio["backend"] == "auto"
    assert (ratio["speed"], ratio["memory"], ratio["operations"]) == (2, 0.5, 0.5)


def test_full_attention_runs_once_and_what_does_not_fit_is_said(monkeypatch):
    assert [backend for name, backend in bench_family.contestants(TINY) if name == "full"] == ["auto"]
    assert {name.split("-")[0] for name, _ in bench_family.contestants(TINY, batch=1)} == {"erwin"}
    monkeypatch.setitem(TASKS, "md", TINY)

    def too_large(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(bench_family, "measure", too_large)
    rows = bench_family.run(CPU, "md", ["bsa"], 0)
    assert len(rows) == 2
    assert {row["failed"] for row in rows} == {"out of memory"}
    assert "out of memory" in bench_family.line(rows[0])


def test_time_is_a_median_of_calls_after_two(monkeypatch):
    calls = iter([9.0, 1.0, 1.0, 2.0, 3.0])
    monkeypatch.setattr(family, "_milliseconds", lambda call, device: next(calls))
    assert family.time_steps(lambda: None, CPU, seconds=0.003) == 2.0


def test_the_ablation_trains_every_k_and_writes_error_and_cost(tmp_path, monkeypatch):
    monkeypatch.setattr(ablate_top_k, "TRAIN_INDICES", range(2))
    monkeypatch.setattr(ablate_top_k, "TEST_INDICES", range(48, 49))

    def here(runs, options, folder):  # in this process
        settings = (options.steps, options.batch, options.points, options.device, options.preset)
        return [ablate_top_k.trained(name, k, seed, *settings) for name, k, seed in runs]

    monkeypatch.setattr(ablate_top_k, "side_by_side", here)
    monkeypatch.setattr(ablate_top_k, "REPEATS", 1)
    out = tmp_path / "top-k.json"
    settings = ["--steps", "2", "--batch", "1", "--points", "150", "--preset", "tiny", "--device", "cpu"]
    ablate_top_k.main([*settings, "--top-k", "1", "4", "--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert [(row["model"], row["top_k"]) for row in rows] == [
        ("bsa", 1),
        ("bsa", 4),
        ("erwin-nsa", 1),
        ("erwin-nsa", 4),
    ]
    for row in rows:
        assert 0 < row["relative_l2"] < 2
        assert row["training_ms"] > 0
    for few, many in (rows[:2], rows[2:]):
        assert few["gflops_of_a_forward"] < many["gflops_of_a_forward"]


def test_a_training_that_fails_is_named(monkeypatch, tmp_path):
    options = ablate_top_k.argparse.Namespace(
        workers=1, steps=0, batch=1, points=100, device="cpu", preset="tiny", seeds=[0]
    )
    with pytest.raises(RuntimeError, match=r"training \('bsa', 4, 0\) failed"):
        ablate_top_k.side_by_side([("bsa", 4, 0)], options, tmp_path)
