"""Real files, where they are at hand (``BSAVIZ_REAL_DATA``)."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import ShapeNetCar, load_car
from bsaviz.datasets.shapenet import PRESSURE_MEAN, PRESSURE_STD


def low_nose(car):
    """Whether the front third is lower than the rear third."""
    x, z = car.positions[:, 0], car.positions[:, 2]
    third = np.ptp(x) / 3
    return np.percentile(z[x < x.min() + third], 95) < np.percentile(z[x > x.max() - third], 95)


@pytest.mark.parametrize("name", ["car_a", "car_b"])
def test_released_cars(real_data, name):
    folder = real_data / "mlcfd_data/training_data/param0" / name
    car = load_car(folder)
    press = np.load(folder / "press.npy")
    assert car.num_points == 3586
    assert (car.pressure == np.delete(press, np.arange(16, 112))).all()
    assert np.ptp(car.positions, axis=0).argsort().tolist() == [2, 1, 0]
    assert abs(car.pressure.mean() - PRESSURE_MEAN) < 10
    assert abs(car.pressure.std() - PRESSURE_STD) < 15
    stagnation = car.positions[car.pressure > 150]
    assert len(stagnation)
    assert (stagnation[:, 0] < car.positions[:, 0].min() + 0.15 * car.length).all()
    outwards = np.einsum("pi,pi->p", car.normals, car.positions - car.positions.mean(axis=0))
    assert (outwards > 0).mean() > 0.9
    assert 20 < car.point_areas.sum() < 25


def test_the_folder_of_released_cars(real_data):
    cars = ShapeNetCar(real_data)
    assert cars.ids == ["param0/car_a", "param0/car_b"]
    assert len(ShapeNetCar(real_data, "test")) == len(ShapeNetCar(real_data, "train")) == 1
    assert load_car("shapenet:car_b", root=real_data).name == "car_b"


def test_formula_one(real_data):
    pytest.importorskip("pyvista")
    car = load_car(real_data / "f1/f1.vtp")
    assert (car.num_points, len(car.faces)) == (90819, 181042)
    assert car.attrs["pressure_field"] == "p"
    assert car.pressure.min() == pytest.approx(-6222.66, abs=0.01)
    assert car.fields["U"].shape == (90819, 3)
    assert car.attrs["frame"].startswith("canonical: x = +x, y = +y, z = +z")
    assert low_nose(car)
    few = load_car(real_data / "f1/f1.vtp", num_points=4096)
    assert few.num_points == 4096
    assert few.point_areas.sum() == pytest.approx(car.point_areas.sum(), rel=0.05)


@pytest.mark.parametrize(("name", "points"), [("gazebo_hatchback", 410), ("gazebo_prius_hybrid", 1130)])
def test_vehicle_meshes(real_data, name, points):
    pytest.importorskip("pyvista")
    car = load_car(real_data / f"meshes/{name}.obj")
    assert car.num_points == points
    assert np.ptp(car.positions, axis=0).argsort().tolist() == [2, 1, 0]
    assert car.attrs["frame"].startswith("canonical: x = +y, y = -x, z = +z")
    assert low_nose(car)
    with pytest.raises(BsavizError, match="no field 'pressure'"):
        car.pressure  # noqa: B018
    even = load_car(real_data / f"meshes/{name}.obj", num_points=3586)
    assert even.num_points == 3586
    assert even.point_areas.sum() == pytest.approx(car.point_areas.sum(), rel=0.02)


def test_a_truncated_real_file(real_data, tmp_path):
    pytest.importorskip("pyvista")
    for path in (real_data / "mlcfd_data/training_data/param0/car_a/quadpress_smpl.vtk", real_data / "f1/f1.vtp"):
        whole = path.read_bytes()
        for share in (0.3, 0.6, 0.9):
            (tmp_path / path.name).write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(BsavizError, match="truncated or damaged"):
                load_car(tmp_path / path.name)
