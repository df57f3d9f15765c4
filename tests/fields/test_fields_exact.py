"""Receptive fields against dense attention matrices written out from their formulas, for every variant."""

import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model
from fields_dense import (
    block_means,
    chosen_blocks,
    dense_ball,
    dense_compression,
    dense_full,
    dense_selection,
    to_points,
)

from bsaviz.fields import probe, receptive_field

BSA = {
    "mean": {},
    "mlp": dict(pooling="mlp"),
    "group compression": dict(group_compression=True, coarse_scores=True),
    "group compression, mlp": dict(group_compression=True, coarse_scores=True, pooling="mlp"),
    "group compression, mean scores": dict(group_compression=True, group_size=8),
    "coarse scores": dict(coarse_scores=True),
    "each for itself": dict(group_selection=False),
    "own ball readable": dict(mask_own_ball=False),
    "static gate": dict(gate="static"),
    "groups of two": dict(group_size=2),
    "more slots than blocks": dict(top_k=10),
    "no rotation": dict(rotation_angle=None),
    "plane": dict(spatial_dims=2),
    "unscaled": dict(position_scaling="none"),
    "published": dict(published=True, position_scaling="none"),
    "published, group compression, mlp": dict(
        published=True, group_compression=True, coarse_scores=True, pooling="mlp", mask_own_ball=False
    ),
}
OTHERS = {
    "ball": ("ball", {}),
    "ball, published": ("ball", dict(published=True)),
    "full": ("full", {}),
    "full, published": ("full", dict(published=True)),
}
VARIANTS = {**{name: ("bsa", overrides) for name, overrides in BSA.items()}, **OTHERS}


def arrays(record, layer):
    prefix = f"layers.{layer}.attn."
    return {name.removeprefix(prefix): t[0].numpy() for name, t in record.items() if name.startswith(prefix)}


def dense_layer(model, points, layer, found):
    """Probabilities branch -> (query, head, point) and gates (query, head, branch) of one layer, in input order."""
    config = model.config
    tree = model.tree(torch.from_numpy(points))
    tree = tree.rotated if config.rotates and layer % 2 else tree
    order, mask, positions = tree.order[0].numpy(), tree.mask[0].numpy(), points[tree.order[0].numpy()].astype(float)
    if config.position_scaling == "length":
        low, high = points.min(0), points.max(0)
        positions = (positions - (low + high) / 2) * 4 / (high - low).max()
    real = np.ones_like(mask) if config.published else mask
    q, k = found["q"], found["k"]
    if config.attention == "full":
        matrices = {"full": dense_full(q, k, real)}
    else:
        slope = model.layers[layer].attn.distance_slope.detach().numpy()
        matrices = {"ball": dense_ball(q, k, positions, slope, real, config.ball_size)}
    if config.attention == "bsa":
        mean = config.pooling == "mean"
        k_coarse = block_means(k, real, config.block_size) if mean else found["k_coarse"]
        q_coarse = block_means(q, real, config.block_size) if mean else found.get("q_coarse")
        group_size = config.group_size if config.group_selection else 1
        sizes = dict(ball_size=config.ball_size, block_size=config.block_size, group_size=group_size)
        chosen = chosen_blocks(
            q, q_coarse, k_coarse, real, **sizes, top_k=config.top_k,
            coarse_scores=config.coarse_scores, mask_own_ball=config.mask_own_ball,
        )  # fmt: skip
        matrices["compression"] = dense_compression(
            q, q_coarse, k_coarse, real, config.block_size, config.group_compression
        )
        matrices["selection"] = dense_selection(q, k, chosen, real, config.block_size, group_size)
    slots = np.array([np.flatnonzero(mask & (order == point))[0] for point in range(len(points))])
    credited = {b: to_points(m[:, slots], order, real, len(points)).swapaxes(0, 1) for b, m in matrices.items()}
    gate = np.moveaxis(found["gate"][:, slots], 0, 1) if "gate" in found else np.ones((len(points), q.shape[0], 1))
    return credited, gate


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_field_equals_the_dense_matrices(variant):
    name, overrides = VARIANTS[variant]
    model = random_model(name, **overrides).double()
    points = cloud(dims=model.config.spatial_dims)
    field = receptive_field(model, points, range(len(points)))
    with probe(model) as record, torch.no_grad():
        model(torch.from_numpy(points))
    assert field.mass.dtype == np.float32
    assert field.structural.dtype == bool
    for layer in range(2):
        probabilities, gate = dense_layer(model, points, layer, arrays(record, layer))
        assert field.branch.values.tolist() == list(probabilities)
        np.testing.assert_allclose(field.gate.sel(layer=layer), gate, rtol=1e-6)
        for b, (branch, expected) in enumerate(probabilities.items()):
            one = field.sel(layer=layer, branch=branch)
            np.testing.assert_allclose(one.mass, expected * gate[..., b, None], rtol=2e-6, atol=1e-12)
            np.testing.assert_array_equal(one.structural, expected > 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_mass_sums_to_the_gates_of_branches_that_read_something(variant):
    name, overrides = VARIANTS[variant]
    model = random_model(name, **overrides)
    field = receptive_field(model, cloud(dims=model.config.spatial_dims), [0, 20, 36])
    readable = field.structural.any("point")
    np.testing.assert_allclose(field.mass.sum("point"), field.gate.where(readable, 0), rtol=1e-5)


@pytest.mark.parametrize("variant", ["mean", "group compression, mean scores", "each for itself", "static gate"])
def test_mass_times_values_is_what_the_layer_computed(variant):
    model = random_model(**BSA[variant]).double()
    points = cloud()
    field = receptive_field(model, points, range(len(points)))
    tree = model.tree(torch.from_numpy(points))
    with probe(model, "layers.*.attn.*") as record, torch.no_grad():
        model(torch.from_numpy(points))
    for layer, own in enumerate((tree, tree.rotated)):
        names = ("v", "gate", "ball", "compression", "selection")
        v, gate, *branches = (record[f"layers.{layer}.attn.{name}"] for name in names)
        weighted = sum(gate[..., b, None] * branch for b, branch in enumerate(branches))
        v, expected = (own.scatter(x.transpose(1, 2)).numpy() for x in (v, weighted))
        mass = field.mass.sel(layer=layer).sum("branch").values.astype(float)
        np.testing.assert_allclose(np.einsum("qhp,phd->qhd", mass, v), expected, rtol=1e-5, atol=1e-6)


def test_a_static_gate_gives_the_ball_weight_one():
    field = receptive_field(random_model(gate="static"), cloud(), 3)
    assert (field.gate.sel(branch="ball") == 1).all()


def test_a_branch_with_nothing_to_read_has_no_mass():
    field = receptive_field(random_model(), cloud(9), 4)  # one ball: selection leaves out the only ball there is
    selection = field.sel(branch="selection")
    assert not selection.structural.any()
    assert (selection.mass == 0).all()
    assert (selection.gate > 0).all()


def test_a_single_point_reads_itself():
    field = receptive_field(random_model(), cloud(1), 0)
    expected = field.gate.sel(branch=["ball", "compression"])
    np.testing.assert_allclose(field.mass.sel(branch=["ball", "compression"])[..., 0], expected, rtol=1e-6)
