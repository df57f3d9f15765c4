"""NSA, Erwin-NSA and selection without learning: against dense formulas, and the properties people rely on."""

import pytest
import torch
from attention_cases import DIM, HEADS, SIZES, N, cloud_with_padding, with_large_weights
from torch.nn import functional as F

from bsa_kernels import pool_mean
from bsaviz._checks import BsavizError
from bsaviz.attention import BallSparseAttention, ErwinNSAAttention, NativeSparseAttention, ProbePoint
from bsaviz.attention.selection import nearest_blocks, random_blocks
from bsaviz.attention.window import sliding_window

MODULES = {
    "nsa": lambda: NativeSparseAttention(DIM, HEADS, 4, 3, window=9),
    "nsa, mlp, groups": lambda: NativeSparseAttention(DIM, HEADS, 4, 3, window=8, group_size=8, pooling="mlp"),
    "erwin-nsa": lambda: ErwinNSAAttention(DIM, HEADS, 32, 8, 3),
    "random": lambda: BallSparseAttention(DIM, HEADS, **SIZES, selection="random", seed=1),
    "random, each query": lambda: BallSparseAttention(DIM, HEADS, **SIZES, selection="random", group_selection=False),
    "nearest": lambda: BallSparseAttention(DIM, HEADS, **SIZES, selection="nearest", group_compression=True),
}


@pytest.fixture
def cloud():
    return cloud_with_padding()


def make(name):
    return with_large_weights(MODULES[name])


def watched(module, *inputs):
    """Output, and what every probe point saw."""
    seen, hooks = {}, []
    for name, point in module.named_modules():
        if isinstance(point, ProbePoint):
            hooks.append(point.register_forward_hook(lambda m, a, value, name=name: seen.update({name: value})))
    out = module(*inputs)
    for hook in hooks:
        hook.remove()
    return out, seen


def dense(q, k, v, allowed, bias=0.0):
    """softmax(q k^T / sqrt(d) + bias) v over the allowed; zero where nothing is."""
    scores = (q @ k.mT / q.shape[-1] ** 0.5 + bias).masked_fill(~allowed, -torch.inf)
    return scores.softmax(-1).nan_to_num(0) @ v


def read_blocks(indices, group_size, block_size, mask):
    """(B, H, N, N): the slots of the chosen blocks, for each query of a group."""
    slots = torch.arange(N)
    chosen = (indices[..., None] == slots // block_size).any(-2).repeat_interleave(group_size, 2)
    return chosen & mask[:, None, None] & mask[:, None, :, None]


@pytest.mark.parametrize("name", MODULES)
def test_padding_changes_nothing_for_the_points(name, cloud):
    x, positions, mask = cloud
    module = make(name)
    out = module(x, positions, mask)
    noise = torch.randn(x.shape).masked_fill(mask[..., None], 0) * 50
    moved = module(x + noise, positions + noise[..., :3], mask)
    torch.testing.assert_close(out[mask], moved[mask])


@pytest.mark.parametrize("name", MODULES)
def test_every_trained_parameter_gets_a_finite_gradient(name, cloud):
    module = make(name)
    module(*cloud).square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", MODULES)
def test_compiles_as_one_graph(name, cloud):
    module = make(name)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*cloud), module(*cloud))


@pytest.mark.parametrize("name", MODULES)
def test_gated_branches_add_up_and_probing_changes_nothing(name, cloud):
    module = make(name)
    out, seen = watched(module, *cloud)
    torch.testing.assert_close(out, module(*cloud))
    heads = sum(seen["gate"][..., i : i + 1] * seen[branch] for i, branch in enumerate(module.branches))
    torch.testing.assert_close(out, module.out_proj(heads.transpose(1, 2).flatten(2)))
    assert {"q", "k", "v", "k_coarse", "v_coarse", "gate", "indices", "out", *module.branches} <= seen.keys()


def test_nsa_is_its_formula(cloud):
    x, positions, mask = cloud
    module = make("nsa")
    _, seen = watched(module, x, positions, mask)
    q, k, v = seen["q"], seen["k"], seen["v"]
    slots, queries = torch.arange(N), mask[:, None, :, None]
    apart = slots - slots[:, None]
    near = (apart >= -4) & (apart <= 4)
    torch.testing.assert_close(seen["window"], dense(q, k, v, near & mask[:, None, None] & queries))
    block_real = mask.unflatten(1, (-1, 4)).any(-1)
    coarse = [pool_mean(t, mask, 4) for t in (k, v)]
    torch.testing.assert_close(seen["compression"], dense(q, *coarse, block_real[:, None, None] & queries))
    scores = (q @ coarse[0].mT).masked_fill(~block_real[:, None, None], -torch.inf)
    best = scores.topk(3).indices.masked_fill(~mask[:, None, :, None], -1)
    assert seen["indices"].equal(best)
    torch.testing.assert_close(seen["selection"], dense(q, k, v, read_blocks(best, 1, 4, mask)))


def test_erwin_nsa_is_its_formula(cloud):
    x, positions, mask = cloud
    module = make("erwin-nsa")
    _, seen = watched(module, x, positions, mask)
    q, k, v = seen["q"], seen["k"], seen["v"]
    ball = torch.arange(N) // 32
    inside = (ball == ball[:, None]) & mask[:, None, None] & mask[:, None, :, None]
    bias = module.distance_slope.view(1, -1, 1, 1) * (positions[:, None] - positions[:, :, None]).norm(dim=-1)[:, None]
    torch.testing.assert_close(seen["ball"], dense(q, k, v, inside, bias), atol=1e-5, rtol=1e-4)
    block_real = mask.unflatten(1, (-1, 8)).any(-1)
    coarse = [pool_mean(t, mask, 8) for t in (k, v)]
    torch.testing.assert_close(
        seen["compression"], dense(q, *coarse, block_real[:, None, None] & mask[:, None, :, None])
    )
    scores = (q @ coarse[0].mT).masked_fill(~block_real[:, None, None], -torch.inf)
    best = scores.topk(3).indices.masked_fill(~mask[:, None, :, None], -1)
    assert seen["indices"].equal(best)  # own ball among them
    torch.testing.assert_close(seen["selection"], dense(q, k, v, read_blocks(best, 1, 8, mask)))
    assert {"ball_size": 32, "block_size": 8, "group_size": 1}.items() <= module.trace_parameters().items()


@pytest.mark.parametrize("window", [1, 2, 5, 16, 33, 64])
@pytest.mark.parametrize("n", [1, 7, 40])
def test_window_is_its_formula_in_value_and_gradient(n, window):
    generator = torch.Generator().manual_seed(n)
    inputs = [torch.randn(2, 3, n, 4, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(3)]
    mask = torch.rand(2, n, generator=generator) > 0.3
    apart = torch.arange(n) - torch.arange(n)[:, None] + window // 2
    allowed = (apart >= 0) & (apart < window) & mask[:, None, None] & mask[:, None, :, None]
    q, k, v = inputs
    scores = (q @ k.mT / 2).masked_fill(~allowed, -1e30)
    exact = (scores.softmax(-1) * allowed) @ v
    ours = sliding_window(q, k, v, mask, window=window)
    torch.testing.assert_close(ours, exact)
    cotangent = torch.randn(exact.shape, dtype=torch.float64, generator=generator)
    for a, b in zip(torch.autograd.grad(ours, inputs, cotangent), torch.autograd.grad(exact, inputs, cotangent)):
        torch.testing.assert_close(a, b)


def test_a_window_that_reaches_everywhere_is_full_attention():
    q, k, v = torch.randn(3, 2, 3, 20, 8)
    torch.testing.assert_close(sliding_window(q, k, v, window=40), F.scaled_dot_product_attention(q, k, v))


def test_window_memory_does_not_grow_with_the_square_of_the_points():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and result._base is None:
                largest = max(largest, result.numel())
            return result

    q = torch.randn(1, 1, 4096, 4)
    with Watch():
        sliding_window(q, q, q, window=32)
    assert 0 < largest <= 4096 * 3 * 32


def test_selecting_every_block_is_full_attention(cloud):
    x, positions, _ = cloud
    for module in (NativeSparseAttention(DIM, HEADS, 8, 8, window=4), ErwinNSAAttention(DIM, HEADS, 32, 8, 8)):
        _, seen = watched(module, x, positions)
        full = F.scaled_dot_product_attention(seen["q"], seen["k"], seen["v"])
        torch.testing.assert_close(seen["selection"], full)


@pytest.mark.parametrize("name", MODULES)
def test_a_sample_in_a_batch_is_the_sample_alone(name, cloud):
    x, positions, mask = cloud
    module = make(name)
    together = module(x, positions, mask)
    alone = module(x[1:, :48], positions[1:, :48], mask[1:, :48]) if name != "erwin-nsa" else None
    for sample in range(2):
        one = slice(sample, sample + 1)
        torch.testing.assert_close(module(x[one], positions[one], mask[one])[0], together[sample])
    if alone is not None:  # also without the empty balls at the end of its row
        torch.testing.assert_close(together[1:, :48][mask[1:, :48]], alone[mask[1:, :48]])


def draw(n=N, batch=1, heads=HEADS, mask=None, **options):
    options = dict(SIZES) | options
    return random_blocks(torch.zeros(batch, heads, n, 1), mask, **options)


def test_random_blocks_are_admissible_different_and_the_same_in_every_call():
    indices = draw(top_k=5)
    assert indices.equal(draw(top_k=5))
    assert not indices.equal(draw(top_k=5, seed=1))
    assert not indices[:, 0].equal(indices[:, 1])
    assert indices.min() >= 0
    assert indices.max() < 16
    ordered = indices.sort(-1).values
    assert (ordered[..., 1:] > ordered[..., :-1]).all()
    own_ball = (torch.arange(16) // 4)[:, None]
    assert (indices // 4 != own_ball).all()
    assert draw(top_k=5, mask_own_ball=False).floor_divide(4).eq(own_ball).any()


def test_random_blocks_are_drawn_evenly():
    indices = random_blocks(
        torch.zeros(1, 8, 4096, 1), ball_size=256, block_size=256, group_size=1, top_k=3, mask_own_ball=True
    )
    counts = torch.bincount(indices.flatten(), minlength=16).double()
    assert (counts / counts.mean() - 1).abs().max() < 0.03
    first = torch.bincount(indices[..., 0].flatten(), minlength=16).double()
    assert (first / first.mean() - 1).abs().max() < 0.05


def test_random_blocks_pass_over_padding_and_run_out():
    mask = torch.ones(1, N, dtype=torch.bool)
    mask[0, 8:12] = False  # a hollow block, whose group chooses nothing
    mask[0, 32:] = False
    indices = draw(mask=mask, top_k=6)
    assert (indices[0, :, 2] == -1).all()
    assert (indices[0, :, 8:] == -1).all()
    chosen = indices[0, :, :2]
    assert (chosen[..., :4].sort(-1).values == torch.tensor([4, 5, 6, 7])).all()  # all that are admissible
    assert (chosen[..., 4:] == -1).all()
    assert (indices[0, :, 4:8, :3].sort(-1).values == torch.tensor([0, 1, 3])).all()


def test_nearest_blocks_are_the_nearest():
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(2, N, 3, generator=generator) + 100
    mask = torch.rand(2, N, generator=generator) > 0.2
    q = torch.zeros(2, HEADS, N, 1)
    indices = nearest_blocks(q, positions, mask, **SIZES)
    centres = pool_mean(positions.double()[:, None], mask, 4)[:, 0]
    distance = torch.cdist(centres, centres)
    ball = torch.arange(16) // 4
    real = mask.unflatten(1, (-1, 4)).any(-1)
    distance = distance.masked_fill((ball == ball[:, None]) | ~real[:, None], torch.inf)
    expected = distance.topk(2, largest=False).indices.masked_fill(~real[..., None], -1)
    assert indices.equal(expected[:, None].expand(-1, HEADS, -1, -1))


def test_nearest_blocks_are_as_exact_under_autocast():
    positions = torch.rand(1, N, 3, generator=torch.Generator().manual_seed(0))
    q = torch.zeros(1, HEADS, N, 1)
    with torch.autocast("cpu", torch.bfloat16):
        half = nearest_blocks(q, positions, **SIZES)
    assert half.equal(nearest_blocks(q, positions, **SIZES))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (lambda: NativeSparseAttention(24, 3, window=0), "window must be a positive integer of slots, got 0"),
        (lambda: NativeSparseAttention(24, 3, 0), "block_size must be a positive integer, got 0"),
        (lambda: NativeSparseAttention(24, 3, pooling="max"), "pooling must be 'mean' or 'mlp', got 'max'"),
        (lambda: NativeSparseAttention(24, 5), "dim must be a multiple of num_heads"),
        (lambda: NativeSparseAttention(24, 3, 8)(torch.zeros(1, 60, 24)), "must be a multiple of block_size=8 .* 60"),
        (lambda: NativeSparseAttention(24, 3, 8, 9)(torch.zeros(1, 64, 24)), "top_k=9 blocks .* only 8 blocks"),
        (lambda: ErwinNSAAttention(24, 3, 48, 32), "ball_size must be a multiple of block_size, got 48 and 32"),
        (lambda: BallSparseAttention(24, 3, selection="best"), "selection must be one of 'scores', .* got 'best'"),
        (lambda: BallSparseAttention(24, 3, selection="random", seed=-1), "seed must be an integer of at least 0"),
        (lambda: BallSparseAttention(24, 3, selection="random", coarse_scores=True), "coarse_scores is a way to score"),
    ],
)
def test_errors_say_what_to_do(make_it, message):
    with pytest.raises(BsavizError, match=message):
        make_it()
