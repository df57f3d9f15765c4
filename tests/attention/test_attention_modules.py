"""The attention modules: what they compute, what padding may not do, what they show, and what they refuse."""

import pytest
import torch
from attention_cases import DIM, HEADS, SIZES, N, cloud_with_padding, with_large_weights

from bsaviz._checks import BsavizError
from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention, ProbePoint, bsa
from bsaviz.attention.bsa import BRANCHES
from bsaviz.attention.gating import StaticGate, TokenGate
from bsaviz.attention.pooling import BlockMLP
from bsaviz.attention.position import relative_to_ball

MODULES = {
    "full": lambda: FullAttention(DIM, HEADS),
    "ball": lambda: BallAttention(DIM, HEADS, 16),
    "bsa": lambda: BallSparseAttention(DIM, HEADS, **SIZES),
    "bsa, mlp, static gate": lambda: BallSparseAttention(DIM, HEADS, **SIZES, pooling="mlp", gate="static"),
    "bsa, group compression": lambda: BallSparseAttention(
        DIM, HEADS, **SIZES, pooling="mlp", group_compression=True, coarse_scores=True
    ),
    "bsa, no group selection": lambda: BallSparseAttention(DIM, HEADS, **SIZES, group_selection=False),
}


@pytest.fixture
def cloud():
    return cloud_with_padding()


def make(name):
    return with_large_weights(MODULES[name])


@pytest.mark.parametrize("name", MODULES)
def test_padding_changes_nothing_for_the_points(name, cloud):
    x, positions, mask = cloud
    module = make(name)
    out = module(x, positions, mask)
    noise = torch.randn(x.shape).masked_fill(mask[..., None], 0) * 50
    moved = module(x + noise, positions + noise[..., :3], mask)
    assert out.shape == x.shape
    torch.testing.assert_close(out[mask], moved[mask])


@pytest.mark.parametrize("name", MODULES)
def test_every_trained_parameter_gets_a_gradient(name, cloud):
    x, positions, mask = cloud
    module = make(name)
    module(x, positions, mask).square().sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", MODULES)
def test_compiles_as_one_graph(name, cloud):
    module = make(name)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*cloud), module(*cloud))


@pytest.mark.parametrize("name", MODULES)
def test_probe_points_show_without_changing(name, cloud):
    module = make(name)
    plain = module(*cloud)
    seen, hooks = {}, []
    points = {n: m for n, m in module.named_modules() if isinstance(m, ProbePoint)}
    for point, probe in points.items():
        hooks.append(probe.register_forward_hook(lambda m, a, value, point=point: seen.update({point: value})))
    torch.testing.assert_close(module(*cloud), plain)
    assert set(seen) == set(points)
    for hook in hooks:
        hook.remove()
    expected = {"q", "k", "v", "out"}
    if name != "full":
        expected |= {"ball", "ball_lse"}
    if name.startswith("bsa"):
        expected |= {"gate", "k_coarse", "v_coarse", *BRANCHES}
    if "compression" in name:
        expected |= {"q_coarse"}
    assert set(points) == expected
    torch.testing.assert_close(seen["out"], plain)
    d = DIM // HEADS
    shapes = {"q": (2, HEADS, N, d), "ball": (2, HEADS, N, d), "ball_lse": (2, HEADS, N), "gate": (2, HEADS, N, 3),
              "k_coarse": (2, HEADS, N // 4, d), "q_coarse": (2, HEADS, N // 4, d), "out": (2, N, DIM)}  # fmt: skip
    for point in shapes.keys() & seen.keys():
        assert seen[point].shape == shapes[point]


def test_gated_branches_add_up_to_the_output(cloud):
    module = make("bsa")
    seen = {}
    for point in ("gate", "ball", "compression", "selection"):
        getattr(module, point).register_forward_hook(lambda m, a, value, point=point: seen.update({point: value}))
    out = module(*cloud)
    heads = sum(seen["gate"][..., i : i + 1] * seen[n] for i, n in enumerate(("ball", "compression", "selection")))
    torch.testing.assert_close(out, module.out_proj(heads.transpose(1, 2).flatten(2)))


def test_branches_are_only_made_while_observed(cloud, monkeypatch):
    asked = []
    whole = bsa.ball_sparse_attention
    monkeypatch.setattr(
        bsa, "ball_sparse_attention", lambda *a, **k: asked.append(k.get("return_aux", False)) or whole(*a, **k)
    )
    module = make("bsa")
    module(*cloud)
    hook = module.indices.register_forward_hook(lambda *arguments: None)
    module(*cloud)
    hook.remove()
    module(*cloud)
    assert asked == [False, True, False]


def test_full_attention_is_dense_attention(cloud):
    x, positions, _ = cloud
    module = make("full")
    q, k, v = module.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
    expected = (q @ k.mT / (DIM // HEADS) ** 0.5).softmax(-1) @ v
    torch.testing.assert_close(module(x, positions), module.out_proj(expected.transpose(1, 2).flatten(2)))


def test_ball_attention_does_not_leave_the_ball(cloud):
    x, positions, _ = cloud
    module = make("ball")
    out = module(x, positions)
    moved = x.clone()
    moved[:, 16:32] += 1
    out_moved = module(moved, positions)
    changed = (out != out_moved).any(-1).any(0)
    assert changed[16:32].all()
    assert not changed[:16].any()
    assert not changed[32:].any()


def test_distance_matters_by_the_slope(cloud):
    x, positions, _ = cloud
    module = make("ball")
    near = module(x, positions)
    assert not torch.allclose(near, module(x, positions * 3))
    torch.testing.assert_close(near, module(x, positions + 5), atol=1e-5, rtol=1e-4)


def test_relative_positions_by_hand():
    positions = torch.tensor([[[0.0, 0], [2, 0], [1, 1], [9, 9]]])
    assert relative_to_ball(positions, None, 2).tolist() == [[[-1, 0], [1, 0], [-4, -4], [4, 4]]]
    mask = torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[[-1, -1 / 3], [1, -1 / 3], [0, 2 / 3], [0, 0]]])
    torch.testing.assert_close(relative_to_ball(positions, mask, 4), expected)


def test_token_gate_rows_are_branches_of_a_head():
    gate = TokenGate(4, 2)
    with torch.no_grad():
        gate.proj.bias.copy_(torch.tensor([1.0, 2, 3, 4, 5, 6]))
        gate.proj.weight.zero_()
    weights = gate(torch.zeros(1, 5, 4))
    assert weights.shape == (1, 2, 5, 3)
    torch.testing.assert_close(weights[0, :, 0], torch.tensor([[1.0, 2, 3], [4, 5, 6]]).sigmoid())


def test_static_gate_leaves_the_ball_at_one():
    gate = StaticGate(2)
    with torch.no_grad():
        gate.weight.copy_(torch.tensor([[0.0, 1.0], [-1.0, 2.0]]))
    weights = gate(torch.zeros(3, 5, 4))
    assert weights.shape == (3, 2, 5, 3)
    expected = torch.tensor([[1, 0.5, 0.7310586], [1, 0.2689414, 0.8807971]])
    torch.testing.assert_close(weights[2, :, 4], expected)


def test_block_perceptron_reads_a_block_in_order():
    mlp = BlockMLP(2, 3)
    with torch.no_grad():
        mlp[0].weight.copy_(torch.eye(6).repeat(2, 1))
        mlp[2].weight.copy_(torch.arange(36.0).view(3, 12))
        mlp[0].bias.zero_()
    x = torch.arange(12.0).view(1, 1, 4, 3)
    mask = torch.tensor([[True, True, True, False]])
    second = torch.tensor([6.0, 7, 8, 0, 0, 0]).repeat(2)
    torch.testing.assert_close(mlp(x, mask)[0, 0, 1], mlp[2].weight @ second)


def test_start_is_the_published_one():
    torch.manual_seed(0)
    module = BallSparseAttention(64, 4, pooling="mlp", coarse_scores=True)
    assert module.qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not module.qkv.bias.any()
    assert (module.distance_slope + 1).abs().max() < 0.1
    perceptrons = list(module.pooling.values())
    assert len(perceptrons) == 3
    for other in perceptrons[1:]:
        assert torch.equal(other[0].weight, perceptrons[0][0].weight)
        assert other[0].weight is not perceptrons[0][0].weight


def test_slope_is_trained_unless_asked_not_to():
    assert BallAttention(8, 2).distance_slope.requires_grad
    assert not BallAttention(8, 2, train_slope=False).distance_slope.requires_grad


@pytest.mark.parametrize("name", ["ball", "bsa"])
def test_positions_in_the_plane(name, cloud):
    x, positions, mask = cloud
    kind, sizes = (BallAttention, dict(ball_size=16)) if name == "ball" else (BallSparseAttention, SIZES)
    module = kind(DIM, HEADS, **sizes, spatial_dims=2)
    assert torch.isfinite(module(x, positions[..., :2], mask)[mask]).all()
    with pytest.raises(BsavizError, match="positions must have 2 coordinates, got 3"):
        module(x, positions, mask)


def test_full_attention_counts_masked_keys_out(cloud):
    x, positions, mask = cloud
    module = make("full")
    alone = module(x[:1, mask[0]], None)
    torch.testing.assert_close(module(x, positions, mask)[0, mask[0]], alone[0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FullAttention(10, 3), "dim must be a multiple of num_heads, got dim=10 and num_heads=3"),
        (lambda: BallSparseAttention(8, 2, pooling="max"), "pooling must be 'mean' or 'mlp', got 'max'"),
        (lambda: BallSparseAttention(8, 2, gate="soft"), "gate must be 'token' or 'static', got 'soft'"),
        (lambda: BallSparseAttention(8, 2, 100, 8), "ball_size must be a multiple of block_size, got 100 and 8"),
        (lambda: BallSparseAttention(8, 2, 64, 8, 24), "ball_size must be a multiple of group_size, got 64 and 24"),
        (lambda: BallSparseAttention(8, 2, top_k=0), "top_k must be a positive integer, got 0"),
        (lambda: FullAttention(8, 2)(torch.zeros(1, 4, 6)), r"x must be \(B, N, 8\) in leaf order, got \(1, 4, 6\)"),
        (
            lambda: BallAttention(8, 2, 4)(torch.zeros(1, 4, 8), torch.zeros(1, 5, 3)),
            r"positions must be \(B, N, D\) = \(1, 4, D\), got \(1, 5, 3\)",
        ),
        (
            lambda: BallAttention(8, 2, 4)(torch.zeros(1, 6, 8), torch.zeros(1, 6, 3)),
            "multiple of ball_size, got 6 slots and ball_size=4; order and pad",
        ),
        (
            lambda: FullAttention(8, 2)(torch.zeros(1, 4, 8), None, torch.ones(4, dtype=torch.bool)),
            r"mask must be \(B, N\) = \(1, 4\), got \(4,\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(BsavizError, match=message):
        call()
