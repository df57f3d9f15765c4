"""The torch backend against the reference, and the operators as torch sees them."""

import functools
from math import exp, log

import pytest
import torch
from kernels_cases import SIZES, VARIANTS, Case, ragged_mask
from torch.utils.flop_counter import FlopCounterMode

import bsa_kernels
from bsa_kernels import eager, ops, reference

ours = functools.partial(bsa_kernels.ball_sparse_attention, return_aux=True)


@pytest.fixture(autouse=True)
def _several_tiles(monkeypatch):
    """Tiles so small that every loop over tiles runs more than once, with a last one that is shorter."""
    monkeypatch.setattr(eager, "tile_bytes", lambda device: 50_000)


@pytest.mark.parametrize("masked", [False, True], ids=["all real", "ragged"])
@pytest.mark.parametrize("coarse", [False, True], ids=["mean", "given coarse"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_backend_is_the_reference_in_float64(variant, coarse, masked):
    sizes = {**SIZES, **VARIANTS[variant]}
    sizes["top_k"] = min(sizes["top_k"], 96 // sizes["block_size"])
    case = Case(coarse=sizes["block_size"] if coarse else None)
    mask = ragged_mask() if masked else None
    (out, aux), gradients = case.gradients(ours, point_mask=mask, **sizes)
    (expected, expected_aux), expected_gradients = case.gradients(
        reference.ball_sparse_attention, point_mask=mask, **sizes
    )
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert torch.equal(aux.indices, expected_aux.indices)
    for name, value in aux._asdict().items():
        torch.testing.assert_close(value, getattr(expected_aux, name), rtol=0, atol=1e-12, msg=name)
    for gradient, wanted in zip(gradients, expected_gradients):
        assert (gradient is None) == (wanted is None)
        if gradient is not None:
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-11)
    if masked:
        hidden = ~mask[:, None].expand(out.shape[:3])
        assert not out[hidden].any()
        assert not aux.compression[hidden].any()
        assert torch.isinf(aux.ball_lse[hidden]).all()
        assert not gradients[0][hidden].any()
        assert not gradients[1][hidden].any()
        assert not gradients[2][hidden].any()


@pytest.mark.parametrize("shape", [(1, 1, 8, 1), (3, 1, 40, 3), (1, 5, 104, 17)], ids=str)
def test_odd_shapes(shape):
    batch, heads, n, d = shape
    case = Case(n, batch, heads, d)
    sizes = dict(ball_size=8, block_size=4, group_size=2, top_k=2)
    (out, _), gradients = case.gradients(ours, **sizes)
    (expected, _), expected_gradients = case.gradients(reference.ball_sparse_attention, **sizes)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    for gradient, wanted in zip(gradients, expected_gradients):
        torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-11)


def test_strided_inputs_and_plane_positions():
    case = Case(d=8)
    strided = [x.detach().transpose(1, 2).contiguous().transpose(1, 2) for x in (case.q, case.k, case.v)]
    plane = case.positions[..., :2]
    arguments = case.gate, plane, case.slope
    out, _ = ours(*strided, *arguments, **SIZES)
    expected, _ = reference.ball_sparse_attention(case.q, case.k, case.v, *arguments, **SIZES)
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)
    assert out.is_contiguous()


def test_gradcheck_of_the_whole():
    case = Case(n=16, batch=1, heads=2, d=3, coarse=4)
    mask = torch.ones(1, 16, dtype=torch.bool)
    mask[0, 5] = mask[0, 12:] = False
    sizes = dict(ball_size=8, block_size=4, group_size=4, top_k=1)

    def run(q, k, v, gate, slope, q_coarse, k_coarse, v_coarse):
        coarse = dict(q_coarse=q_coarse, k_coarse=k_coarse, v_coarse=v_coarse)
        options = dict(point_mask=mask, group_compression=True, coarse_scores=True, **sizes, **coarse)
        return bsa_kernels.ball_sparse_attention(q, k, v, gate, case.positions, slope, **options)

    leaves = (case.q, case.k, case.v, case.gate, case.slope, *case.coarse.values())
    assert torch.autograd.gradcheck(run, leaves)


def test_positions_are_constants():
    case = Case()
    positions = case.positions.requires_grad_()
    out = bsa_kernels.ball_sparse_attention(case.q, case.k, case.v, case.gate, positions, case.slope, **SIZES)
    out.sum().backward()
    assert positions.grad is None
    assert torch.isfinite(case.slope.grad).all()  # although some points coincide


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_accumulates_in_float32(dtype):
    # Keys of equal score: the mean of 1000 equal values must not drown in a half-precision sum.
    n = 1024
    q = torch.zeros(1, 1, n, 8, dtype=dtype)
    v = torch.full_like(q, 3.0)
    out, lse = bsa_kernels.ball_attention(q, q, v, ball_size=n, return_lse=True)
    assert out.dtype == dtype
    assert lse.dtype == torch.float32
    assert (out == 3).all()
    torch.testing.assert_close(lse, torch.full_like(lse, n).log())
    case, exact = Case(d=8, dtype=dtype), Case(d=8)
    (low, _), low_gradients = case.gradients(ours, **SIZES, mask_own_ball=False)
    (high, _), high_gradients = exact.gradients(ours, **SIZES, mask_own_ball=False)
    eps = torch.finfo(dtype).eps
    assert (low.double() - high).abs().max() < 8 * eps * high.abs().max()
    for x, y in zip(low_gradients, high_gradients):
        assert x.dtype == dtype
        assert (x.double() - y).abs().max() < 16 * eps * y.abs().max()


def test_extreme_scores_stay_finite():
    case = Case(dtype=torch.float32)
    with torch.no_grad():
        case.q.mul_(1e4)
        case.slope.fill_(-1e6)
    (out, aux), gradients = case.gradients(ours, point_mask=ragged_mask(), **SIZES)
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(x).all() for x in gradients)
    assert not torch.isnan(aux.ball_lse).any()


def test_near_points_keep_their_distance():
    # Far from the origin, |a|^2 + |b|^2 - 2ab would lose these distances altogether.
    positions = torch.tensor([[[1000.0, 0, 0], [1000.001, 0, 0]]])
    q = torch.zeros(1, 1, 2, 4)
    _, lse = bsa_kernels.ball_attention(q, q, q, positions, torch.tensor([-1000.0]), ball_size=2, return_lse=True)
    distance = (positions[0, 1, 0] - positions[0, 0, 0]).item()
    assert lse[0, 0, 0].item() == pytest.approx(log(1 + exp(-1000 * distance)))


def test_ties_go_to_the_lowest_block():
    blocks = 64
    keys = torch.ones(1, 1, blocks, 2)
    keys[..., 40, :] = 2.0
    chosen = bsa_kernels.select_blocks(
        torch.ones(1, 1, blocks, 2), keys, ball_size=8, block_size=4, group_size=4, top_k=4
    )  # fmt: skip
    assert chosen[0, 0, 10].tolist() == [40, 0, 1, 2]
    assert chosen[0, 0, 0].tolist() == [40, 2, 3, 4]
    assert chosen[0, 0, 41].tolist() == [0, 1, 2, 3]


def test_blocks_without_a_real_point_are_never_chosen():
    mask = torch.ones(1, 32, dtype=torch.bool)
    mask[:, :24] = False
    chosen = bsa_kernels.select_blocks(
        torch.randn(1, 2, 32, 4), torch.randn(1, 2, 32, 4), mask, ball_size=4, block_size=2, group_size=2, top_k=12
    )  # fmt: skip
    assert set(chosen.unique().tolist()) <= {-1, *range(24, 32)}
    assert (chosen[..., -1] == -1).all()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_are_counted_alike_on_every_device(device):
    case = Case(96, 2, 3, 4, torch.float32, device)
    rows, head = 2 * 3, 4
    ball, coarse, chosen, scores = 96 * 24, 96 * 12, 96 * 3 * 8, 12 * 12
    with FlopCounterMode(display=False) as forward:
        out = bsa_kernels.ball_sparse_attention(*case.arguments, **SIZES)
    assert forward.get_total_flops() == 2 * rows * head * (2 * (ball + coarse + chosen) + scores)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    assert backward.get_total_flops() == 2 * rows * head * 5 * (ball + coarse + chosen)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_dense_attention_is_counted_on_the_cpu_too(device):
    q = torch.empty(2, 3, 16, 4, device=device)
    with FlopCounterMode(display=False) as counter:
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert counter.get_total_flops() == 2 * 2 * 2 * 3 * 16 * 16 * 4


def test_meta_tensors_have_the_shapes_of_real_ones():
    real, meta = Case(dtype=torch.bfloat16, d=4), Case(dtype=torch.bfloat16, d=4, device="meta")
    (out, aux), gradients = real.gradients(ours, **SIZES)
    (meta_out, meta_aux), meta_gradients = meta.gradients(ours, **SIZES)
    for x, y in zip([out, *aux, *gradients], [meta_out, *meta_aux, *meta_gradients], strict=True):
        assert (x.shape, x.dtype) == (y.shape, y.dtype)


def _operator_calls():
    case, mask = Case(), ragged_mask()
    coarse = case.k.detach()[:, :, ::8].clone().requires_grad_()
    block_mask = mask.unflatten(1, (-1, 8)).any(-1)
    indices = torch.randint(-1, 12, (2, 3, 12, 3), generator=torch.Generator().manual_seed(0))
    qkv = case.q, case.k, case.v
    yield ops.ball_attention, (*qkv, case.positions, case.slope, mask, 24, "auto")
    yield ops.ball_attention, (*qkv, None, None, None, 24, "torch")
    yield ops.compressed_attention, (case.q, coarse, coarse.detach().clone(), block_mask, "auto")
    yield ops.select_blocks, (coarse.detach(), coarse.detach().clone(), block_mask, 24, 8, 8, 3, True, "auto")
    yield ops.selected_attention, (*qkv, indices, mask, 8, 8, "auto")


@pytest.mark.parametrize(("operator", "arguments"), list(_operator_calls()), ids=lambda x: getattr(x, "_name", ""))
def test_registration_passes_opcheck(operator, arguments):
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize(
    ("variant", "dynamic"), [("published", True), ("group compression", False), ("no group selection", False)]
)
def test_compiles_as_one_graph(variant, dynamic):
    sizes = {**SIZES, **VARIANTS[variant]}
    case = Case(dtype=torch.float32)
    compiled = torch.compile(functools.partial(ours, **sizes), fullgraph=True, backend="aot_eager", dynamic=dynamic)
    mask = ragged_mask()
    (out, aux), gradients = case.gradients(compiled, point_mask=mask)
    (expected, expected_aux), expected_gradients = case.gradients(ours, point_mask=mask, **sizes)
    torch.testing.assert_close(out, expected)
    assert torch.equal(aux.indices, expected_aux.indices)
    for gradient, wanted in zip(gradients, expected_gradients):
        torch.testing.assert_close(gradient, wanted)


def test_autocast_casts_queries_but_not_positions():
    case = Case(dtype=torch.float32, d=8)
    with torch.autocast("cpu", torch.bfloat16):
        (out, aux), gradients = case.gradients(ours, **SIZES)
    half = Case(dtype=torch.bfloat16, d=8)
    half.slope = case.slope
    (expected, expected_aux), expected_gradients = half.gradients(ours, **SIZES)
    assert out.dtype == torch.bfloat16
    assert aux.ball_lse.dtype == torch.float32
    assert torch.equal(out, expected)
    assert torch.equal(aux.ball_lse, expected_aux.ball_lse)
    for gradient, wanted in zip(gradients, expected_gradients):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, wanted.float())


def test_two_runs_give_the_same_bits():
    case = Case(dtype=torch.float32)
    (first, _), first_gradients = case.gradients(ours, **SIZES)
    (second, _), second_gradients = case.gradients(ours, **SIZES)
    assert torch.equal(first, second)
    assert all(torch.equal(x, y) for x, y in zip(first_gradients, second_gradients))


def test_memory_does_not_hold_a_score_matrix(monkeypatch):
    # 2048 queries on 8192 coarse keys are 64 MiB of scores; only tiles of them may exist.
    monkeypatch.undo()
    largest = 0
    original = torch.Tensor.softmax

    def watch(self, *args, **kwargs):
        nonlocal largest
        largest = max(largest, self.numel() * self.element_size())
        return original(self, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "softmax", watch)
    q, coarse = torch.zeros(1, 1, 2048, 8), torch.zeros(1, 1, 8192, 8)
    bsa_kernels.compressed_attention(q, coarse, coarse)
    assert 0 < largest <= eager.tile_bytes(q.device)
