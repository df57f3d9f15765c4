"""What is counted is exact, what is measured is plausible, and the model is left alone."""

import json
import shutil

import pytest
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.models import build
from bsaviz.study import cost, count_gflops
from bsaviz.study.fresh_process import cpu_peaks
from bsaviz.study.peak_memory import MIB, growth


def published(name):
    with torch.device("meta"):
        return build(name, "published", published=True, position_scaling="none")


def test_published_full_attention_counts_87_gflops():
    assert count_gflops(published("full"), 4096) == pytest.approx(87.1, rel=0.01)


def test_the_count_is_the_formula():
    """Two layers of one head, by hand: projections, attention, SwiGLU, embedding, head."""
    n, c, f = 256, 32, 32
    model = build("full", "tiny", depth=2, num_heads=1)
    layer = 2 * n * (c * 3 * c + c * c + 3 * c * 4 * c) + 2 * 2 * n * n * c
    ends = 2 * n * (3 * f // 2 + f * c + c * c + c)
    assert count_gflops(model, n) == pytest.approx((2 * layer + ends) / 1e9, rel=1e-9)
    assert count_gflops(model, n, batch=3) == pytest.approx(3 * (2 * layer + ends) / 1e9, rel=1e-9)


def test_sparse_attention_counts_its_branches():
    """What BSA's branches add to a model, by hand, against the same model with ball attention alone."""
    n, m, l, k, d, heads, c = 512, 64, 8, 4, 16, 2, 32
    with_all, ball = (build(name, "tiny", depth=1, rotation_angle=None) for name in ("bsa", "ball"))
    compression = 2 * 2 * n * (n // l) * d * heads
    scores = 2 * (n // 8) * (n // l) * d * heads
    selection = 2 * 2 * n * (k * l) * d * heads
    gate = 2 * n * c * 3 * heads
    expected = (compression + scores + selection + gate) / 1e9
    assert with_all.config.ball_size == m
    assert count_gflops(with_all, n) - count_gflops(ball, n) == pytest.approx(expected, rel=1e-6)


def test_erwin_counts_its_messages_layers_and_levels():
    """Two levels by hand: embedding, messages over 4 edges a point, layers, pooling, unpooling, head."""
    n, f, fine, coarse, stride, m = 256, 8, 16, 24, 4, 32
    model = build("erwin", "tiny", dims=(fine, coarse), ball_sizes=(m, m), strides=(stride,), enc_depths=(1, 2),
                  enc_num_heads=(2, 2), dec_depths=(1,), dec_num_heads=(2,), mp_steps=1, neighbours=4,
                  fourier_features=f)  # fmt: skip
    layer = lambda n, c: 2 * n * c * (3 + 3 * c + c + 3 * 4 * c) + 2 * 2 * n * m * c
    messages = 2 * n * fine * (2 * fine + 4 * 3 + 2 * fine)
    levels = 2 * (n // stride) * (stride * (fine + 3) * coarse + (coarse + 3 * stride) * stride * fine)
    ends = 2 * n * (3 * f // 2 + f * fine + fine * fine + fine)
    expected = 2 * layer(n, fine) + 2 * layer(n // stride, coarse) + messages + levels + ends
    assert count_gflops(model, n) == pytest.approx(expected / 1e9, rel=1e-9)


def test_padding_counts():
    model = build("bsa", "tiny")
    assert count_gflops(model, 65) == count_gflops(model, 128) > count_gflops(model, 64)


@pytest.fixture(scope="module")
def small_cost():
    model = build("bsa", "tiny", depth=2, in_features=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return model, before, cost(model, 200, device="cpu", batch=2, repeats=2, parts=False)


def test_cost_is_labelled(small_cost, tmp_path):
    model, _, found = small_cost
    units = {name: variable.attrs["units"] for name, variable in found.data_vars.items()}
    assert units == {
        "gflops": "GFLOP",
        "forward_ms": "ms",
        "training_ms": "ms",
        "tree_ms": "ms",
        "forward_mib": "MiB",
        "training_mib": "MiB",
        "parameters": "1",
    }
    assert all(variable.attrs["long_name"] for variable in found.data_vars.values())
    assert (int(found.num_points), int(found.batch)) == (200, 2)
    assert found.attrs["model_attention"] == "bsa"
    assert found.attrs["slots"] == 256
    assert found.parameters == sum(p.numel() for p in model.parameters())
    json.dumps({name: variable.item() for name, variable in found.items()})
    assert xr.concat([found, found], "num_points").sizes["num_points"] == 2


def test_cost_measures(small_cost):
    found = small_cost[2]
    # Not which time is longer: on a machine that runs other tests meanwhile any one of them can be.
    assert all(0 < found[name] < 60_000 for name in ("tree_ms", "forward_ms", "training_ms"))
    assert 0 < found.forward_mib < found.training_mib


def test_the_model_is_left_as_it_was(small_cost):
    model, before, _ = small_cost
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_memory_can_be_left_out():
    assert "forward_mib" not in cost(build("erwin", "tiny"), 200, device="cpu", repeats=1, memory=False, parts=False)
    found = cost(build("full", "tiny", depth=1), 32, device="cpu", repeats=1, memory=False, parts=False)
    assert set(found.data_vars) == {
        "gflops", "forward_ms", "training_ms", "tree_ms", "parameters"}  # fmt: skip


def test_growth_is_what_a_call_holds_at_its_height():
    held = []

    def call():
        held.append(torch.ones(96 * MIB // 4))
        torch.ones(160 * MIB // 4)

    # Some MiB of this process's own memory come and go meanwhile, with what earlier tests have left in it.
    assert growth(call) == pytest.approx(256, abs=24)


def test_memory_that_cannot_be_measured_is_said(monkeypatch):
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with pytest.raises(BsavizError) as error:
        cpu_peaks(build("bsa", "tiny", depth=1), 64, 1)
    assert "the process that measures peak memory failed: exit status 1" in str(error.value)
    assert "use fewer points, or memory=False" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": torch.nn.Linear(2, 2)}, "cost needs a model of bsaviz.models, got Linear"),
        ({"num_points": 0}, "num_points must be a whole number of at least 1, got 0"),
        ({"num_points": 10.0}, "num_points must be a whole number of at least 1, got 10.0"),
        ({"batch": 0}, "batch must be a whole number of at least 1, got 0"),
        ({"repeats": 0}, "repeats must be a whole number of at least 1, got 0"),
        ({"device": "tpuu"}, "device 'tpuu' is not known to torch"),
    ],
)
def test_bad_input_is_said(arguments, message):
    model = build("full", "tiny", depth=1)
    with pytest.raises(BsavizError) as error:
        cost(**{"model": model, "num_points": 32, **arguments})
    assert message in str(error.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cost_on_a_gpu():
    found = cost(build("bsa", "tiny"), 2048, device="cuda")
    assert 0 < found.forward_ms < found.training_ms
    assert 0 < found.forward_mib < found.training_mib
