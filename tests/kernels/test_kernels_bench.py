"""What the benchmark times must be right, and it says so when it is not."""

import json

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from bsa_kernels import bench, bench_launches, bench_peers, bench_text, reference
from bsa_kernels.triton import check

SIZES = dict(ball_size=256, block_size=8, group_size=8, top_k=4)


def arguments(n=512, heads=2, head_dim=16, dtype=torch.float64):
    made, dout = check.inputs(n, heads, head_dim, dtype, device="cpu")
    return [x.requires_grad_() if x is not None and i not in (4, 6) else x for i, x in enumerate(made[:6])], dout


@pytest.mark.parametrize("group_compression", [False, True])
def test_plain_pytorch_is_the_reference(group_compression):
    inputs, dout = arguments()
    theirs, _ = reference.ball_sparse_attention(*inputs, group_compression=group_compression, **SIZES)
    ours = bench_peers.plain(*inputs, group_compression=group_compression)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    wanted = [x for x in inputs if x.requires_grad]
    for a, b in zip(torch.autograd.grad(ours, wanted, dout), torch.autograd.grad(theirs, wanted, dout)):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_the_reference():
    inputs, _ = arguments(dtype=torch.float32)
    inputs = [x.detach() for x in inputs]
    theirs, branches = reference.ball_sparse_attention(*inputs, **SIZES)
    ours = bench_peers.Flex(branches.indices)(*inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_wrong_peer_is_not_timed():
    inputs, _ = arguments(dtype=torch.float32)
    inputs = [x.detach() for x in inputs]
    right = lambda *x: reference.ball_sparse_attention(*x, **SIZES)[0]
    bench.hold_against("plain", right, right, inputs)
    with pytest.raises(SystemExit, match="plain: off by .* from the kernels: not timed"):
        bench.hold_against("plain", lambda *x: right(*x) * 1.5, right, inputs)


def test_earlier_rows_that_were_not_measured_again_are_kept(tmp_path):
    common = dict(heads=8, head_dim=32, dtype="bfloat16", cuda_graph=False, device="a GPU")
    path = tmp_path / "new" / "kernels.json"
    bench.write([dict(variant="bsa", n=n, forward_ms=1.0, **common) for n in (1024, 4096)], path)
    bench.write([dict(variant="bsa", n=4096, forward_ms=0.5, **common)], path)
    assert [(row["n"], row["forward_ms"]) for row in json.loads(path.read_text())] == [(1024, 1.0), (4096, 0.5)]


def test_the_floor_counts_exponentials_or_products():
    device = type("device", (), dict(multi_processor_count=100, clock_rate=1_000_000))
    few, many = (bench.floor_ms("bsa", 65536, 8, d, 1, device) for d in (32, 128))
    scores = 8 * (65536 * 288 + 65536 * 8192)
    assert few == pytest.approx(1e3 * scores / (16 * 100 * 1e9))  # exponentials bind
    assert many == pytest.approx(1e3 * scores * 128 * 2 / (2048 * 100 * 1e9))  # products do
    assert bench.floor_ms("bsa-group-compression", 65536, 8, 32, 1, device) < few / 5


def row(variant, n, **more):
    return dict(
        variant=variant, n=n, heads=8, head_dim=32, dtype="bfloat16", cuda_graph=False, device="a GPU",
        date="2026-01-02", forward_ms=1.25, forward_backward_ms=2.5, forward_ratio=4.0, forward_backward_ratio=None,
        peak_gib=0.5,
    ) | more  # fmt: skip


def test_rows_as_a_page(tmp_path):
    rows = [
        row("bsa", 4096, forward_floor_share=0.5, forward_backward_floor_share=0.25),
        row("bsa-flex", 4096, note="in tiles"),
        row("dense-cudnn", 1024, head_dim=8),
    ]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    bench_text.main(["--rows", str(path)])
    page = path.with_suffix(".md").read_text()
    assert "| 4096 | BSA, these kernels | no | 1.25 / 2.5 | 4 / - | 50% / 25% | 0.50 |" in page
    assert page.index("8 heads of 32") < page.index("8 heads of 8")
    assert "BSA, FlexAttention: in tiles." in page
    assert "| BSA, these kernels | 1.25 / 2.5 | - | - |" in page  # beside the other public kernels


def test_a_missing_file_of_rows_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench_text.main(["--rows", str(tmp_path / "none.json")])
    assert "make it with python -m bsa_kernels.bench" in capsys.readouterr().err


def test_every_launch_of_a_profile_is_named_in_order():
    launches = [("_ball", "ball"), ("_keys", "keys (coarse)"), ("_keys", "keys (balls)")]
    events = [("_ball", 5.0), ("sort", 3.0), ("_keys", 20.0), ("sum", 1.0), ("_keys", 2.0)]
    named = {"ball": 5.0, "keys (coarse)": 20.0, "keys (balls)": 2.0, "sorting and sums of PyTorch": 4.0}
    assert bench_launches.attribute(events, launches) == named
    with pytest.raises(RuntimeError, match="the profile lacks _keys"):
        bench_launches.attribute(events[:4], launches)
