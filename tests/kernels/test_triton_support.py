"""What the kernels refuse, and that the refusal says what to do."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from bsa_kernels import triton as kernels

MESSAGES = [
    (dict(dtype=torch.float64), {}, "bfloat16, float16 and float32, not torch.float64"),
    (dict(d=3), {}, "head dimensions 4 to 128, not 3"),
    (dict(d=136), {}, "head dimensions 4 to 128, not 136"),
    (dict(), dict(ball_size=96), "ball_size a power of two from 32 to 1024, not 96"),
    (dict(), dict(ball_size=2048), "ball_size a power of two from 32 to 1024, not 2048"),
    (dict(), dict(block_size=2), "block_size a power of two from 4 to 64, not 2"),
    (dict(), dict(group_size=128), "group_size a power of two from 4 to 64, not 128"),
    (dict(), dict(top_k=33), "top_k from 1 to 32, not 33"),
    (dict(), dict(spatial_dims=4), "positions in 2 or 3 dimensions, not 4"),
    (dict(n=2**25, d=128), {}, "below 2**31"),
    (dict(n=2**24, d=8), dict(group_size=8, top_k=32, group_selection=False), "slots B * H * G * k below 2**31"),
]


def tensor(n=2048, d=32, dtype=torch.bfloat16, device="meta"):
    return torch.empty(1, 8, n, d, dtype=dtype, device=device)


@pytest.mark.parametrize(("shape", "sizes", "words"), MESSAGES)
def test_refusals_name_the_limit(shape, sizes, words):
    assert words in kernels.unsupported("ball_sparse_attention", tensor(**shape), **sizes)


def test_default_configuration_is_supported():
    sizes = dict(ball_size=256, block_size=8, group_size=8, top_k=4, spatial_dims=3)
    assert kernels.unsupported("ball_sparse_attention", tensor(), **sizes) is None
    single = dict(group_size=1, group_selection=False)
    assert kernels.unsupported("ball_sparse_attention", tensor(), **sizes | single) is None


def test_cpu_is_refused_outside_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "q is on cpu" in kernels.unsupported("ball_attention", tensor(n=256, device="cpu"), ball_size=256)


def test_explicit_request_names_the_torch_backend(monkeypatch):
    import bsa_kernels

    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    q = torch.randn(1, 1, 64, 8)
    with pytest.raises(ValueError, match="use backend='torch'"):
        bsa_kernels.ball_attention(q, q, q, ball_size=32, backend="triton")
