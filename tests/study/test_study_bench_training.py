"""The benchmark of the training step, as far as it goes without a GPU."""

import json

import pytest
import torch

from bsaviz.study import bench_training
from bsaviz.study.bench_training import TrainingStep, check, table

CPU = torch.device("cpu")


@pytest.mark.parametrize("variant", ["bsa", "full"])
def test_a_step_learns(variant):
    step = TrainingStep(variant, 50, 1, CPU, preset="tiny")
    losses = [step().item() for _ in range(3)]
    assert losses[-1] < losses[0]
    assert all(p.grad is None for p in step.model.parameters())


def test_a_wrong_step_is_not_timed(monkeypatch):
    monkeypatch.setattr(bench_training, "CHECKED_STEPS", 2)
    step = TrainingStep("bsa", 50, 1, CPU, preset="tiny")
    check(step, "bsa", 50, 1, CPU, preset="tiny")
    with torch.no_grad():
        step.model.head[-1].weight.add_(1.0)
    with pytest.raises(SystemExit, match="bsa: loss .* in plain PyTorch: not timed"):
        check(step, "bsa", 50, 1, CPU, preset="tiny")


def test_the_table_names_the_kernels():
    row = {"variant": "bsa", "points": 4096, "batch": 2, "mode": "eager", "step_ms": 12.346, "peak_gib": 0.5}
    text = table([row | {"kernels": [{"kernel": "gemm", "ms": 1.5, "calls": 18}]}])
    assert "12.35" in text
    assert "1.500 ms    18 x  gemm" in text


def test_rows_that_were_not_measured_again_are_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(bench_training, "about", lambda: {"device": "a GPU"})
    row = {"variant": "bsa", "points": 4096, "batch": 2, "mode": "eager", "step_ms": 2.0}
    bench_training.write([row, row | {"variant": "full"}], tmp_path / "x.json")
    bench_training.write([row | {"step_ms": 1.0}], tmp_path / "x.json")
    written = json.loads((tmp_path / "x.json").read_text())
    assert written["device"] == "a GPU"
    assert [(r["variant"], r["step_ms"]) for r in written["rows"]] == [("bsa", 1.0), ("full", 2.0)]


@pytest.mark.parametrize("arguments", [["--sizes", "4096"], ["--sizes", "axb"], ["--repeats", "0"]])
def test_bad_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        bench_training.main(arguments)
    assert "--sizes are POINTSxCLOUDS" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert bench_training.main(["--out", str(tmp_path / "x.json")]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
