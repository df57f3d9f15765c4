"""Runtime against the number of points: what is run, what is not and why, and where lines cross."""

import re

import numpy as np
import pytest
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.study import bench_cost, bench_scaling, scaling
from bsaviz.study.peak_memory import MIB, size
from bsaviz.study.roofline import bound_ms, ceilings
from bsaviz.study.scaling import Series, predicted, run_series, time_call
from bsaviz.study.scaling_dataset import crossover, finished, join, per_point, to_dataset, write

CPU = torch.device("cpu")


def rows(variant, times, backend="kernels", scope="model", mib=1.0):
    """Rows as measured, from {points: milliseconds of a training step}; forwards take a third."""
    mib = {"forward": mib, "training": 2 * mib}
    return [
        {"series": Series(variant, backend, scope), "n": n, "status": "measured",
         "ms": {"forward": [t / 3] * 3, "training": [0.9 * t, t, 1.2 * t]}, "mib": mib}
        for n, t in times.items()
    ]  # fmt: skip


@pytest.mark.parametrize("variant", ["full", "bsa", "erwin", "erwin-nsa"])
def test_models_are_measured(variant):
    found = list(run_series(Series(variant, "plain", "model", "tiny"), (70, 140), CPU, seconds=0.01, longest=600))
    assert [row["status"] for row in found] == ["measured"] * 2
    assert all(len(row["ms"][step]) >= 1 and min(row["ms"][step]) > 0 for row in found for step in row["ms"])
    assert all(set(row["ms"]) == {"forward", "training"} for row in found)


def test_an_attention_layer_is_measured_alone():
    line = scaling.Line(Series("bsa", "plain", "attention", "tiny"), CPU)
    layer = line.at(100)
    used = []
    hook = line.model.layers[0].attn.register_forward_hook(lambda module, args, out: used.append(out.shape))
    others = line.model.layers[1].register_forward_hook(lambda *_: used.append("another layer"))
    layer["forward"](), layer["training"]()
    hook.remove(), others.remove()
    assert used == [(1, 128, 32)] * 2
    assert all(module.backend == "torch" for module in line.model.modules() if hasattr(module, "backend"))


def test_a_size_that_does_not_fit_says_so_and_ends_the_series(monkeypatch):
    def at(line, n):
        if n == 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"forward": lambda: None, "training": lambda: None}

    monkeypatch.setattr(scaling.Line, "at", at)
    found = list(run_series(Series("bsa", "plain", "model", "tiny"), (100, 200, 400), CPU, seconds=0.01))
    assert [row["status"] for row in found] == ["measured", "out of memory", "out of memory at fewer points"]


def test_what_breaks_and_what_has_no_time_left_is_said(monkeypatch):
    def at(line, n):
        raise RuntimeError("an  odd\nfailure")

    monkeypatch.setattr(scaling.Line, "at", at)
    series = Series("bsa", "plain", "model", "tiny")
    broken, after = run_series(series, (100, 200), CPU)
    assert (broken["status"], after["status"]) == ("failed: an odd failure", "failed at fewer points")
    late = list(run_series(series, (100,), CPU, out_of_time=lambda: True))
    assert late[0]["status"] == "no time left"


def test_long_calls_are_foreseen():
    assert predicted([], 1000) == 0
    assert predicted([(100, 1.0)], 400) == pytest.approx(4.0)  # linear
    assert predicted([(100, 1.0), (200, 2.0)], 400) == pytest.approx(2 * 2**1.5)  # linear, and half a power more
    assert predicted([(100, 1.0), (200, 8.0)], 400) == pytest.approx(32.0)  # never more than quadratic


def test_a_size_that_would_take_too_long_is_not_run(monkeypatch):
    monkeypatch.setattr(scaling.Line, "at", lambda line, n: dict.fromkeys(("forward", "training"), lambda: None))
    monkeypatch.setattr(scaling, "time_call", lambda call, device, seconds: ([n_ms.pop(0)], np.nan))
    n_ms = [100.0, 300.0, 400.0, 1200.0]
    found = list(run_series(Series("full", "plain", "model", "tiny"), (10, 20, 40), CPU, longest=4.0))
    assert [row["status"] for row in found] == ["measured", "measured", "would take too long"]


def test_a_call_is_repeated_after_one_that_is_not_timed():
    calls = []
    times, mib = time_call(lambda: calls.append(1), CPU, most=7, seconds=1.0)
    assert (len(times), len(calls)) == (7, 1 + 1 + 7)
    assert np.isnan(mib)


def test_lines_cross_where_powers_do():
    """t = n for full attention and 32 n^0.5 for the other: equal at 1024 points."""
    sizes = (256, 512, 2048, 4096)
    ds = to_dataset(rows("full", {n: n for n in sizes}) + rows("bsa", {n: 32 * n**0.5 for n in sizes}))
    assert ds["crossover"].sel(variant="bsa", backend="kernels", scope="model", step="training") == pytest.approx(1024)
    assert np.isnan(ds["crossover"].sel(variant="full")).all()


def test_a_line_that_never_crosses_is_infinite_and_one_that_is_always_ahead_zero():
    full = rows("full", {100: 1.0, 200: 2.0})
    ds = to_dataset(
        full + rows("bsa", {100: 2.0, 200: 3.0}) + rows("ball", {100: 0.5, 200: 0.6}) + rows("nsa", {300: 1})
    )
    found = ds["crossover"].isel(scope=0, backend=0).sel(step="training")
    assert np.isinf(found.sel(variant="bsa"))
    assert found.sel(variant="ball") == 0
    assert np.isnan(found.sel(variant="nsa"))  # no size in common


def test_the_last_crossing_counts():
    full = rows("full", {1: 1.0, 10: 10.0, 100: 100.0, 1000: 1000.0})
    ds = to_dataset(full + rows("bsa", {1: 0.5, 10: 20.0, 100: 50.0, 1000: 400.0}))
    found = float(ds["crossover"].isel(scope=0, backend=0).sel(step="training", variant="bsa"))
    assert found == pytest.approx(10**1.5)  # from twice the time at 10 points to half of it at 100


def test_full_attention_is_taken_by_its_fastest_backend_launched_alike():
    sizes = (100, 1000)
    ds = to_dataset(
        rows("full", dict.fromkeys(sizes, 10.0)) + rows("full", dict.fromkeys(sizes, 90.0), "plain")
        + rows("full", dict.fromkeys(sizes, 1.0), "graph") + rows("bsa", dict.fromkeys(sizes, 5.0))
        + rows("bsa", dict.fromkeys(sizes, 50.0), "plain") + rows("bsa", dict.fromkeys(sizes, 5.0), "graph")
    )  # fmt: skip
    best = ds["crossover"].isel(scope=0).sel(step="training", variant="bsa")
    assert best.sel(backend=["kernels", "graph", "plain"]).values.tolist() == [0, np.inf, np.inf]
    same = crossover(ds, "same").isel(scope=0).sel(step="training", variant="bsa")
    assert same.sel(backend=["kernels", "graph", "plain"]).values.tolist() == [0, np.inf, 0]
    with pytest.raises(BsavizError, match="against must be 'best' or 'same', got 'any'"):
        crossover(ds, "any")


def test_the_dataset_has_medians_with_spread_units_and_reasons(tmp_path):
    lost = [{"series": Series("full", "kernels", "model"), "n": 400, "status": "out of memory"}]
    ds = to_dataset(rows("full", {100: 1.0, 200: 2.0}) + lost + rows("bsa", {100: 3.0}), {"device": "a GPU"})
    one = ds.sel(variant="full", n=100, step="training", scope="model", backend="kernels")
    assert (one.ms, one.ms_low, one.ms_high, one.repeats) == (1.0, pytest.approx(0.95), pytest.approx(1.1), 3)
    assert ds["status"].sel(variant="full").values.ravel().tolist() == ["measured", "measured", "out of memory"]
    assert ds["status"].sel(variant="bsa").values.ravel().tolist() == ["measured", "not run", "not run"]
    assert all(variable.attrs["long_name"] for variable in ds.data_vars.values())
    assert ds["peak_mib"].attrs["units"] == "MiB"
    write(ds, tmp_path / "scaling.nc")
    kept = xr.load_dataset(tmp_path / "scaling.nc")
    assert kept.attrs["device"] == "a GPU"
    xr.testing.assert_equal(kept, ds)


def test_cost_a_point():
    ds = to_dataset(rows("full", {1000: 1.0, 20_000: 40.0}, mib=200.0))
    found = per_point(ds).isel(scope=0, variant=0, backend=0).sel(step="training")
    assert found["n"].values.tolist() == [20_000]
    assert float(found["us_a_point"][0]) == pytest.approx(2.0)
    assert float(found["kib_a_point"][0]) == pytest.approx(2 * 200 * 1024 / 20_000)


def test_the_most_important_series_come_first():
    planned = bench_scaling.planned(scaling.VARIANTS, list(scaling.BACKENDS), list(scaling.SCOPES), "tiny")
    assert [(s.variant, s.backend, s.scope) for s in planned[:3]] == [
        (name, "kernels", "model") for name in ("full", "bsa", "bsa-group-compression")
    ]
    assert len(set(planned)) == len(planned)
    assert {s.variant for s in planned} == set(scaling.VARIANTS)
    assert not any(s.variant == "erwin" and s.scope == "attention" for s in planned)


def test_the_bench_writes_as_it_goes(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench_scaling, "ceilings", lambda device: {"gflop_per_s": 1.0, "gb_per_s": 1.0})
    arguments = ["--preset", "tiny", "--points", "64", "--variants", "full", "ball", "--scopes", "attention"]
    assert (
        bench_scaling.main([*arguments, "--device", "cpu", "--repeat-for", "0.01", "--out", str(tmp_path / "x.nc")])
        == 0
    )
    assert "faster than full attention" in capsys.readouterr().out
    ds = xr.load_dataset(tmp_path / "x.nc")
    assert ds.attrs["command"] == "python -m bsaviz.study.bench_scaling"
    assert np.isfinite(ds["ms"]).all()
    with pytest.raises(SystemExit):
        bench_scaling.main(["--points", "0"])
    arguments[arguments.index("full")] = "bsa"
    arguments += ["--device", "cpu", "--repeat-for", "0.01", "--out", str(tmp_path / "x.nc"), "--add"]
    assert bench_scaling.main(arguments) == 0
    assert len(re.findall("plain +(bsa|ball)", capsys.readouterr().out.split("faster than")[0])) == 1  # ball was there
    both = xr.load_dataset(tmp_path / "x.nc")
    assert both["variant"].values.tolist() == ["full", "bsa", "ball"]
    xr.testing.assert_equal(both["ms"].sel(variant=["full", "ball"]), ds["ms"])
    assert np.isfinite(both["ms"]).all()


def test_added_series_replace_their_like_and_keep_the_others():
    first = to_dataset(rows("full", {100: 1.0, 200: 2.0}) + rows("bsa", {100: 3.0}), {"device": "a GPU"})
    second = to_dataset(rows("ball", {400: 7.0}) + rows("bsa", {100: 4.0, 400: 5.0}), {"device": "a GPU"})
    both = join(second, first.assign_attrs(notes="a busy host"))
    assert both.attrs == {"device": "a GPU", "notes": "a busy host"}
    ms = both["ms"].sel(scope="model", backend="kernels", step="training")
    assert both["variant"].values.tolist() == ["full", "bsa", "ball"]
    assert ms.sel(variant="full").values.tolist()[:2] == [1.0, 2.0]
    assert ms.sel(variant="bsa", n=[100, 400]).values.tolist() == [4.0, 5.0]
    assert both["ms"].attrs == first["ms"].attrs
    status = both["status"].sel(scope="model", backend="kernels")
    assert status.sel(variant="full").values.tolist() == ["measured", "measured", "not run"]
    assert finished(both, Series("bsa", "kernels", "model"), [100, 400])
    assert not finished(both, Series("full", "kernels", "model"), [100, 400])
    assert not finished(both, Series("nsa", "kernels", "model"), [100])
    with pytest.raises(BsavizError, match="stored series are of 'a GPU', these of 'another'"):
        join(second.assign_attrs(device="another"), first)


def test_costs_of_several_models_are_one_dataset(tmp_path):
    arguments = ["--preset", "tiny", "--models", "full", "ball", "--points", "64", "--repeats", "1", "--device", "cpu"]
    assert bench_cost.main([*arguments, "--out", str(tmp_path / "cost.nc")]) == 0
    ds = xr.load_dataset(tmp_path / "cost.nc")
    assert ds["model"].values.tolist() == ["full", "ball"]
    assert np.isnan(ds["part_gflop"].sel(model="ball", part="full")).all()
    assert ds["roofline_share"].sel(model="full", part="full", step="forward") > 0
    assert ds.attrs["ceiling_gflop_per_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("bsa", "cuda", "model"), "backend must be one of 'kernels', 'graph', 'plain', got 'cuda'"),
        (("bsa", "plain", "block"), "scope must be one of 'model', 'attention', got 'block'"),
        (("erwin", "plain", "attention"), "Erwin's layers differ by level"),
    ],
)
def test_a_series_that_does_not_exist_is_refused(arguments, message):
    with pytest.raises(BsavizError, match=message):
        Series(*arguments)


def test_a_graph_needs_a_gpu_and_a_dataset_needs_rows():
    with pytest.raises(BsavizError, match="a CUDA graph needs a CUDA device"):
        scaling.Line(Series("bsa", "graph", "model", "tiny"), CPU)
    with pytest.raises(BsavizError, match="there are no rows"):
        to_dataset([])


def test_the_bound_is_the_slower_of_arithmetic_and_traffic():
    roofs = {"gflop_per_s": 1000.0, "gb_per_s": 1.048576}
    assert bound_ms(2.0, 0.5, roofs) == pytest.approx(2.0)  # 2 ms of arithmetic, half a ms of traffic
    assert bound_ms(2.0, 5.0, roofs) == pytest.approx(5.0)
    assert np.allclose(bound_ms(np.array([2.0, 2.0]), np.array([0.5, 5.0]), roofs), [2, 5])


def test_ceilings_of_this_machine():
    found = ceilings("cpu", repeats=1)
    assert found["gflop_per_s"] > 0.1
    assert found["gb_per_s"] > 0.05
    assert "float32" in found["matmul"]


def test_memory_holds_what_a_step_is_given():
    """Each storage once: of a forward weights and inputs, of a training step what the optimiser keeps as well."""
    line = scaling.Line(Series("bsa", "plain", "model", "tiny"), CPU)
    calls = line.at(100)
    calls["training"]()
    weights = sum(p.nbytes for p in line.model.parameters())
    inputs = sum(x.nbytes for x in line.work.arguments.values() if x is not None)
    buffers = size(line.model.buffers())
    forward, training = (line.peak(step, 1.0) * MIB for step in ("forward", "training"))
    assert forward == weights + buffers + inputs + MIB
    assert training == pytest.approx(forward + 2 * weights, rel=0.01)  # two moments, and counts of steps
    line = scaling.Line(Series("bsa", "plain", "attention", "tiny"), CPU)
    line.at(100)
    assert line.run.tokens.nbytes < line.peak("training", 0.0) * MIB < weights
    x = torch.zeros(1024)
    assert size([x, x[:10], x.view(2, 512), None]) == x.nbytes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_is_that_of_the_series_whatever_was_measured_before():
    cuda, series = torch.device("cuda"), Series("bsa", "kernels", "attention", "small")
    (alone,) = run_series(series, (1024,), cuda, seconds=0.01)
    list(run_series(Series("ball", "kernels", "attention", "small"), (65536,), cuda, seconds=0.01))
    *_, after = run_series(series, (256, 1024), cuda, seconds=0.01)
    assert alone["mib"] == after["mib"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["kernels", "graph", "plain"])
def test_every_backend_on_a_gpu(backend):
    kept = torch.empty(2**30, dtype=torch.uint8, device="cuda")  # as if by another series: not counted
    for name in ("full", "bsa"):
        (row,) = run_series(Series(name, backend, "model", "small"), (1024,), torch.device("cuda"), seconds=0.05)
        assert row["status"] == "measured"
        assert backend == "graph" or kept.nbytes / 2**20 > row["mib"]["training"] > row["mib"]["forward"] > 0
