"""A kept trace answers as the functions do, with no forward pass."""

import numpy as np
import pytest
import xarray as xr
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import Trace, gates, receptive_field


@pytest.fixture
def trace(model, car):
    return Trace(model, car)


@pytest.mark.parametrize("name", ["bsa", "bsa-group-compression", "bsa-no-group-selection", "ball", "full"])
def test_it_gives_the_very_dataset_of_receptive_field(name, car):
    model = random_model(name)
    trace = Trace(model, car)
    for query, choice in ((5, {}), ([30, 2], dict(layers=1, heads=[1], kinds="mass"))):
        expected = receptive_field(model, car, query, **choice)
        xr.testing.assert_identical(trace.receptive_field(query, **choice), expected)


def test_no_forward_pass_after_the_first(trace, monkeypatch):
    monkeypatch.setattr(trace.model, "forward", None)
    assert trace.receptive_field([1, 2]).sizes["query"] == 2
    assert set(trace.readable(3, 0)) == {"ball", "compression", "selection"}


def test_the_fast_paths_equal_the_dataset(trace):
    field = trace.receptive_field(7, layers=1).isel(query=0, layer=0)
    for b, branch in enumerate(field.branch.values):
        one = field.isel(branch=b)
        np.testing.assert_array_equal(trace.readable(7, 1)[branch], one.structural.any("head"))
        np.testing.assert_array_equal(trace.readable(7, 1, head=1)[branch], one.structural.sel(head=1))
        np.testing.assert_allclose(trace.mass(7, 1)[branch], one.mass.mean("head"), rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(trace.mass(7, 1, head=0)[branch], one.mass.sel(head=0), rtol=1e-6, atol=1e-12)
    assert trace.readable(7, 1)["ball"].dtype == bool
    assert trace.mass(7, 1)["ball"].dtype == np.float32


def test_gates_in_input_order(trace, model, car):
    np.testing.assert_array_equal(trace.gates(1), gates(model, car).gate.sel(layer=1))
    assert (Trace(random_model("full"), car).gates(0) == 1).all()


def test_only_the_layers_asked_for_are_kept(model, car):
    trace = Trace(model, car, layers=0)
    assert trace.receptive_field(3).layer.values.tolist() == [0]
    for ask in (lambda: trace.readable(3, 1), lambda: trace.receptive_field(3, layers=1)):
        with pytest.raises(BsavizError, match="there is no layer 1; choose from: 0"):
            ask()


@pytest.mark.parametrize("query", [37, -1, 2.0, True, "nose", [3]])
def test_the_fast_paths_take_one_index(trace, query):
    with pytest.raises(BsavizError, match="query must be the index of one of the 37 points, 0..36, got"):
        trace.readable(query, 0)
    with pytest.raises(BsavizError, match="query must be the index"):
        trace.mass(query, 0)


def test_bad_input(model, trace):
    with pytest.raises(BsavizError, match="there is no head 5; choose from: 0, 1"):
        trace.mass(3, 0, head=5)
    with pytest.raises(BsavizError, match="there is no layer 4"):
        Trace(model, cloud(), layers=4)
    with pytest.raises(BsavizError, match="model must be a model of bsaviz"):
        Trace(np.sin, cloud())
