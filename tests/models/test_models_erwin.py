"""Erwin: what its answers may and may not depend on, its levels, its sites, and bad input."""

from dataclasses import replace

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.fields import probe
from bsaviz.models import Erwin, ErwinConfig, build
from bsaviz.training import load_model, save_model

SMALL = dict(dims=(8, 12, 16), ball_sizes=(16, 16, 8), strides=(2, 4), enc_depths=(2, 2, 2), enc_num_heads=(2, 3, 4),
             dec_depths=(2, 1), dec_num_heads=(2, 2), mp_steps=1, neighbours=4, fourier_features=8)  # fmt: skip
POINTS = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))


def erwin(points=POINTS, **overrides):
    """A small Erwin whose weights are large enough to show what they do, and its points, in float64."""
    torch.manual_seed(1)
    model = build("erwin", "tiny", **{**SMALL, **overrides}).eval().double()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, points.double()


@pytest.mark.parametrize("overrides", [{}, dict(mp_steps=0), dict(radius=0.4), dict(rotation_angle=None)])
def test_permuted_points_give_permuted_answers(overrides):
    model, points = erwin(**overrides)
    order = torch.randperm(150, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(model(points[order]), model(points)[order])


@pytest.mark.parametrize("published", [False, True])
def test_a_ragged_batch_gives_what_its_samples_give_alone(published):
    model, points = erwin(published=published)
    batch = torch.repeat_interleave(torch.arange(3), torch.tensor([60, 7, 83]))
    alone = torch.cat([model(points[batch == i]) for i in range(3)])
    torch.testing.assert_close(model(points, batch=batch), alone)


@pytest.mark.parametrize("training", [False, True])
def test_padding_has_no_influence(training):
    model, points = erwin()
    model.train(training)
    tree = model.tree(points)
    assert not tree.mask.all()
    other = replace(
        tree,
        order=torch.where(tree.mask, tree.order, 3),
        positions=torch.where(tree.mask[..., None], tree.positions, points[3]),
    )
    rotations = model._rotations(tree)
    results = []
    for changed in (tree, other):
        model.zero_grad()
        arguments = model.leaf_arguments(points, None, changed) | {"rotations": rotations}
        out = tree.scatter(model.forward_leaves(**arguments))
        out.sum().backward()
        results.append((out.detach(), model.embedding.weight.grad.clone()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_padding_does_not_count_in_the_batch_statistics():
    model, points = erwin(rotation_angle=None)
    model.train()
    seen = {}
    pool = model.encoder[0].pool
    hook = pool.proj.register_forward_hook(lambda module, args, out: seen.update(rows=out.detach()))
    tree = model.tree(points)
    model(points, tree=tree)
    hook.remove()
    real = tree.mask.unflatten(1, (-1, 2)).any(-1)
    rows = seen["rows"][real]
    torch.testing.assert_close(pool.norm.running_mean, 0.1 * rows.mean(0))
    torch.testing.assert_close(pool.norm.running_var, 0.9 + 0.1 * rows.var(0))
    assert int(pool.norm.num_batches_tracked) == 1


def test_without_a_decoder_the_coarsest_level_answers():
    model, points = erwin(decode=False, out_features=0)
    batch = torch.arange(150) // 100
    tree = model.tree(points, batch)
    seen = {}
    hook = model.bottleneck.register_forward_hook(lambda module, args, out: seen.update(out=out))
    out = model(points, tree=tree)
    hook.remove()
    real = tree.mask.unflatten(1, (-1, 8)).any(-1)
    assert torch.equal(out, seen["out"][real])
    assert torch.equal(model.coarse_batch(tree).bincount(), real.sum(1))
    assert len(model.decoder) == 0


def test_edges_decide_who_is_heard():
    model, points = erwin(rotation_angle=None)
    tree = model.tree(points)
    assert torch.equal(model(points, tree=tree), model(points, tree=tree, edges=model.graph(points, tree)))
    nobody = torch.empty(2, 0, dtype=torch.int64)
    assert not torch.allclose(model(points, edges=nobody), model(points))


def test_a_radius_is_in_the_units_that_the_model_sees():
    model, points = erwin(radius=0.5)
    edges = model.graph(points, model.tree(points))
    scale = 4 / (points.amax(0) - points.amin(0)).max()
    assert edges.shape[1] == int((torch.cdist(points, points) * scale <= 0.5).sum())
    assert torch.equal(edges, model.graph(100 * points, model.tree(100 * points)))


def test_sites_place_the_points_at_every_level():
    model, points = erwin(points=torch.randn(128, 3, generator=torch.Generator().manual_seed(3)))  # no padding
    tree = model.tree(points)
    sites = model.attention_sites(tree)
    assert [site.level for site in sites] == [0, 0, 1, 1, 2, 2, 1, 0, 0]
    assert sites[6].name == "decoder.0.blocks.0.attn"
    inputs = {}
    hooks = [
        site.attention.register_forward_hook(lambda module, args, out, name=site.name: inputs.update({name: args}))
        for site in sites
    ]
    ran = []
    hooks += [site.attention.register_forward_hook(lambda *args, name=site.name: ran.append(name)) for site in sites]
    model(points, tree=tree)
    for hook in hooks:
        hook.remove()
    assert ran == [site.name for site in sites]
    low, high = points.amin(0), points.amax(0)
    scaled = (points - (low + high) / 2) * (4 / (high - low).max())
    for site in sites:
        assert model.get_submodule(site.name) is site.attention
        places = inputs[site.name][1][0]
        count = torch.bincount(site.slots, minlength=len(places))
        mean = torch.zeros_like(places).index_add(0, site.slots, scaled) / count[:, None]
        torch.testing.assert_close(mean, places)
        assert site.attended.all()
        assert (site.order is None) == (site.level > 0)
        if site.order is not None:
            assert torch.equal(site.order[site.slots], torch.arange(128))


def test_sites_tell_which_slots_are_read():
    model, points = erwin()
    tree = model.tree(points)
    sites = model.attention_sites(tree)
    masks = {}
    hooks = [
        site.attention.register_forward_hook(lambda module, args, out, name=site.name: masks.update({name: args[2]}))
        for site in sites
    ]
    model(points, tree=tree)
    for hook in hooks:
        hook.remove()
    for site in sites:
        assert torch.equal(masks[site.name][0], site.attended)
        assert site.attended[site.slots].all()
    sparse, few = erwin(points=POINTS[:9], decode=False)
    for site in sparse.attention_sites(sparse.tree(few)):
        assert site.attended.sum() == len(site.slots.unique())


def test_probe_points_are_those_of_its_layers():
    model, points = erwin()
    with probe(model, ["embed", "encoder.1.blocks.0.attn.q", "bottleneck.blocks.1.attn.ball_lse"]) as record:
        model(points)
    tree = model.tree(points)
    assert record["embed"].shape == (1, tree.order.shape[1], 8)
    assert record["encoder.1.blocks.0.attn.q"].shape == (1, 3, tree.order.shape[1] // 2, 4)
    assert record["bottleneck.blocks.1.attn.ball_lse"].shape == (1, 4, tree.order.shape[1] // 8)


def test_two_dimensions_features_and_several_outputs():
    model, points = erwin(
        points=POINTS[:, :2], spatial_dims=2, in_features=3, fourier_features=0, coordinates=True, out_features=2
    )
    out = model.predict(points, torch.randn(150, 3).double())
    assert out.shape == (150, 2)
    assert out.isfinite().all()


def test_a_saved_model_answers_the_same(tmp_path):
    model, points = erwin()
    model.train()(points)  # statistics other than a new model's
    model = model.float().eval()
    save_model(model, tmp_path / "erwin")
    loaded = load_model(tmp_path / "erwin", device="cpu")
    assert isinstance(loaded, Erwin)
    assert loaded.config == model.config
    assert torch.equal(loaded(points.float()), model(points.float()))


@pytest.mark.parametrize("training", [False, True])
def test_the_leaf_part_compiles_as_one_graph(training):
    model, points = erwin(enc_depths=(1, 1, 1), dec_depths=(1, 1))
    model.train(training)
    arguments = model.leaf_arguments(points, None, model.tree(points))
    compiled = torch.compile(model.forward_leaves, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(**arguments), model.forward_leaves(**arguments))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("settings", [dict(ball_sizes=(32, 32, 32)), dict(radius=0.5)])
def test_a_gpu_answers_the_same(settings):
    model, points = erwin(**settings)
    there = model.tree(points.cuda())
    assert torch.equal(there.rotation.cpu(), model.tree(points).rotation)
    here = model(points)
    torch.testing.assert_close(model.cuda()(points.cuda(), tree=there).cpu(), here)
    out = model.float()(points.float().cuda())
    torch.testing.assert_close(out.double().cpu(), here, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(dims=(32,)), r"ball_sizes must have 1 numbers, as there are 1 dims, got \(16, 16, 8\)"),
        (
            dict(strides=(2,)),
            r"strides must have 2 numbers, as there are 3 dims, got \(2,\); the coarsest level has no",
        ),
        (dict(dims=8), "dims must be a tuple of integers, one for each level, got 8"),
        (dict(ball_sizes=(16, 16, 0)), "each of ball_sizes must be an integer of at least 1, got 0"),
        (dict(enc_num_heads=(2, 5, 4)), "each of dims must be a multiple of its enc_num_heads, got 12 and 5"),
        (dict(dec_num_heads=(3, 2)), "each of dims must be a multiple of its dec_num_heads, got 8 and 3"),
        (dict(strides=(1, 4)), "a stride of 1 keeps the channels, got dims 8 and 12; make them equal"),
        (dict(mp_steps=-1), "mp_steps must be an integer of at least 0, got -1"),
        (dict(neighbours=0), "neighbours must be an integer of at least 1, got 0"),
        (dict(radius=0.0), "radius must be a finite length above 0, or None, got 0.0"),
        (dict(fourier_features=3), "fourier_features must be even"),
        (dict(fourier_features=0), "nothing to start from: give fourier_features, in_features or coordinates"),
        (dict(rotation_angle=float("inf")), "rotation_angle must be finite degrees or None, got inf"),
        (dict(spatial_dims=4), "spatial_dims must be one of 2, 3, got 4"),
        (dict(position_scaling="box"), "position_scaling must be one of 'length', 'none', got 'box'"),
    ],
)
def test_configurations_that_cannot_be(settings, message):
    with pytest.raises(BsavizError, match=message):
        ErwinConfig(**{**SMALL, **settings})


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (dict(positions=POINTS[:, :2]), r"positions must be a tensor \(P, 3\), got \(150, 2\)"),
        (dict(features=POINTS), "this model has in_features=0"),
        (dict(edges=POINTS), r"edges must be an int64 tensor \(2, E\) of senders and receivers, got \(150, 3\)"),
        (dict(edges=torch.tensor([[0], [150]])), "edges must hold indices from 0 to 149, got 0 to 150; in a batch"),
        (
            dict(edges=torch.tensor([[0], [149]]), batch=torch.arange(150) // 75),
            "edges join points of different samples; keep those inside one sample",
        ),
        (dict(tree=build("ball", "tiny", ball_size=16).tree(POINTS)), "160 slots, no multiple of 64: whole balls of"),
        (dict(tree=build("ball", "tiny", ball_size=64, depth=1).tree(POINTS)), "rotated by 45.0 degrees, and the tree"),
        (dict(tree=build("ball", "tiny").tree(POINTS[:9])), "the tree has 9 points but positions has 150"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message):
    model, _ = erwin()
    with pytest.raises(BsavizError, match=message):
        model.float()(**{"positions": POINTS, **inputs})
