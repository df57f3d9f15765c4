"""Regions, landmarks and names as queries."""

import numpy as np
import pytest
import xarray as xr
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.datasets import load_car
from bsaviz.demo import bonnet
from bsaviz.fields import KINDS, LANDMARKS, Region, landmarks, receptive_field, save, summary

POINTS = cloud(75)
MEMBERS = [3, 40, 41]


@pytest.fixture(scope="module")
def both():
    """The field of a region, and those of its points."""
    model = random_model()
    kinds = [kind for kind in KINDS if "gradient" not in kind]
    region = receptive_field(model, POINTS, {"front": MEMBERS, "one": 5}, kinds=kinds)
    return region, receptive_field(model, POINTS, MEMBERS, kinds=kinds)


def test_a_region_reads_the_union_and_has_the_mean_mass(both):
    region, points = both
    one = region.isel(query=0)
    for kind in ("structural", "reach"):
        np.testing.assert_array_equal(one[kind], points[kind].any("query"))
    for kind in ("mass", "rollout", "gate"):
        np.testing.assert_allclose(one[kind], points[kind].mean("query"), rtol=1e-5, atol=1e-8)


def test_chunks_of_a_region_do_not_matter(both, monkeypatch):
    monkeypatch.setattr("bsaviz.fields.layerwise.AT_ONCE", 1)
    again = receptive_field(random_model(), POINTS, {"front": MEMBERS, "one": 5})
    for kind in ("structural", "mass"):
        np.testing.assert_allclose(again[kind], both[0][kind], rtol=1e-6)


def test_labels_of_regions(both, tmp_path):
    region, _ = both
    assert region["region"].values.tolist() == ["front", "one"]
    assert [np.flatnonzero(row).tolist() for row in region["in_region"]] == [MEMBERS, [5]]
    middle = POINTS[MEMBERS].mean(0)
    assert int(region["query"][0]) == MEMBERS[np.linalg.norm(POINTS[MEMBERS] - middle, axis=1).argmin()]
    assert region.set_xindex("region").sel(region="one").sizes["point"] == 75
    assert region.attrs["title"] == "receptive field of 2 regions of cloud"
    save(region, tmp_path / "regions.nc")
    with xr.open_dataset(tmp_path / "regions.nc") as back:
        xr.testing.assert_identical(back.load(), region)


def test_distances_of_a_region_are_from_its_nearest_point(both):
    region, _ = both
    apart = np.linalg.norm(POINTS[:, None] - POINTS[MEMBERS], axis=-1).min(1) / np.ptp(POINTS, axis=0).max()
    reads = region["structural"].isel(query=0, layer=0, head=0, branch=0)
    numbers = summary(region)
    assert float(numbers.mean_distance[0, 0, 0, 0]) == pytest.approx(apart[reads.values].mean(), rel=1e-5)
    assert numbers.mean_distance.dims == region["structural"].dims[:-1]
    one = summary(region.isel(query=0))
    np.testing.assert_allclose(one.mean_distance, numbers.mean_distance[0])


@pytest.mark.parametrize(
    ("query", "names", "members"),
    [
        (Region("r", [3, 9]), ["r"], [[3, 9]]),
        ([12, Region("r", [3, 9]), "nose"], ["point 12", "r", "nose"], [[12], [3, 9], None]),
        ({"here": POINTS[7].tolist(), "there": POINTS[[1, 2]]}, ["here", "there"], [[7], [1, 2]]),
        ("tail", ["tail"], [None]),
    ],
)
def test_forms_of_a_query(query, names, members):
    field = receptive_field(random_model(), POINTS, query, layers=0, heads=0, kinds="structural")
    assert field["region"].values.tolist() == names
    found = landmarks(POINTS)
    for i, (name, points) in enumerate(zip(names, members)):
        points = [found[name]] if points is None else points
        inside = field["in_region"][i] if "in_region" in field else None
        assert field["query"][i] in points
        assert inside is None or np.flatnonzero(inside).tolist() == points


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({}, "query is an empty mapping; name at least one point or region"),
        ({"a": []}, "region 'a' has no points; give at least one"),
        ({"a": [1, 1]}, "region 'a' names a point twice"),
        ({"a": [1, 99]}, "query 99 is out of range"),
        ({3: [1]}, "a region's name must be a text that is not empty, got 3"),
        (["nose", "wing"], "there is no landmark 'wing'; a query by name is one of nose, bonnet, windscreen"),
    ],
)
def test_bad_regions(query, message):
    with pytest.raises(BsavizError, match=message):
        receptive_field(random_model(), POINTS, query)


@pytest.mark.parametrize("number", range(6))
def test_landmarks_of_generated_cars_lie_where_they_are_named(number):
    car = load_car(f"generated:{number}")
    found = landmarks(car)
    assert tuple(found) == LANDMARKS
    assert found["bonnet"] == bonnet(car)
    low, span = car.positions.min(0), np.ptp(car.positions, axis=0)
    at = {name: (car.positions[point] - low) / span for name, point in found.items()}
    behind = lambda name: at[name][0]
    assert 0 == pytest.approx(behind("nose"), abs=0.02)
    assert 1 == pytest.approx(behind("tail"), abs=0.02)
    assert behind("bonnet") < behind("windscreen") < behind("roof")
    assert at["bonnet"][2] < at["windscreen"][2] < at["roof"][2]
    assert all(abs(at[name][1] - 0.5) < 0.1 for name in ("nose", "bonnet", "windscreen", "roof", "tail"))
    assert at["mirror line"][1] < 0.02  # the door mirror stands out farthest, on the driver's side
    assert at["wheel arch"][1] < 0.15
    assert 0.12 < behind("wheel arch") < 0.28
    assert 0.3 < at["wheel arch"][2] < 0.6


def test_landmarks_want_three_dimensions():
    with pytest.raises(BsavizError, match=r"landmarks needs a car or points of shape \(P, 3\), got \(4, 2\)"):
        landmarks(np.zeros((4, 2)))
    assert set(landmarks(np.zeros((1, 3))).values()) == {0}
