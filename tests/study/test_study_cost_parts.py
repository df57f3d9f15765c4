"""The closed form, the count and the measurement of every part, against each other and against the paper."""

import json

import numpy as np
import pytest
import torch
import xarray as xr

from bsaviz.models import VARIANTS, TransformerConfig, build
from bsaviz.models.transformer import Transformer
from bsaviz.study import cost
from bsaviz.study.cost_analytic import analytic_parts
from bsaviz.study.cost_counted import count_parts
from bsaviz.study.published_count import PUBLISHED, published_counts

POINTS, BATCH = 300, 2
FORMS = [(name, {}) for name in VARIANTS] + [
    ("bsa", {"pooling": "mlp", "coarse_scores": True}),
    ("bsa", {"branches": ("ball", "selection")}),
    ("bsa", {"branches": ("selection",), "pooling": "mlp"}),
    ("bsa", {"gate": "static", "published": True, "in_features": 2}),
    ("bsa-group-compression", {"pooling": "mlp"}),
    ("nsa", {"pooling": "mlp", "group_selection": True}),
    ("full", {"published": True, "fourier_features": 0, "in_features": 3}),
    ("erwin", {"decode": False, "published": True}),
    ("erwin-nsa", {"group_size": 8}),
]
REMADE = {"mlp", "messages", "projections", "pooling"}  # what layers may make again in the backward to save memory


@pytest.fixture(scope="module", params=FORMS, ids=lambda form: " ".join([form[0], *map(str, form[1].values())]))
def both(request):
    model = build(request.param[0], "tiny", depth=2, **request.param[1]) if "erwin" != request.param[0] else build(
        "erwin", "tiny", **request.param[1])  # fmt: skip
    return analytic_parts(model, POINTS, batch=BATCH), count_parts(model, POINTS, batch=BATCH)


def test_the_closed_form_of_a_forward_is_what_is_counted(both):
    analytic, counted = both
    assert analytic["not_modelled"] == {}
    expected = {part: value for part, value in analytic["gflop"]["forward"].items() if value and part != "window"}
    found = {part: value for part, value in counted["forward"].items() if value and part != "window"}
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_training_step_counts_what_the_closed_form_needs_and_what_is_made_again(both):
    analytic, counted = both
    for part, needed in analytic["gflop"]["training"].items():
        found = counted["training"].get(part, 0.0)
        if part == "full":  # unfused on tensors without data: six products over the scores, fused seven
            assert found == pytest.approx(needed * 6 / 7, rel=1e-9)
        elif part == "window":
            continue
        elif part in REMADE:
            assert needed * (1 - 1e-9) <= found <= needed + counted["forward"].get(part, 0.0)
        else:
            assert found == pytest.approx(needed, rel=1e-9)


def test_a_window_is_counted_with_the_keys_that_are_masked():
    """Runs of half a window read one and a half windows less one key; a query of them wants one window."""
    model = build("nsa", "tiny", depth=1, rotation_angle=None)
    n, window = 512, model.config.window
    analytic, counted = (f(model, n) for f in (analytic_parts, count_parts))
    read = sum(min(i, window // 2) + min(n - 1 - i, (window - 1) // 2) + 1 for i in range(n))
    assert analytic["gflop"]["forward"]["window"] == pytest.approx(4e-9 * read * model.config.dim)
    tile = window // 2 + window // 2 + (window - 1) // 2
    assert counted["forward"]["window"] == pytest.approx(4e-9 * n * tile * model.config.dim)


def test_what_depends_on_the_points_is_not_modelled():
    model = build("erwin", "tiny", radius=0.5)
    found = analytic_parts(model, 100)
    assert "radius" in found["not_modelled"]["messages"]
    assert np.isnan(found["gflop"]["forward"]["messages"])
    assert found["gflop"]["forward"]["ball"] > 0


def test_a_model_without_a_closed_form_says_so():
    class Another(Transformer):
        pass

    found = analytic_parts(Another(TransformerConfig(dim=16, depth=1, num_heads=1)), 100)
    assert all(np.isnan(value) for value in found["gflop"]["training"].values())
    assert found["not_modelled"]["ball"] == "there is no closed form for a Another"


def test_traffic_is_every_input_and_output_once():
    """Ball attention of one layer, by hand: q, k, v, the output, and a log-sum-exp in float32."""
    model = build("ball", "tiny", depth=1, rotation_angle=None)
    n, dim, heads = 512, model.config.dim, model.config.num_heads
    for itemsize in (2, 4):
        moved = analytic_parts(model, n, itemsize=itemsize)["mib"]
        forward = 4 * n * dim * itemsize + n * heads * 4
        # gradient, q, k, v, output and log-sum-exp are read, three gradients written
        backward = 8 * n * dim * itemsize + n * heads * 4
        assert moved["forward"]["ball"] == pytest.approx(forward / 2**20)
        assert moved["training"]["ball"] == pytest.approx((forward + backward) / 2**20)


def test_the_published_numbers_are_explained():
    table = published_counts()
    full, nearest, *others = table.to_dict("records")
    assert full["model"] == "full"
    assert full["gflop"] == pytest.approx(PUBLISHED["full"], rel=0.001)
    assert (nearest["model"], nearest["pooling"], nearest["scores"]) == ("bsa", "mlp", "of the compression branch")
    assert nearest["gflop"] == pytest.approx(PUBLISHED["bsa"], rel=0.005)
    further = [row for row in others if not (row["pooling"] == "mlp" and "compression" in row["scores"])]
    assert all(abs(row["off"]) > 0.015 for row in further)


def test_a_count_does_not_hear_of_other_models():
    """Another model that runs inside the count, as in another thread, is not attributed to this one's parts."""
    model, hooks = build("bsa", "tiny", depth=1), len(torch.nn.modules.module._global_forward_hooks)
    count_parts(model, 64)
    assert len(torch.nn.modules.module._global_forward_hooks) == hooks
    assert not any(module._forward_hooks for module in model.modules())


@pytest.fixture(scope="module")
def price():
    return cost(build("bsa", "tiny", depth=1, rotation_angle=None), 128, device="cpu", repeats=1)


def test_cost_tells_the_parts_by_three_estimates(price, tmp_path):
    assert list(price["estimate"].values) == ["analytic", "counted", "measured"]
    assert list(price["step"].values) == ["forward", "training"]
    parts = set(price["part"].values)
    assert parts == {"embedding", "positions", "projections", "gates", "pooling", "ball", "compression", "scores",
                     "selection", "mlp", "norms", "head"}  # fmt: skip
    branch = dict(zip(price["part"].values, price["branch"].values))
    assert branch["scores"] == branch["selection"] == "selection"
    assert price["module"].sel(part="gates") == "attention"
    assert all(variable.attrs["units"] and variable.attrs["long_name"] for variable in price.data_vars.values())
    price.to_netcdf(tmp_path / "cost.nc", engine="h5netcdf")
    assert xr.open_dataset(tmp_path / "cost.nc").identical(price)


def test_cost_of_the_parts_adds_up(price):
    counted = price["part_gflop"].sel(estimate="counted", step="forward").sum()
    assert counted == pytest.approx(float(price.gflops))
    measured = price["part_ms"].sel(estimate="measured")
    assert (measured > 0).all()
    whole = xr.DataArray([float(price.forward_ms), float(price.training_ms)], dims="step")
    assert np.allclose(price["rest_ms"], whole - measured.sum("part"))
    assert json.loads(price.attrs["not_modelled"]) == {}


def test_the_bound_is_the_higher_of_two_roofs(price):
    flops = price["part_gflop"].sel(estimate="analytic") / price.attrs["ceiling_gflop_per_s"]
    bytes_ = price["part_moved_mib"] * 2**20 / 1e9 / price.attrs["ceiling_gb_per_s"]
    bound = price["part_ms"].sel(estimate="analytic")
    assert np.allclose(bound, 1e3 * np.maximum(flops, bytes_))
    assert np.allclose(price["roofline_share"], bound / price["part_ms"].sel(estimate="measured"))


def test_memory_of_a_part_is_that_of_its_tensors(price):
    """The SwiGLU of 128 tokens makes three hidden vectors of 128 float32 each, and its output."""
    peak = price["part_peak_mib"]
    hidden = 128 * 128 * 4 / 2**20
    assert 2 * hidden <= peak.sel(part="mlp", step="forward") <= 5 * hidden
    assert (peak.sel(step="training") >= peak.sel(step="forward")).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_parts_on_a_gpu():
    found = cost(build("bsa", "small"), 4096, device="cuda")
    assert (found["part_ms"].sel(estimate="measured") > 0).all()
    assert (found["roofline_share"] < 1.2).all()
    assert found["part_peak_mib"].sel(part="mlp", step="training") > 1
