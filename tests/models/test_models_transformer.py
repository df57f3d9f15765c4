"""The transformer: what may not depend on order, batch or unit, what it costs, and what it refuses."""

import json
from dataclasses import asdict

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bsaviz._checks import BsavizError
from bsaviz.models import Transformer, TransformerConfig, build
from bsaviz.trees import BallTree

NAMES = ["bsa", "bsa-group-compression", "bsa-no-group-selection", "full", "ball"]
SMALL = dict(dim=16, depth=3, num_heads=2, ball_size=32, fourier_features=8, residual_every=2)


def make(name="bsa", seed=0, **overrides):
    """A small model whose weights are large enough that every part matters."""
    torch.manual_seed(seed)
    model = build(name, "tiny", **{**SMALL, **overrides})
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2 and parameter.requires_grad:
                parameter.mul_(8)
    return model.double()


def cloud(points, seed=1, dims=3):
    return torch.randn(points, dims, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_order_of_the_points_does_not_matter(name):
    model, positions = make(name), cloud(150)
    shuffle = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    out = model(positions)
    assert out.shape == (150, 1)
    assert out.std() > 0
    torch.testing.assert_close(model(positions[shuffle]), out[shuffle])


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_its_samples(name):
    model = make(name)
    clouds = [cloud(n, n) for n in (150, 40, 97)]
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([150, 40, 97]))
    together = model(torch.cat(clouds), batch=batch)
    for i, positions in enumerate(clouds):
        torch.testing.assert_close(together[batch == i], model(positions))


def test_place_and_unit_do_not_matter_when_scaled_to_length():
    model, positions = make(), cloud(150)
    torch.testing.assert_close(model(positions * 1000 + 70), model(positions))
    raw = make(position_scaling="none")
    assert not torch.allclose(raw(positions * 2), raw(positions))


def test_longest_side_becomes_four():
    model = make()
    seen = []
    model.encoding.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    model(cloud(100) * torch.tensor([1.0, 5, 1]) + 3)
    low, high = seen[0].amin(1), seen[0].amax(1)
    torch.testing.assert_close((high - low)[0, 1].item(), 4.0)
    torch.testing.assert_close(low + high, torch.zeros(1, 3, dtype=torch.float64), atol=1e-6, rtol=0)


def test_odd_layers_read_the_rotated_tree():
    model = make()
    positions, seen = cloud(150), {}
    tree = model.tree(positions)
    for i in range(2):
        layer = model.layers[i]
        layer.input.register_forward_hook(lambda m, a, value, i=i: seen.update({f"in{i}": value}))
        layer.output.register_forward_hook(lambda m, a, value, i=i: seen.update({f"out{i}": value}))
    model(positions)
    rotated = seen["out0"].gather(1, tree.rotation[..., None].expand_as(seen["out0"]))
    torch.testing.assert_close(seen["in1"], rotated)
    still = make(rotation_angle=None)
    assert still.tree(positions).rotation is None
    assert not torch.allclose(still(positions), model(positions))


def test_extra_residual_spans_the_layers():
    model, positions = make(), cloud(64)
    seen = []
    model.embed.register_forward_hook(lambda m, a, value: seen.append(value))
    for layer in model.layers:
        layer.attn.register_forward_hook(lambda m, a, value: value * 0)
        layer.mlp.register_forward_hook(lambda m, a, value: value * 0)
    model.head = None
    # Layers that do nothing: doubled after two layers and again after the last.
    tree = model.tree(positions)
    torch.testing.assert_close(model(positions), tree.scatter(seen[0] * 4))


def test_point_features_are_read():
    model, positions = make(in_features=2), cloud(80)
    features = torch.randn(80, 2, dtype=torch.float64)
    out = model(positions, features)
    assert not torch.allclose(out, model(positions, features + 1))
    shuffle = torch.randperm(80)
    torch.testing.assert_close(model(positions[shuffle], features[shuffle]), out[shuffle])


def test_a_tree_made_before_gives_the_same():
    model, positions = make(), cloud(120)
    torch.testing.assert_close(model(positions, tree=model.tree(positions)), model(positions), rtol=0, atol=0)


def test_predict_is_in_physical_units():
    model, positions = make(), cloud(60)
    model.output_mean.fill_(-36.0)
    model.output_std.fill_(48.0)
    prediction = model.predict(positions)
    assert prediction.shape == (60,)
    assert not prediction.requires_grad
    torch.testing.assert_close(prediction, model(positions)[:, 0].detach() * 48 - 36)
    assert make(out_features=3).predict(positions).shape == (60, 3)


def test_without_a_head_it_gives_its_channels():
    assert make(out_features=0)(cloud(50)).shape == (50, 16)


@pytest.mark.parametrize("name", NAMES)
def test_degenerate_clouds_stay_finite(name):
    model = make(name)
    line = torch.linspace(0, 1, 70, dtype=torch.float64)[:, None] * torch.tensor([1.0, 0, 0])
    for positions in (cloud(1), torch.ones(70, 3, dtype=torch.float64), line, cloud(31)):
        positions = positions.requires_grad_(False)
        out = model(positions)
        assert torch.isfinite(out).all()
        out.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_clouds_in_the_plane():
    model = make(spatial_dims=2)
    assert model(cloud(90, dims=2)).shape == (90, 1)


@pytest.mark.parametrize("name", NAMES)
def test_every_trained_parameter_gets_a_gradient(name):
    model = make(name)
    model(cloud(200)).square().sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


def test_published_switch():
    model, positions = make(published=True), cloud(150)
    tree = model.tree(positions)
    assert tree.order.shape == (1, 256)
    assert not any(layer.attn.distance_slope.requires_grad for layer in model.layers)
    masks = []
    model.layers[0].attn.register_forward_pre_hook(lambda module, inputs: masks.append(inputs[2]))
    model(positions)
    make_ours = make()
    make_ours.layers[0].attn.register_forward_pre_hook(lambda module, inputs: masks.append(inputs[2]))
    make_ours(positions)
    assert masks[0] is None
    assert masks[1].sum() == 150
    assert make_ours.tree(positions).order.shape == (1, 160)


def test_full_attention_is_not_padded():
    model, positions = make("full"), cloud(70)
    assert model.tree(positions).order.shape == (1, 70)
    torch.testing.assert_close(model(positions, tree=make("bsa").tree(positions)), model(positions))


def test_configuration_survives_json():
    config = make("bsa-group-compression").config
    assert TransformerConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_weights_reload_exactly():
    model, positions = make(), cloud(60)
    model.output_mean.fill_(3.0)
    other = Transformer(model.config).double()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.predict(positions), model.predict(positions))


def test_seed_decides_the_start():
    first, second, other = make(seed=5), make(seed=5), make(seed=6)
    positions = cloud(64)
    assert torch.equal(first(positions), second(positions))
    assert not torch.allclose(first(positions), other(positions))


def _gflops(model, slots):
    rotation = torch.empty(1, slots, dtype=torch.int64, device="meta") if model.config.rotates else None
    with FlopCounterMode(display=False) as counter:
        model.forward_leaves(torch.empty(1, slots, 3, device="meta"), rotation=rotation)
    return counter.get_total_flops() / 1e9


def test_published_full_attention_costs_87_gflops():
    with torch.device("meta"):
        model = build("full", "published")
    assert _gflops(model, 4096) == pytest.approx(87.08, rel=0.01)


def test_published_bsa_costs_what_its_products_cost():
    with torch.device("meta"):
        model = build("bsa", "published")
    n, dim, layers = 4096, 64, 18
    keys = 256 + 512 + 32
    attention = 2 * 2 * n * keys * dim + 2 * 512 * 512 * dim
    linear = 2 * n * (4 * dim * dim + 3 * 4 * dim * dim + 3 * dim + 24 * dim)
    ends = 2 * n * (3 * 32 + dim * dim + dim * dim + dim)
    assert _gflops(model, n) == pytest.approx((layers * (attention + linear) + ends) / 1e9, rel=1e-6)


@pytest.mark.parametrize("name", ["bsa", "full"])
def test_flops_on_the_cpu_are_those_on_meta(name):
    model = make(name).float()
    with FlopCounterMode(display=False) as counter:
        model.forward_leaves(torch.randn(1, 64, 3), rotation=torch.arange(64)[None])
    assert counter.get_total_flops() / 1e9 == _gflops(model.to("meta"), 64)


def test_leaf_part_compiles_as_one_graph():
    model, positions = make(depth=2), cloud(100)
    tree = model.tree(positions)
    arguments = tree.positions, None, tree.mask, tree.rotation
    compiled = torch.compile(model.forward_leaves, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), model.forward_leaves(*arguments))


def test_autocast_follows_float32():
    model = make().float()
    positions = cloud(150).float()
    seen = []
    model.layers[-1].output.register_forward_hook(lambda m, a, value: seen.append(value))
    with torch.autocast("cpu", torch.bfloat16):
        low = model(positions)
    high = model(positions)
    assert seen[0].dtype == torch.float32  # the sum of residuals
    assert (low.float() - high).abs().max() < 0.1 * high.abs().max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.zeros(0, 3)), "the cloud is empty"),
        (lambda m: m(torch.zeros(5, 2)), r"positions must be a tensor \(P, 3\), got \(5, 2\)"),
        (lambda m: m([[0.0, 0, 0]]), r"positions must be a tensor \(P, 3\), got list"),
        (lambda m: m(torch.full((5, 3), torch.nan)), "(?i)nan|finite"),
        (lambda m: m(torch.zeros(5, 3), torch.zeros(5, 2)), "this model has in_features=0; leave them out"),
        (lambda m: m(torch.rand(5, 3), batch=torch.tensor([1, 0, 0, 0, 0])), "batch"),
        (
            lambda m: m(torch.rand(5, 3), tree=m.tree(torch.rand(6, 3))),
            "the tree has 6 points but positions has 5",
        ),
        (
            lambda m: m(torch.rand(5, 3), tree=BallTree.build(torch.rand(5, 3), ball_size=8)),
            "8 slots, no multiple of 32: whole balls of this model; make it with model.tree",
        ),
        (
            lambda m: m(torch.rand(5, 3), tree=BallTree.build(torch.rand(5, 3), ball_size=32)),
            "rotated by 45.0 degrees, and the tree has none",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(BsavizError, match=message):
        call(make().float())


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, r"features must be \(5, 2\), since this model has in_features=2, got None"),
        (torch.zeros(5, 3), r"features must be \(5, 2\), .* got \(5, 3\)"),
        (torch.full((5, 2), torch.inf), "features hold NaN or infinite values"),
    ],
)
def test_bad_features(features, message):
    with pytest.raises(BsavizError, match=message):
        make(in_features=2)(torch.rand(5, 3), features)


def test_top_k_beyond_the_blocks_is_named():
    with pytest.raises(BsavizError, match="top_k=9 blocks were asked for, but there are only 4 .*or give more points"):
        make(top_k=9)(cloud(20))
