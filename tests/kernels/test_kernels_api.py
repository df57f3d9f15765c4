"""Bad arguments of the operators: each error says what was expected, what came and what to do."""

import sys
import types
import warnings

import pytest
import torch

import bsa_kernels
from bsa_kernels import backends, eager

N, SIZES = 64, dict(ball_size=32, block_size=8, group_size=8, top_k=2)
Q = torch.zeros(2, 3, N, 4)
GATE = torch.zeros(2, 3, N, 3)
POSITIONS, SLOPE = torch.zeros(2, N, 3), torch.zeros(3)


def _call(q=Q, k=Q, v=Q, gate=GATE, **options):
    return bsa_kernels.ball_sparse_attention(q, k, v, gate, **{**SIZES, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(q=Q[0]), r"q must be \(B, H, N, d\), got \(3, 64, 4\)"),
        (dict(q=Q.long()), "q must be floating point, got torch.int64; convert"),
        (dict(k=Q.double()), "k is torch.float64 but q is torch.float32; convert"),
        (dict(k=Q[:, :2], v=Q[:, :2]), "agree in batch, heads and head dimension"),
        (dict(v=Q[..., :3]), "k and v must have one shape"),
        (dict(k=Q[:, :, :32], v=Q[:, :, :32]), "q has 64 points but k has 32"),
        (dict(k=Q.to("meta")), "k is on meta but q is on cpu; move"),
        (dict(gate=GATE[..., :2]), r"gate must be \(2, 3, 64, 3\).*got \(2, 3, 64, 2\)"),
        (dict(gate=GATE.transpose(1, 2)), r"gate must be \(2, 3, 64, 3\)"),
        (dict(gate=GATE.double()), "gate is torch.float64 but q is torch.float32"),
        (dict(ball_size=20), "ball_size must be a multiple of block_size, got 20 and 8"),
        (dict(group_size=5), "ball_size must be a multiple of group_size, got 32 and 5"),
        (dict(ball_size=24), "number of points must be a multiple of ball_size, got 64 points and ball_size=24; pad"),
        (dict(top_k=9), "top_k=9 blocks were asked for, but there are only 8; lower top_k"),
        (dict(top_k=0), "top_k must be a positive integer, got 0"),
        (dict(block_size=8.0), "block_size must be a positive integer, got 8.0"),
        (dict(positions=POSITIONS), "positions was given without distance_slope"),
        (dict(distance_slope=SLOPE), "distance_slope was given without positions"),
        (dict(positions=POSITIONS[0], distance_slope=SLOPE), r"positions must be \(B, N, D\) = \(2, 64, D\)"),
        (dict(positions=POSITIONS.long(), distance_slope=SLOPE), "positions must be floating point"),
        (dict(positions=POSITIONS, distance_slope=SLOPE[:2]), r"distance_slope must be \(3,\): one number per head"),
        (dict(point_mask=torch.ones(2, N)), "point_mask must be bool"),
        (dict(point_mask=torch.ones(2, 8, dtype=torch.bool)), r"point_mask must be \(2, 64\), got \(2, 8\)"),
        (dict(k_coarse=Q), r"k_coarse must be \(2, 3, 8, 4\): one vector per block and head"),
        (dict(v_coarse=Q[:, :, :8].double()), "v_coarse is torch.float64 but q is torch.float32"),
        (dict(group_compression=True, group_selection=False), "group_compression=True needs group_selection=True"),
        (dict(coarse_scores=True, group_selection=False), "coarse_scores=True needs group_selection=True"),
        (dict(coarse_scores=True, group_size=16), "coarse_scores=True needs group_size == block_size, got 16 and 8"),
        (dict(backend="cuda"), "backend must be one of 'auto', 'triton', 'torch', got 'cuda'"),
    ],
    ids=lambda x: x if isinstance(x, str) else "-".join(x),
)
def test_bad_arguments_of_the_whole(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        _call(**options)


def test_not_a_tensor():
    with pytest.raises(TypeError, match="q must be a tensor .* got list"):
        _call(q=[1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bsa_kernels.ball_attention(Q, Q, Q, ball_size=48), "64 points and ball_size=48"),
        (lambda: bsa_kernels.compressed_attention(Q, Q[:1], Q[:1]), "q and k_coarse must agree"),
        (lambda: bsa_kernels.compressed_attention(Q, Q, Q, repeat=0), "repeat must be a positive integer, got 0"),
        (
            lambda: bsa_kernels.compressed_attention(Q, Q, Q, torch.ones(2, 3, dtype=torch.bool)),
            r"block_mask must be \(2, 64\), got \(2, 3\)",
        ),
        (
            lambda: bsa_kernels.select_blocks(Q, Q[:, :, :8], ball_size=32, block_size=8, group_size=8, top_k=2),
            "64 groups of 8 and 8 blocks of 8 are not the same points",
        ),
        (
            lambda: bsa_kernels.select_blocks(
                Q[:, :, :8], Q[:, :, :8], ball_size=32, block_size=8, group_size=8, top_k=9
            ),
            "top_k=9 blocks were asked for, but there are only 8",
        ),
        (
            lambda: bsa_kernels.selected_attention(Q, Q, Q, torch.zeros(2, 3, 8, 2), block_size=8, group_size=8),
            "indices must be int64, got torch.float32",
        ),
        (
            lambda: bsa_kernels.selected_attention(
                Q, Q, Q, torch.zeros(2, 3, 4, 2, dtype=torch.int64), block_size=8, group_size=8
            ),
            r"indices must be \(B, H, G, k\) = \(2, 3, 8, k\), got \(2, 3, 4, 2\)",
        ),
    ],
)
def test_bad_arguments_of_single_operators(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def test_repeat_gives_each_result_to_its_block():
    q = torch.randn(1, 1, 4, 2)
    once = bsa_kernels.compressed_attention(q, q, q)
    out, lse = bsa_kernels.compressed_attention(q, q, q, repeat=3, return_lse=True)
    assert torch.equal(out[:, :, 3:6], once[:, :, 1:2].expand(-1, -1, 3, -1))
    assert lse.shape == (1, 1, 12)


@pytest.fixture
def triton_backend(monkeypatch):
    """A stand-in for the Triton backend that runs nothing but says so."""
    module = types.ModuleType("bsa_kernels.triton")
    for name in ("ball_attention", "compressed_attention", "select_blocks", "selected_attention"):
        setattr(module, name, getattr(eager, name))
    module.unsupported = lambda operator, q, **config: "q is float64" if q.dtype == torch.float64 else None
    module.ball_sparse_attention = lambda q, *arguments, **options: q * 2
    monkeypatch.setitem(sys.modules, "bsa_kernels.triton", module)
    monkeypatch.setattr(bsa_kernels, "triton", module, raising=False)
    backends._import_error.cache_clear()
    yield module
    backends._import_error.cache_clear()


def test_a_backend_that_offers_the_whole_is_given_the_whole(triton_backend):
    assert torch.equal(_call(q=Q + 1, backend="triton"), (Q + 1) * 2)
    out, _ = _call(q=Q + 1, backend="triton", return_aux=True)  # the branches are wanted: one operator after the other
    assert not torch.equal(out, (Q + 1) * 2)
    compiled = torch.compile(lambda q: _call(q=q, backend="triton"), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(Q + 1), (Q + 1) * 2)


def test_an_explicit_backend_never_falls_back(triton_backend):
    x = Q.double()
    with pytest.raises(ValueError, match="backend='triton' cannot run ball_attention here: q is float64; use backend="):
        _call(q=x, k=x, v=x, gate=GATE.double(), backend="triton")


def test_auto_says_once_where_triton_cannot_run(triton_backend):
    backends._say_once.cache_clear()
    on_gpu = types.SimpleNamespace(is_cuda=True, dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match="ball_attention runs in plain PyTorch on this GPU: q is float64"):
        assert backends.choose("auto", "ball_attention", on_gpu) is eager
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose("auto", "ball_attention", on_gpu) is eager
    supported = types.SimpleNamespace(is_cuda=True, dtype=torch.float32)
    assert backends.choose("auto", "ball_attention", supported) is triton_backend


def test_missing_triton_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "bsa_kernels.triton", None)
    backends._import_error.cache_clear()
    with pytest.raises(ValueError, match="the Triton backend cannot be imported.*use backend='torch'"):
        bsa_kernels.ball_attention(Q, Q, Q, ball_size=32, backend="triton")
    backends._import_error.cache_clear()
