"""Gradients against finite differences in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import Region, Trace, probe, receptive_field

VARIANTS = {
    "bsa": ("bsa", {}),
    "mlp": ("bsa", dict(pooling="mlp")),
    "group compression, mlp": ("bsa", dict(group_compression=True, coarse_scores=True, pooling="mlp")),
    "group compression": ("bsa", dict(group_compression=True, group_size=8)),
    "each for itself": ("bsa", dict(group_selection=False)),
    "static gate": ("bsa", dict(gate="static")),
    "published": ("bsa", dict(published=True, position_scaling="none")),
    "ball": ("ball", {}),
    "full": ("full", {}),
    "nsa": ("nsa", dict(window=5)),
}
POINTS = 21
EPS = 1e-6


def outputs(trace, tokens):
    """Gated output of every slot, (B, H, branches, N, d), as the attention itself computes it from tokens (B, N, C)."""
    attention, names = trace.attention, [b for b in trace.branches if b != "full"]
    wanted = [name for name in ("gate", "q", "k", "v", *names) if hasattr(attention, name)]
    places, mask = (x if x is None else x.expand(len(tokens), *x.shape[1:]) for x in trace.inputs[1:])
    with probe(attention, wanted) as record, torch.no_grad():
        attention(tokens, places, mask)
    if trace.branches == ("full",):
        scores = record["q"] @ record["k"].mT / record["q"].shape[-1] ** 0.5
        return (scores.masked_fill(~trace.attended, -torch.inf).softmax(-1) @ record["v"])[:, :, None]
    branches = torch.stack([record[name] for name in trace.branches], 2)
    return branches * record["gate"].transpose(2, 3)[..., None] if "gate" in record else branches


def differences(trace, slots):
    """Norms (H, branches, P) by moving each channel of each point's token, in all slots that hold the point."""
    tokens = trace.inputs[0]
    square = 0
    for channel in range(tokens.shape[-1]):
        steps = torch.zeros(POINTS, *tokens.shape[1:], dtype=tokens.dtype)
        steps[:, :, channel] = EPS * ((trace.order == torch.arange(POINTS)[:, None]) & trace.attended)
        moved = outputs(trace, torch.cat([tokens + steps, tokens - steps]))[:, :, :, slots].mean(3)
        square = square + ((moved[:POINTS] - moved[POINTS:]) / (2 * EPS)).square().sum(-1)
    return square.sqrt().permute(1, 2, 0)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_layer_s_gradient_equals_finite_differences(variant):
    name, overrides = VARIANTS[variant]
    model, points = random_model(name, **overrides).double(), cloud(POINTS)
    trace = Trace(model, points)
    field = trace.receptive_field(4, layers=1, kinds=("structural", "gradient"))
    layer = trace._traces[1]
    expected = differences(layer, layer.slots[[4]])
    found = field.gradient.isel(query=0, layer=0)
    assert found.dims == ("head", "branch", "point")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)
    away = ~field.structural.isel(query=0, layer=0)
    away[..., 4] = False
    assert not found.where(away, 0).any()


def test_a_region_s_gradient_is_that_of_its_mean():
    model, points = random_model(published=True, position_scaling="none").double(), cloud(POINTS)
    trace = Trace(model, points)
    field = trace.receptive_field(Region("few", [4, 5, 11]), layers=0, kinds="gradient")
    layer = trace._traces[0]
    expected = differences(layer, layer.slots[[4, 5, 11]])
    np.testing.assert_allclose(field.gradient.isel(query=0, layer=0), expected, rtol=1e-4, atol=1e-7)


def test_heads_layers_and_chunks(monkeypatch):
    model, points = random_model(), cloud(POINTS)
    every = receptive_field(model, points, [2, 9], kinds="gradient")
    some = receptive_field(model, points, [2, 9], kinds="gradient", layers=1, heads=[1, 0])
    np.testing.assert_allclose(some.gradient, every.gradient.sel(layer=[1], head=[1, 0]), rtol=1e-5)
    monkeypatch.setattr("bsaviz.fields.gradient.AT_ONCE", 1)
    again = receptive_field(model, points, [2, 9], kinds="gradient")
    np.testing.assert_allclose(again.gradient, every.gradient, rtol=1e-5, atol=1e-9)
    assert all(p.grad is None for p in model.parameters())


MODELS = {
    "bsa": ("bsa", {}),
    "length scaling, features": ("bsa", dict(in_features=2)),
    "published": ("bsa", dict(published=True, position_scaling="none", out_features=2)),
    "static gate": ("bsa", dict(gate="static", position_scaling="none")),
    "ball": ("ball", dict(position_scaling="none", out_features=2)),
    "full": ("full", dict(position_scaling="none")),
    "nsa": ("nsa", dict(window=5)),
    "erwin": ("erwin", {}),
    "erwin-nsa": ("erwin-nsa", dict(recompute=True)),
}


@pytest.mark.parametrize("variant", MODELS)
def test_the_model_s_gradient_equals_finite_differences(variant):
    name, overrides = MODELS[variant]
    model, points = random_model(name, **overrides).double().eval(), cloud(POINTS)
    features = cloud(POINTS, 2, seed=1) if overrides.get("in_features") else None
    field = receptive_field(model, points, [4, 20], kinds="model_gradient", features=features)
    assert field.model_gradient.dims == ("query", "point")
    tree = model.tree(torch.from_numpy(points))
    inputs = [torch.from_numpy(x).double() for x in (points, features) if x is not None]

    def predicted(moved):
        with torch.no_grad():
            own = replace(tree, positions=moved[0][tree.order])
            return model(moved[0], *moved[1:], tree=own)[[4, 20]]

    for point in (0, 4, 13):
        square = 0
        for i, one in enumerate(inputs):
            for axis in range(one.shape[1]):
                step = torch.zeros_like(one)
                step[point, axis] = EPS
                ahead, behind = ([x + sign * step if j == i else x for j, x in enumerate(inputs)] for sign in (1, -1))
                square = square + ((predicted(ahead) - predicted(behind)) / (2 * EPS)).square().sum(-1)
        np.testing.assert_allclose(field.model_gradient[:, point], square.sqrt(), rtol=1e-4, atol=1e-8)


def test_a_model_s_gradient_leaves_it_as_it_was():
    model = random_model().train()
    before = [len(module._forward_hooks) for module in model.modules()]
    region = receptive_field(model, cloud(), {"few": [1, 2]}, kinds="model_gradient")
    assert region.model_gradient.shape == (1, 37)
    assert model.training
    assert [len(module._forward_hooks) for module in model.modules()] == before
    assert all(p.grad is None for p in model.parameters())


def test_a_model_without_a_prediction_for_each_point_is_refused():
    model = random_model("erwin", decode=False)
    with pytest.raises(BsavizError, match="no prediction belongs to a query point; use a model with decode=True"):
        receptive_field(model, cloud(), 0, kinds="model_gradient")
