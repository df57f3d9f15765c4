"""Reach and rollout against dense matrices, multiplied layer by layer."""

import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import Trace, receptive_field
from bsaviz.fields.through import NEAR_TO_FAR

VARIANTS = {
    "bsa": ("bsa", dict(depth=3)),
    "group compression": ("bsa", dict(depth=3, group_compression=True, coarse_scores=True)),
    "each for itself": ("bsa", dict(group_selection=False)),
    "static gate": ("bsa", dict(gate="static")),
    "published": ("bsa", dict(published=True, position_scaling="none")),
    "ball": ("ball", dict(depth=3)),
    "full": ("full", {}),
    "erwin": ("erwin", {}),
    "nsa": ("nsa", dict(depth=3, window=5)),
    "erwin-nsa": ("erwin-nsa", {}),
}
POINTS = 75


def nearer(branch, branches):
    """The branch and those before it."""
    return [b for b in branches if NEAR_TO_FAR.index(b) <= NEAR_TO_FAR.index(branch)]


def dense_reach(field, branches):
    """(layer, query, point) from the structural fields of all points."""
    total = np.eye(POINTS, dtype=bool)
    for layer in field.layer:
        one = field.structural.sel(layer=layer, branch=branches).any(("head", "branch")).values
        total = ((one | np.eye(POINTS, dtype=bool)).astype(int) @ total) > 0
        yield total


def kept(site):
    """(query, point): what the residual keeps, shared by the points of a slot."""
    same = (site.slots[:, None] == site.slots).numpy()
    return same / same.sum(1, keepdims=True)


def dense_rollout(field, branches, sites):
    """(layer, query, point) of the paths through some branches, from the masses of all points."""
    total = np.eye(POINTS)
    for layer in field.layer.values:
        mass = field.mass.sel(layer=layer).astype(float)
        whole = mass.sum(("head", "branch", "point")).values
        one = mass.sel(branch=branches).sum(("head", "branch")).values / np.where(whole > 0, whole, 1)[:, None]
        total = np.where(whole > 0, 0.5, 1)[:, None] * kept(sites[layer]) @ total + 0.5 * one @ total
        yield total


@pytest.mark.parametrize("variant", VARIANTS)
def test_they_equal_products_of_dense_matrices(variant):
    name, overrides = VARIANTS[variant]
    model, points = random_model(name, **overrides).double(), cloud(POINTS)
    field = receptive_field(model, points, range(POINTS), kinds=("structural", "mass", "reach", "rollout"))
    branches = field.branch.values.tolist()
    sites = model.attention_sites(model.tree(torch.from_numpy(points)))
    assert field["reach"].dims == field["rollout"].dims == ("query", "layer", "branch", "point")
    assert (field["reach"].dtype, field["rollout"].dtype) == (bool, np.float32)
    for branch in branches:
        used = nearer(branch, branches)
        for layer, expected in enumerate(dense_reach(field, used)):
            np.testing.assert_array_equal(field["reach"].sel(branch=branch, layer=layer), expected)
        for layer, expected in enumerate(dense_rollout(field, used, sites)):
            found = field["rollout"].sel(branch=used, layer=layer).sum("branch")
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)


def test_rollout_sums_to_one_and_reach_holds_it():
    field = receptive_field(random_model(depth=3), cloud(POINTS), [3, 70], kinds=("reach", "rollout"))
    np.testing.assert_allclose(field["rollout"].sum(("branch", "point")), 1, rtol=1e-5)
    assert not (field["rollout"].sum("branch") > 0).where(~field["reach"].any("branch"), False).any()
    assert set(field.data_vars) == {"reach", "rollout", "gate", "position", "area"}


def test_some_layers_and_heads():
    model, points = random_model(depth=3), cloud(POINTS)
    kinds = ("reach", "rollout")
    every = receptive_field(model, points, [3, 9], kinds=kinds)
    some = receptive_field(model, points, [3, 9], kinds=kinds, layers=[2, 0])
    for kind in kinds:
        np.testing.assert_allclose(some[kind], every[kind].sel(layer=[2, 0]), rtol=1e-5, atol=1e-9)
    one_head = receptive_field(model, points, 3, kinds="reach", heads=1)
    assert not one_head["reach"].where(~every["reach"].sel(query=[3]), False).any()
    assert not one_head["reach"].equals(every["reach"].sel(query=[3]))


def test_chunks_do_not_matter(monkeypatch):
    model, points = random_model(), cloud(POINTS)
    at_once = receptive_field(model, points, [3, 9], kinds="rollout")
    monkeypatch.setattr("bsaviz.fields.through.AT_ONCE", 1)
    one_by_one = receptive_field(model, points, [3, 9], kinds="rollout")
    np.testing.assert_allclose(one_by_one["rollout"], at_once["rollout"], rtol=1e-5)


def test_a_trace_gives_them_too_and_needs_the_layers_below(model):
    points = cloud(POINTS)
    expected = receptive_field(model, points, 3, kinds=("reach", "rollout"), layers=1)
    found = Trace(model, points).receptive_field(3, kinds=("reach", "rollout"), layers=1)
    np.testing.assert_array_equal(found["reach"], expected["reach"])
    np.testing.assert_array_equal(found["rollout"], expected["rollout"])
    kept = Trace(model, points, layers=1)
    with pytest.raises(BsavizError, match=r"reach and rollout of layer 1 go through all layers below it, and layer 0"):
        kept.receptive_field(3, kinds="reach")
