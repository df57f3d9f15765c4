import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import gates, probe, receptive_field


def test_gates_are_those_of_the_layers_in_input_order(model, car):
    ds = gates(model, car)
    assert ds.gate.dims == ("layer", "head", "branch", "point")
    tree = model.tree(torch.from_numpy(car.positions))
    with probe(model, "layers.*.attn.gate") as record:
        model(torch.from_numpy(car.positions))
    for layer, own in enumerate((tree, tree.rotated)):
        leaves = record[f"layers.{layer}.attn.gate"][0]
        for point in (0, 17, 36):
            slot = np.flatnonzero(own.mask[0] & (own.order[0] == point))[0]
            np.testing.assert_array_equal(ds.gate.sel(layer=layer)[..., point], leaves[:, slot])
    np.testing.assert_array_equal(ds.position, car.positions)
    assert {"faces", "pressure", "area"} <= set(ds.data_vars)
    assert (ds.attrs["car"], ds.attrs["model_gate"]) == ("fan", "token")


@pytest.mark.parametrize("overrides", [{}, dict(gate="static"), dict(published=True)])
def test_gates_agree_with_receptive_fields(overrides):
    model, points = random_model(**overrides), cloud()
    every, field = gates(model, points, heads=[1]), receptive_field(model, points, [3, 8], heads=[1])
    expected = every.gate.isel(point=[3, 8]).transpose("point", ...)
    np.testing.assert_array_equal(field.gate, expected)


def test_chosen_layers_and_heads(model):
    ds = gates(model, cloud(), layers=1, heads=[1, 0])
    assert (ds.layer.values.tolist(), ds["head"].values.tolist()) == ([1], [1, 0])
    np.testing.assert_array_equal(ds.gate, gates(model, cloud()).gate.sel(layer=[1], head=[1, 0]))


@pytest.mark.parametrize("name", ["full", "ball"])
def test_a_model_without_gates_says_so(name):
    with pytest.raises(BsavizError, match=f"this model has no gates: its attention is '{name}'.*build"):
        gates(random_model(name), cloud())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(layers=9), "there is no layer 9"),
        (dict(heads=9), "there is no head 9"),
        (dict(car=3), "car must be a Car"),
    ],
)
def test_bad_input(model, arguments, message):
    with pytest.raises(BsavizError, match=message):
        gates(model, **{"car": cloud(), **arguments})
