import dataclasses
import re

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car

TETRA = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)
TETRA_FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def tetra(**changes):
    return Car(**{"name": "tetra", "positions": TETRA, "faces": TETRA_FACES, **changes})


def test_arrays_are_stored_in_the_promised_types():
    car = tetra(fields={"pressure": [1, 2.0, 3, 4], "rows": np.arange(4)})
    assert car.positions.dtype == np.float32
    assert car.faces.dtype == np.int64
    assert car.pressure.dtype == np.float32
    assert car.fields["rows"].dtype == np.int64
    assert car.num_points == 4
    assert tetra(faces=np.zeros((0, 3), int)).faces is None


def test_a_car_does_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        tetra().name = "other"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"positions": np.zeros((4, 2))}, "positions must have shape (points, 3), got (4, 2)"),
        ({"positions": np.zeros(12)}, "positions must have shape (points, 3), got (12,)"),
        ({"positions": np.zeros((0, 3)), "faces": None}, "is empty: it has no points"),
        ({"positions": np.where(TETRA == 1, np.nan, TETRA)}, "3 of 4 positions are NaN or infinite, the first at"),
        ({"positions": np.where(TETRA[:, 2:] == 1, np.inf, TETRA)}, "1 of 4 positions are NaN or infinite, the first"),
        ({"positions": TETRA * 1e300}, "3 of 4 positions are NaN or infinite"),
        ({"faces": [[0, 1, 4]]}, "1 of 1 faces use points that do not exist (points are 0 to 3); the first is"),
        ({"faces": [[0, 1, 2], [-1, 1, 2]]}, "the first is face 1 = [-1, 1, 2]"),
        ({"faces": [[0, 1, 2, 3]]}, "faces must be integers of shape (triangles, 3), got int64 (1, 4); triangulate"),
        ({"faces": [[0.0, 1, 2]]}, "faces must be integers of shape (triangles, 3), got float64 (1, 3)"),
        ({"fields": {"cp": np.zeros(5)}}, "field 'cp' must have one value (or one row) a point: expected 4, got 5"),
        ({"fields": {"cp": np.zeros((1, 4, 1))}}, "expected 4, got an array of shape (1, 4, 1)"),
        ({"fields": {"cp": ["a", "b", "c", "d"]}}, "field 'cp' must hold numbers, got <U1"),
        ({"fields": {"pressure": [0, 1, np.nan, 2]}}, "1 of 4 values of field 'pressure' are NaN or infinite"),
    ],
)
def test_bad_input_says_what_is_wrong(changes, message):
    with pytest.raises(BsavizError, match=re.escape(message)):
        tetra(**changes)


def test_a_missing_pressure_lists_the_fields():
    with pytest.raises(BsavizError, match=r"no field 'pressure' \(its fields: Cp\); .*load_car\(path, field=NAME\)"):
        tetra(fields={"Cp": np.zeros(4)}).pressure  # noqa: B018
    with pytest.raises(BsavizError, match=r"its fields: none"):
        tetra().pressure  # noqa: B018


def test_length_and_areas_of_a_known_body():
    car = tetra(positions=TETRA * 2)
    assert car.length == 2
    assert car.point_areas.sum() == pytest.approx(3 * 2 + np.sqrt(3) / 2 * 4)
    assert car.point_areas[1:] == pytest.approx([(2 + 2 + 2 * np.sqrt(3)) / 3] * 3)
    assert (tetra(faces=None).point_areas == 1).all()


def test_normals_of_a_mesh_point_where_the_winding_says():
    car = tetra()
    assert np.linalg.norm(car.normals, axis=1) == pytest.approx(1)
    assert car.normals[0] == pytest.approx(-np.ones(3) / np.sqrt(3))
    inward = tetra(faces=TETRA_FACES[:, ::-1])
    assert inward.normals == pytest.approx(-car.normals)


def test_a_point_of_no_face_has_no_area_and_no_normal():
    car = tetra(positions=np.concatenate([TETRA, [[5, 5, 5]]]))
    assert car.point_areas[4] == 0
    assert (car.normals[4] == 0).all()


def test_normals_of_a_cloud_point_away_from_its_middle():
    points = np.random.default_rng(0).normal(size=(2000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    normals = Car("sphere", points).normals
    assert (np.einsum("pi,pi->p", normals, points) > 0.97).all()


@pytest.mark.parametrize("points", [np.zeros((1, 3)), np.ones((7, 3)), np.arange(30.0).reshape(10, 3)])
def test_normals_of_degenerate_clouds_are_still_unit(points):
    assert np.linalg.norm(Car("few", points).normals, axis=1) == pytest.approx(1)


def test_to_pyvista_carries_faces_and_fields(toy):
    pytest.importorskip("pyvista")
    mesh = Car("toy", toy.points, toy.faces, {"pressure": toy.pressure}).to_pyvista()
    assert mesh.n_cells == len(toy.faces)
    assert (mesh.regular_faces == toy.faces).all()
    assert (mesh["pressure"] == toy.pressure).all()
    cloud = Car("toy", toy.points).to_pyvista()
    assert (cloud.n_points, cloud.n_cells) == (len(toy.points), len(toy.points))


def test_the_picture_of_a_car_is_its_own_copy(toy):
    pytest.importorskip("pyvista")
    car = Car("toy", toy.points, toy.faces)
    car.to_pyvista().points[:] = 0
    assert car.length > 4


def test_repr_names_what_it_holds(toy):
    assert repr(Car("toy", toy.points, toy.faces)) == f"Car('toy': 210 points, {len(toy.faces)} triangles, fields [])"
    assert "a cloud" in repr(Car("toy", toy.points))


@pytest.mark.parametrize("positions", [np.array([["a", "b", "c"]]), np.ones((4, 3)) + 1j, np.ones((4, 3), bool)])
def test_positions_that_are_no_real_numbers(positions):
    with pytest.raises(BsavizError, match=f"positions must be real numbers, got {positions.dtype}"):
        Car("odd", positions)


def test_a_surface_too_far_from_the_origin_is_refused_and_not_merged():
    points = np.random.default_rng(0).random((50, 3))
    assert Car("near", points + 1e4).length == pytest.approx(np.ptp(points, axis=0).max(), rel=0.01)
    with pytest.raises(BsavizError, match=r"measures 0.9\d+ but lies 1e\+08 from the origin, .*move it to the origin"):
        Car("far", points + 1e8)
