import numpy as np
import pytest
import xarray as xr
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import receptive_field, summary


@pytest.fixture
def field():
    """Four points on a line of length 10, of areas 1, 2, 3, 4; the query is the second; one layer and head."""
    structural = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0]], bool)
    mass = np.array([[0.2, 0.3, 0, 0], [0.1, 0.1, 0.1, 0.1], [0, 0, 0, 0.6], [0, 0, 0, 0]], np.float32)
    dims = ("query", "layer", "head", "branch", "point")
    return xr.Dataset(
        {
            "structural": (dims, structural[None, None, None]),
            "mass": (dims, mass[None, None, None]),
            "position": (("point", "xyz"), np.array([[0, 0, 0], [2, 0, 0], [5, 0, 0], [10, 0, 0]], np.float32)),
            "area": ("point", np.array([1, 2, 3, 4], np.float32)),
        },
        coords={"query": [1], "layer": [0], "head": [0], "branch": ["ball", "compression", "selection", "full"]},
    )


def test_numbers_worked_out_by_hand(field):
    numbers = summary(field).squeeze()
    close = lambda name, expected: np.testing.assert_allclose(numbers[name], expected, rtol=1e-6, atol=1e-12)
    close("points_read", [2, 4, 1, 0])
    close("surface_read", [30, 100, 40, 0])
    close("mean_distance", [0.1, (0.2 + 0 + 0.3 + 0.8) / 4, 0.8, np.nan])
    close("mass", [0.5, 0.4, 0.6, 0])
    close("mass_distance", [0.2 * 0.2 / 0.5, 1.3 / 4, 0.8, np.nan])
    close("mass_outside_ball", [0, 0.2, 0.6, 0])
    assert all({"units", "long_name"} <= set(v.attrs) for v in numbers.data_vars.values())


def test_a_cloud_counts_points():
    field = receptive_field(random_model(), cloud(), [3, 8])
    numbers = summary(field)
    assert set(numbers.points_read.dims) == {"query", "layer", "head", "branch"}
    np.testing.assert_allclose(numbers.surface_read, 100 * numbers.points_read / 37, rtol=1e-6)
    np.testing.assert_allclose(numbers.mass, field.gate, rtol=1e-5)
    assert (numbers.mass_outside_ball.sel(branch="ball") == 0).all()
    assert len(numbers.sel(layer=1).to_dataframe()) == 2 * 2 * 3


def test_a_selection_of_a_field_and_either_kind(field):
    one = field.sel(query=1, layer=0, head=0)
    assert summary(one).points_read.dims == ("branch",)
    assert float(summary(one.sel(branch="selection")).mean_distance) == pytest.approx(0.8)
    assert "mass" not in summary(field.drop_vars("mass"))
    xr.testing.assert_equal(summary(field.drop_vars("structural")), summary(field))


@pytest.mark.parametrize("name", ["full", "ball"])
def test_other_attentions(name):
    numbers = summary(receptive_field(random_model(name), cloud(), 3))
    assert ("mass_outside_ball" in numbers) == (name == "ball")
    np.testing.assert_allclose(numbers.mass, 1, rtol=1e-5)


def test_points_all_in_one_place():
    numbers = summary(receptive_field(random_model("full"), np.zeros((5, 3)), 0))
    assert (numbers.mean_distance == 0).all()


def test_bad_input():
    with pytest.raises(BsavizError, match="expected a dataset of bsaviz.receptive_field.*got variables"):
        summary(xr.Dataset({"gate": 1}))
