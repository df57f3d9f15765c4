"""NSA, Erwin-NSA and the baselines as models: what they have in common with the rest, and what is their own."""

import numpy as np
import pytest
import torch

from bsaviz import fields
from bsaviz._checks import BsavizError
from bsaviz.models import ErwinNSA, ErwinNSAConfig, TransformerConfig, build, configure
from bsaviz.study import count_gflops
from bsaviz.training import load_model, save_model
from bsaviz.training.batches import Sample, collate, with_trees
from bsaviz.trees import order_points

BASELINES = ("bsa-random", "bsa-nearest", "bsa-morton", "bsa-hilbert", "bsa-kmeans", "bsa-graph", "nsa")
NAMES = (*BASELINES, "erwin-nsa")
POINTS = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))


def small(name, **overrides):
    torch.manual_seed(0)
    model = build(name, "tiny", **dict(depth=2, ball_size=32) | overrides).eval()
    with torch.no_grad():  # the small published start would hide mistakes
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(3)
    return model


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_input_is_all_one(name):
    model = small(name)
    shuffle = torch.randperm(150, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(model(POINTS[shuffle]), model(POINTS)[shuffle], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_of_clouds_of_different_sizes_equals_each_alone(name):
    model = small(name)
    clouds = [POINTS[:90], POINTS, POINTS[40:110] * 2]
    batch = torch.arange(3).repeat_interleave(torch.tensor([90, 150, 70]))
    with torch.no_grad():
        together = model(torch.cat(clouds), batch=batch)
        alone = torch.cat([model(cloud) for cloud in clouds])
    torch.testing.assert_close(together, alone, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_saved_and_loaded_it_is_the_same_model(name, tmp_path):
    model = small(name)
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model", device="cpu")
    assert again.config == model.config
    with torch.no_grad():
        assert again(POINTS).equal(model(POINTS))


@pytest.mark.parametrize("name", NAMES)
def test_mass_of_its_receptive_field_sums_to_its_gates(name):
    model = small(name)
    field = fields.receptive_field(model, POINTS.numpy(), query=[3, 77], kinds=("structural", "mass"))
    gates = fields.gates(model, POINTS.numpy()).gate.isel(point=[3, 77])
    assert field.sizes["layer"] == 2
    reads = field.structural.any("point")  # a branch that reads nothing has no mass
    expected = (gates.rename(point="query") * reads).sum("branch").transpose("query", "layer", "head")
    found = field.mass.sum(("branch", "point")).transpose("query", "layer", "head")
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-4)
    assert not bool(((field.mass > 0) & ~field.structural).any())


@pytest.mark.parametrize("name", NAMES)
def test_every_probe_point_is_documented(name):
    names = fields.probe_names(small(name))
    assert all(text.partition(") ")[2] for text in names.values()), names


@pytest.mark.parametrize("name", ["morton", "hilbert", "kmeans", "graph"])
def test_the_ordering_is_the_one_that_was_named(name):
    model = small(f"bsa-{name}")
    tree = model.tree(POINTS)
    expected = order_points(POINTS, ordering=name, ball_size=32, block_size=8, rotation_angle=45)
    assert tree.order.equal(expected.order)
    first, second = model.attention_sites(tree)
    assert first.order.equal(expected.order[0])
    assert second.order.equal(expected.rotated.order[0])


def test_bonds_decide_the_balls_of_a_graph_ordering():
    bonds = torch.randint(150, (2, 300), generator=torch.Generator().manual_seed(0))
    model = small("bsa-graph")
    assert not model.tree(POINTS, edges=bonds).order.equal(model.tree(POINTS).order)
    erwin = small("erwin-nsa", ordering="graph")
    assert erwin.tree(POINTS, edges=bonds).order.equal(
        order_points(POINTS, ordering="graph", edges=bonds, ball_size=32, block_size=16).order
    )


def test_every_layer_draws_its_own_random_blocks():
    model = small("bsa-random", selection_seed=5, depth=3)
    assert [layer.attn.seed for layer in model.layers] == [5, 6, 7]


def test_published_settings_of_erwin_nsa():
    shared = dict(dim=64, num_heads=16, block_size=32, top_k=16, group_size=1, mlp_ratio=4, mp_steps=3)
    own = {
        "shapenet": dict(embed_dim=64, depth=6, ball_size=512, rotation_angle=None),
        "cosmology": dict(embed_dim=64, depth=12, ball_size=128, rotation_angle=45.0),
        "md": dict(embed_dim=16, depth=6, ball_size=32, rotation_angle=45.0),
    }
    for preset, settings in own.items():
        config = configure("erwin-nsa", preset)
        for name, value in (shared | settings).items():
            assert getattr(config, name) == value, (preset, name)
    assert configure("erwin-nsa", "published") == configure("erwin-nsa", "shapenet") == ErwinNSAConfig()


def test_layers_computed_again_give_the_same_gradients_from_less_memory():
    kept, again = small("erwin-nsa"), small("erwin-nsa", recompute=True)

    def run(model):
        saved = {}

        def pack(tensor):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = model(POINTS)
        out.square().sum().backward()
        return out.detach(), sum(saved.values()), [p.grad for p in model.parameters()]

    first, much, gradients = run(kept)
    second, little, same = run(again)
    assert first.equal(second)
    assert all(a.equal(b) for a, b in zip(gradients, same))
    assert little < 0.6 * much


def test_given_edges_carry_the_messages():
    model = small("erwin-nsa")
    with torch.no_grad():
        graph = model.graph(POINTS, model.tree(POINTS))
        torch.testing.assert_close(model(POINTS, edges=graph), model(POINTS))
        assert not torch.allclose(model(POINTS, edges=graph[:, ::2]), model(POINTS))
        silent = small("erwin-nsa", mp_steps=0)
        assert silent(POINTS).shape == (150, 1)


@pytest.mark.parametrize("name", NAMES)
def test_operations_are_counted_for_every_branch(name):
    """Adding up by hand what a model of one layer does, against the counter."""
    n, c = 256, 32
    model = small(name, depth=1, mp_steps=0) if name == "erwin-nsa" else small(name, depth=1)
    config, slots = model.config, 256
    inputs = config.fourier_features
    outside = 2 * n * (3 * inputs // 2 + inputs * (16 if name == "erwin-nsa" else c) + c * c + c)
    outside += 2 * n * 16 * c if name == "erwin-nsa" else 0
    layer = 2 * n * (3 * c * c + c * c + 3 * 4 * c * c + c * 3 * config.num_heads)
    blocks = slots // config.block_size
    groups = slots if name in ("nsa", "erwin-nsa") else slots // config.group_size
    per_query = blocks + config.top_k * config.block_size
    scored = {"bsa-random": 0, "bsa-nearest": groups * blocks * 4}.get(name, groups * blocks * c)
    if name == "nsa":
        per_query += 1.5 * config.window - 1  # runs of half a window each read one and a half
    else:
        per_query += config.ball_size
        layer += 2 * n * 3 * c
    expected = outside + layer + 4 * slots * per_query * c + 2 * scored
    assert count_gflops(model, n) * 1e9 == pytest.approx(expected, rel=1e-6)


def test_a_window_wider_than_the_cloud_costs_no_more_than_the_cloud():
    near, wide = (count_gflops(small("nsa", depth=1, window=w), 256) for w in (511, 100_000))
    assert wide < 1.2 * near


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: TransformerConfig(ordering="peano"), "ordering must be one of 'balltree', .* got 'peano'"),
        (lambda: TransformerConfig(selection="best"), "selection must be one of 'scores', 'random', 'nearest'"),
        (lambda: TransformerConfig(window=0), "window must be an integer of at least 1, got 0"),
        (lambda: ErwinNSAConfig(dim=60), "dim must be a multiple of num_heads, got dim=60 and num_heads=16"),
        (lambda: ErwinNSAConfig(ball_size=100), "ball_size must be a multiple of block_size, got 100 and 32"),
        (lambda: ErwinNSAConfig(fourier_features=3), "fourier_features must be even"),
        (lambda: ErwinNSAConfig(fourier_features=0), "a point has nothing to start from"),
        (lambda: ErwinNSAConfig(radius=-1.0), "radius must be a finite length above 0"),
        (lambda: ErwinNSAConfig(mp_steps=-1), "mp_steps must be an integer of at least 0"),
        (lambda: ErwinNSAConfig(ordering="none"), "ordering must be one of"),
        (lambda: ErwinNSAConfig(rotation_angle=float("inf")), "rotation_angle must be finite"),
        (lambda: build("erwin-nsa", heads=2), "unknown setting heads of an ErwinNSA"),
        (lambda: small("erwin-nsa")(POINTS, edges=torch.tensor([[0], [150]])), "edges must hold indices from 0 to 149"),
        (lambda: small("erwin-nsa")(POINTS[:, :2]), r"positions must be a tensor \(P, 3\)"),
        (lambda: small("erwin-nsa")(POINTS[:10]), "top_k=4 blocks .* only 2 blocks"),
    ],
)
def test_errors_say_what_to_do(call, message):
    with pytest.raises(BsavizError, match=message):
        call()


def test_erwin_nsa_in_the_plane_with_features():
    config = configure("erwin-nsa", "tiny", depth=2, spatial_dims=2, in_features=3, out_features=2, coordinates=True)
    model = ErwinNSA(config)
    out = model(POINTS[:, :2], torch.randn(150, 3))
    assert out.shape == (150, 2)
    assert model.predict(POINTS[:, :2], torch.randn(150, 3)).shape == (150, 2)


def test_in_training_bonds_reach_the_ordering_and_stacked_trees_are_those_of_the_batch():
    bonds = torch.stack([torch.arange(149), torch.arange(1, 150)])
    model = small("bsa-graph")
    sample = Sample("chain", POINTS, torch.zeros(150, 1), None, torch.ones(150), edges=bonds)
    one, two = with_trees([sample, sample], model)
    assert one.tree.order.equal(model.tree(POINTS, edges=bonds).order)
    stacked = collate([one, two], model).tree
    together = collate([sample, sample], model).tree
    assert stacked.order.equal(together.order)
    assert stacked.rotation.equal(together.rotation)
