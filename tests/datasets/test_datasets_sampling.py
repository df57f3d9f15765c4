import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car
from bsaviz.datasets._sampling import farthest_points


def brute_force(points, n, first):
    picked = [first]
    left = np.linalg.norm(points - points[first], axis=1)
    while len(picked) < n:
        picked.append(int(left.argmax()))
        left = np.minimum(left, np.linalg.norm(points - points[picked[-1]], axis=1))
    return sorted(picked)


@given(seed=st.integers(0, 10**6), count=st.integers(2, 300), data=st.data())
@settings(max_examples=40, deadline=None)
def test_it_picks_what_comparing_all_points_picks(seed, count, data):
    points = np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)
    n = data.draw(st.integers(1, count))
    first = int(np.random.default_rng(seed).integers(count))
    assert farthest_points(points, n, seed).tolist() == brute_force(points, n, first)


@pytest.mark.parametrize("points", [np.zeros((50, 3)), np.repeat(np.eye(3), 20, axis=0), np.eye(3)[[0] * 5]])
def test_coinciding_points_are_picked_once_each(points):
    for n in (1, 2, len(points) - 1, len(points)):
        assert len(set(farthest_points(points.astype(np.float32), n).tolist())) == n


def test_subsample_keeps_fields_order_and_notes(toy):
    fields = {"pressure": toy.pressure, "row": np.arange(210)}
    car = Car("toy", toy.points, toy.faces, fields, {"pressure": "Pa"}, "here", {"seed": 3})
    few = car.subsample(60)
    rows = few.fields["row"]
    assert (np.diff(rows) > 0).all()
    assert (few.positions == car.positions[rows]).all()
    assert (few.pressure == car.pressure[rows]).all()
    assert (few.units, few.source, few.name) == (car.units, car.source, car.name)
    assert few.attrs == {"seed": 3, "subsampled_from": 210, "subsample_seed": 0}
    assert car.subsample(210) is car
    assert car.subsample(10**6) is car


def test_subsample_depends_on_its_seed_alone(toy):
    car = Car("toy", toy.points, toy.faces)
    assert (car.subsample(50, 1).positions == car.subsample(50, 1).positions).all()
    assert (car.subsample(50, 1).positions != car.subsample(50, 2).positions).any()


def test_subsample_is_spread_evenly_over_a_dense_and_a_coarse_half():
    rng = np.random.default_rng(0)
    points = np.zeros((20000, 3))
    points[:19000, :2] = rng.random((19000, 2))
    points[19000:, :2] = rng.random((1000, 2)) + [1, 0]
    few = Car("two squares", points).subsample(400)
    assert 160 <= (few.positions[:, 0] < 1).sum() <= 240  # a random choice would take 380


def test_the_faces_of_a_subset_still_cover_the_body(toy):
    car = Car("toy", toy.points, toy.faces).refine(4000)
    few = car.subsample(500)
    assert few.point_areas.sum() == pytest.approx(car.point_areas.sum(), rel=0.03)
    assert (few.point_areas > 0).all()
    towards = np.einsum("pi,pi->p", few.normals, few.positions - few.positions.mean(axis=0))
    assert (towards > 0).mean() > 0.99  # the winding of the file is kept


def test_one_point_has_no_faces_left(toy):
    assert Car("toy", toy.points, toy.faces).subsample(1).faces is None


@pytest.mark.parametrize("n", [0, -1, 2.5])
def test_subsample_needs_a_positive_whole_number(toy, n):
    with pytest.raises(BsavizError, match=f"subsample needs a positive whole number of points, got {n}"):
        Car("toy", toy.points).subsample(n)


@pytest.mark.parametrize("n", [211, 500, 3000])
def test_refine_splits_without_gaps_or_changed_shape(toy, n):
    car = Car("toy", toy.points, toy.faces, {"pressure": toy.points @ [1, 2, 3]})
    fine = car.refine(n)
    assert fine.num_points >= n
    assert (fine.positions[:210] == car.positions).all()
    assert fine.point_areas.sum() == pytest.approx(car.point_areas.sum(), rel=1e-5)
    assert fine.pressure == pytest.approx(fine.positions @ [1, 2, 3], abs=1e-4)  # a linear field stays linear
    sides = np.sort(fine.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    assert (np.unique(sides, axis=0, return_counts=True)[1] == 2).all()  # closed: each side in two triangles
    assert fine.attrs["refined_from"] == 210


def test_refine_leaves_clouds_and_fine_meshes_alone(toy):
    cloud, mesh = Car("toy", toy.points), Car("toy", toy.points, toy.faces)
    assert cloud.refine(1000) is cloud
    assert mesh.refine(210) is mesh
