"""Fields and gates of the other models: windows, coarse levels, chosen blocks, other orders."""

import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model
from fields_dense import dense_ball, dense_compression, dense_selection, dense_window, to_points

from bsaviz._checks import BsavizError
from bsaviz.datasets import Sample
from bsaviz.fields import Trace, gates, probe, receptive_field

MODELS = {
    "nsa": ("nsa", dict(window=5)),
    "nsa, even window, no rotation": ("nsa", dict(window=6, rotation_angle=None)),
    "erwin-nsa": ("erwin-nsa", {}),
    "random blocks": ("bsa", dict(selection="random")),
    "nearest blocks": ("bsa", dict(selection="nearest")),
    "a curve in place of the tree": ("bsa", dict(ordering="morton")),
    "erwin": ("erwin", {}),
    "erwin without decoder": ("erwin", dict(decode=False)),
}
POINTS = cloud(75)


def dense_site(site, found):
    """Probabilities branch -> (H, N, N) of one attention, from what it recorded and the numbers that shape it."""
    options, attended = site.attention.trace_parameters(), site.attended.numpy()
    q, k = found["q"], found["k"]
    chosen = lambda: [[[b for b in group if b >= 0] for group in head] for head in found["indices"].tolist()]
    make = {
        "ball": lambda: dense_ball(
            q, k, found["positions"], options["distance_slope"].numpy(), attended, options["ball_size"]
        ),
        "compression": lambda: dense_compression(q, None, found["k_coarse"], attended, options["block_size"], False),
        "selection": lambda: dense_selection(q, k, chosen(), attended, options["block_size"], options["group_size"]),
        "window": lambda: dense_window(q, k, attended, options["window"]),
    }
    return {branch: make[branch]() for branch in site.attention.branches}


def shared(matrix, site):
    """Columns of (..., N) as points: the points of a coarse slot share its value."""
    if site.order is not None:
        return to_points(matrix, site.order.numpy(), site.attended.numpy(), len(POINTS))
    slots = site.slots.numpy()
    return matrix[..., slots] / np.bincount(slots)[slots]


@pytest.mark.parametrize("case", MODELS)
def test_every_field_equals_the_dense_matrices(case):
    name, overrides = MODELS[case]
    model = random_model(name, **overrides).double()
    field = receptive_field(model, POINTS, range(len(POINTS)))
    sites = model.attention_sites(model.tree(torch.from_numpy(POINTS)))
    places = {}
    hooks = [
        site.attention.register_forward_hook(lambda module, inputs, out, at=i: places.__setitem__(at, inputs[1][0]))
        for i, site in enumerate(sites)
    ]
    with probe(model) as record, torch.no_grad():
        model.eval()(torch.from_numpy(POINTS))
    for hook in hooks:
        hook.remove()
    assert field.sizes["layer"] == len(sites)
    for i, site in enumerate(sites):
        found = {key.rpartition(".")[2]: value[0].numpy() for key, value in record.items() if key.startswith(site.name)}
        found["positions"] = places[i].double().numpy()
        heads, slots = range(site.attention.num_heads), site.slots.numpy()
        for b, (branch, matrix) in enumerate(dense_site(site, found).items()):
            one = field.sel(layer=i, branch=branch, head=list(heads))
            expected = shared(matrix, site)[:, slots].swapaxes(0, 1)
            gate = found["gate"][:, slots, b].T if "gate" in found else np.ones((len(POINTS), len(heads)))
            np.testing.assert_allclose(one.gate, gate, rtol=1e-6)
            np.testing.assert_allclose(one.mass, expected * gate[..., None], rtol=2e-6, atol=1e-12)
            np.testing.assert_array_equal(one.structural, expected > 0)


def test_levels_and_heads_that_a_layer_lacks():
    model = random_model("erwin")
    field = receptive_field(model, POINTS, [3, 9], kinds=("structural", "mass", "gradient"))
    assert field["level"].values.tolist() == [0, 0, 1, 1, 0, 0]
    assert field["head"].values.tolist() == [0, 1, 2, 3]
    fine = field.sel(layer=0, head=[2, 3])
    assert not fine["structural"].any()
    assert all(np.isnan(fine[name]).all() for name in ("mass", "gradient", "gate"))
    np.testing.assert_allclose(field["mass"].sel(layer=2).sum("point"), 1, rtol=1e-5)
    mates = receptive_field(model, POINTS, range(len(POINTS)), layers=2, kinds="structural")["structural"]
    assert (mates.sum("point") > 4).all()  # balls of four slots hold more points than that
    coarse = receptive_field(model, POINTS, 3, layers=[2], heads=[3, 0])
    np.testing.assert_array_equal(coarse["mass"], field["mass"].isel(query=[0]).sel(layer=[2], head=[3, 0]))
    with pytest.raises(BsavizError, match="there is no head 3; choose from: 0, 1"):
        receptive_field(model, POINTS, 3, layers=0, heads=3)


@pytest.mark.parametrize(("name", "branches"), [("nsa", ["compression", "selection", "window"]), ("erwin-nsa", None)])
def test_gates_of_the_others(name, branches):
    model = random_model(name)
    every, field = gates(model, POINTS), receptive_field(model, POINTS, [3, 8])
    assert every.branch.values.tolist() == (branches or ["ball", "compression", "selection"])
    np.testing.assert_array_equal(field.gate, every.gate.isel(point=[3, 8]).transpose("point", ...))


@pytest.mark.parametrize("name", ["erwin", "erwin-nsa"])
def test_a_sample_s_bonds_and_features_are_read(name):
    model = random_model(name, in_features=1)
    chain = np.stack([np.arange(74), np.arange(1, 75)])
    edges = np.concatenate([chain, chain[::-1]], axis=1)
    fields = {"mass": POINTS[:, 0], "force": POINTS}
    sample = Sample("chain", POINTS, fields, "force", feature_names=("mass",), edges=edges)
    found = receptive_field(model, sample, 5, kinds=("mass", "model_gradient"))
    with probe(model) as record, torch.no_grad():
        model.eval()(torch.from_numpy(POINTS), torch.from_numpy(POINTS[:, :1]), edges=torch.from_numpy(edges))
    site = model.attention_sites(model.tree(torch.from_numpy(POINTS)))[0]
    trace = Trace(model, sample, layers=0)
    assert torch.equal(trace._traces[0].q, record[f"{site.name}.q"][0])
    bare = receptive_field(model, POINTS, 5, kinds=("mass", "model_gradient"), features=POINTS[:, :1])
    assert not found["model_gradient"].equals(bare["model_gradient"])


def test_a_model_without_gates_says_so():
    with pytest.raises(BsavizError, match="this model has no gates: its attention is 'Erwin'"):
        gates(random_model("erwin"), POINTS)
