"""Receptive fields as sets and as a dataset: which points, in which order, with which labels."""

import numpy as np
import pytest
import torch
import xarray as xr
from fields_cases import cloud, random_model
from hypothesis import given, settings
from hypothesis import strategies as st

from bsaviz._checks import BsavizError
from bsaviz.fields import probe, receptive_field


def members(tree, slots):
    """Input points in the given slots of a tree."""
    return {int(p) for p, real in zip(tree.order[0, slots], tree.mask[0, slots]) if real}


def read(field, **where):
    return set(np.flatnonzero(field.structural.sel(**where)).tolist())


@pytest.mark.parametrize("name", ["bsa", "bsa-group-compression", "bsa-no-group-selection"])
def test_sets_from_the_tree_and_the_chosen_blocks(name):
    model, points, query = random_model(name), cloud(75), 31
    main = model.tree(torch.from_numpy(points))
    field = receptive_field(model, points, query, kinds="structural")
    assert "mass" not in field
    with probe(model, "layers.*.attn.indices") as record, torch.no_grad():
        model(torch.from_numpy(points))
    for layer, tree in enumerate((main, main.rotated)):
        slot = int(tree.inverse[query])
        ball = slot // 16 * 16
        group = slot if name == "bsa-no-group-selection" else slot // 4
        for head in (0, 1):
            at = dict(query=query, layer=layer, head=head)
            assert read(field, **at, branch="ball") == members(tree, slice(ball, ball + 16))
            assert read(field, **at, branch="compression") == set(range(75))
            blocks = record[f"layers.{layer}.attn.indices"][0, head, group]
            chosen = [members(tree, slice(4 * b, 4 * b + 4)) for b in blocks.tolist() if b >= 0]
            assert read(field, **at, branch="selection") == set().union(*chosen)
            assert not read(field, **at, branch="selection") & read(field, **at, branch="ball")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60))
def test_permuting_the_points_permutes_the_field(seed, points):
    generator = np.random.default_rng(seed)
    positions, order = generator.normal(size=(points, 3)).astype(np.float32), generator.permutation(points)
    model = random_model().double()
    query = generator.integers(points, size=3)
    before = receptive_field(model, positions, order[query].tolist())
    after = receptive_field(model, positions[order], query.tolist())
    np.testing.assert_array_equal(after.structural, before.structural.values[..., order])
    np.testing.assert_allclose(after.mass, before.mass.values[..., order], rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(after.gate, before.gate.values, rtol=1e-6)


def test_queries_layers_and_heads_come_in_the_order_asked(model):
    every = receptive_field(model, cloud(), range(37))
    some = receptive_field(model, cloud(), [30, 2, 30], layers=[1, 0], heads=[1])
    assert some["query"].values.tolist() == [30, 2, 30]
    assert (some.layer.values.tolist(), some["head"].values.tolist()) == ([1, 0], [1])
    xr.testing.assert_allclose(some, every.isel(query=[30, 2, 30], layer=[1, 0], head=[1]).assign_attrs(some.attrs))


def test_many_queries_at_once_equal_one_at_a_time(model, monkeypatch):
    at_once = receptive_field(model, cloud(), [1, 5, 9])
    monkeypatch.setattr("bsaviz.fields.layerwise.AT_ONCE", 1)
    xr.testing.assert_identical(receptive_field(model, cloud(), [1, 5, 9]), at_once)


def test_a_place_means_its_nearest_point(model):
    points = cloud()
    one = receptive_field(model, points, tuple(points[12].tolist()), kinds="structural")
    assert one["query"].values.tolist() == [12]
    rows = receptive_field(model, points, points[[7, 3]] + 1e-4, kinds="structural")
    assert rows["query"].values.tolist() == [7, 3]


@pytest.mark.parametrize("query", [4, np.int32(4), [4], np.array([4]), torch.tensor(4), torch.tensor([4])])
def test_an_index_in_any_form(model, query):
    assert receptive_field(model, cloud(), query, layers=0)["query"].values.tolist() == [4]


def test_the_pass_ends_after_the_last_layer_asked_for(model):
    seen = []
    handles = [layer.register_forward_hook(lambda *_, i=i: seen.append(i)) for i, layer in enumerate(model.layers)]
    receptive_field(model, cloud(), 0, layers=0)
    assert seen == []
    receptive_field(model, cloud(), 0, layers=1)
    assert seen == [0]
    for handle in handles:
        handle.remove()


def test_the_dataset_says_what_it_holds(model, car):
    field = receptive_field(model, car, 5)
    assert dict(field.sizes) == dict(query=1, layer=2, head=2, branch=3, point=37, xyz=3, face=35, corner=3)
    assert field.structural.dims == field.mass.dims == ("query", "layer", "head", "branch", "point")
    assert field.branch.values.tolist() == ["ball", "compression", "selection"]
    assert all({"units", "long_name"} <= set(v.attrs) for v in field.data_vars.values())
    np.testing.assert_array_equal(field.position, car.positions)
    np.testing.assert_array_equal(field.faces, car.faces)
    np.testing.assert_array_equal(field.pressure, car.pressure)
    np.testing.assert_array_equal(field.area, car.point_areas)
    assert (field.position.units, field.pressure.units) == ("m", "Pa")
    said = field.attrs
    assert (said["car"], said["source"], said["car_frame"], said["car_seed"]) == ("fan", "made up", "canonical", 3)
    assert (said["model_attention"], said["model_group_selection"], said["model_rotation_angle"]) == ("bsa", 1, 45.0)
    assert (said["tree_ball_size"], said["tree_slots"], said["tree_angle"]) == (16, 48, 45.0)
    assert (said["device"], said["dtype"]) == ("cpu", "float32")
    assert all(type(value) in (str, int, float) for value in said.values())


def test_features_by_name_or_as_an_array(car):
    model = random_model(in_features=4)
    by_name = receptive_field(model, car, 5, features=["pressure", "velocity"])
    array = np.concatenate([car.pressure[:, None], car.fields["velocity"]], axis=1)
    xr.testing.assert_identical(by_name, receptive_field(model, car, 5, features=array))
    assert not by_name.mass.equals(receptive_field(model, car, 5, features=array * 2).mass)


def test_the_feature_normals_is_the_surface_s_own_as_in_training(car):
    model = random_model(in_features=3)
    by_name = receptive_field(model, car, 5, features="normals")
    xr.testing.assert_identical(by_name, receptive_field(model, car, 5, features=car.normals))
    with pytest.raises(BsavizError, match="has no field 'normals'"):
        receptive_field(model, car.positions, 5, features="normals")


def test_progress_shows_a_bar(model, capsys):
    receptive_field(model, cloud(), 0, progress=True)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(query=37), "query 37 is out of range: this cloud has 37 points, 0..36"),
        (dict(query=[0, -1]), "query -1 is out of range"),
        (dict(query=[]), "query must be a point's index"),
        (dict(query="snout"), "there is no landmark 'snout'; a query by name is one of nose, bonnet"),
        (dict(query=np.zeros((2, 2, 2))), "query must be a point's index"),
        (dict(query=True), "query must be a point's index"),
        (dict(query=(0.5, 1.5)), "a place of 3 floating-point coordinates"),
        (dict(query=(0.5, 1.5, float("nan"))), "is not finite"),
        (dict(layers=2), "there is no layer 2; choose from: 0, 1"),
        (dict(layers=[]), "no layer was asked for"),
        (dict(layers=[0, 0]), "a layer was asked for twice"),
        (dict(heads=[1, 5]), "there is no head 5; choose from: 0, 1"),
        (dict(kinds="gradients"), "there is no kind 'gradients'; choose from: structural, mass"),
        (dict(car="generated:7"), "car must be a Car or an array of points.*load_car"),
        (dict(car=np.zeros((5, 2))), r"spatial_dims=3\), 'cloud' has positions of shape \(5, 2\)"),
        (dict(car=np.zeros((0, 3))), "points must be numbers of shape"),
        (dict(car=np.full((5, 3), np.nan)), "5 of 5 points are NaN or infinite, the first at index 0"),
        (dict(model=torch.nn.Linear(1, 1)), "model must be a model of bsaviz.*got Linear"),
        (dict(features=np.zeros((37, 2))), r"features must be \(37, 0\)"),
    ],
)
def test_bad_input(model, arguments, message):
    given = dict(model=model, car=cloud(), query=0) | arguments
    with pytest.raises(BsavizError, match=message):
        receptive_field(given.pop("model"), given.pop("car"), given.pop("query"), **given)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (None, r"in_features=2\): pass features= .*there are: pressure, velocity"),
        ("speed", "'fan' has no field 'speed' to use as a feature; its fields: pressure, velocity"),
        (["pressure"], r"features must be \(37, 2\).*got \(37, 1\)"),
    ],
)
def test_features_that_do_not_fit(car, features, message):
    with pytest.raises(BsavizError, match=message):
        receptive_field(random_model(in_features=2), car, 0, features=features)
