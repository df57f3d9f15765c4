"""A car with a field on it, and pictures of real and generated cars."""

import numpy as np
import pytest
import pyvista
from PIL import Image
from view_cases import body

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, load_car
from bsaviz.models import build
from bsaviz.view import car_figure
from bsaviz.view.car import car_picture


@pytest.fixture
def car():
    points, faces = body()
    fields = {"pressure": points[:, 0] * 100, "speed": points[:, 0] ** 2, "velocity": points}
    return Car("test car", points, faces, fields, {"pressure": "Pa"}, "made up")


def test_a_field_of_both_signs_is_centred_on_zero(car):
    drawn = car_picture(car)
    assert drawn.bar.low == -drawn.bar.high
    assert drawn.bar.high == pytest.approx(np.percentile(car.fields["pressure"], 99), rel=5e-3)
    assert drawn.bar.label == f"pressure (Pa) (colours span -{drawn.bar.high:g} to {drawn.bar.high:g})"
    assert drawn.panels[0].heading == "test car"
    assert drawn.panels[0].caption == "from -200 to 200 Pa"
    assert drawn.bar.levels(0) == 128


def test_a_field_of_one_sign_and_a_given_range(car):
    assert car_picture(car, "speed").bar.low >= 0
    assert (car_picture(car, clim=(-50, 10)).bar.low, car_picture(car, clim=(-50, 10)).bar.high) == (-50, 10)


def test_the_figure_is_written(car, tmp_path):
    path = car_figure(car, tmp_path / "car.png", window_size=(500, 320))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert pixels.shape == (320, 500, 3)
    red, blue = (pixels[..., 0] - pixels[..., 2] > 60).sum(), (pixels[..., 2] - pixels[..., 0] > 60).sum()
    assert red > 1000
    assert blue > 1000


def test_fields_that_cannot_be_painted(car, tmp_path):
    with pytest.raises(BsavizError, match="no field 'heat'; it has pressure, speed, velocity"):
        car_figure(car, tmp_path / "x.png", "heat")
    with pytest.raises(BsavizError, match=r"'velocity' has shape \(866, 3\); a picture paints one number a point"):
        car_figure(car, tmp_path / "x.png", "velocity")


def exported(car, folder):
    """A model's receptive field and gates on a car, through every export."""
    model = build("bsa", "tiny")
    rf, gates = bsaviz.receptive_field(model, car, len(car.positions) // 3), bsaviz.gates(model, car)
    for ds in (rf, gates):
        with Image.open(ds.bsa.screenshot(folder / "still.png", window_size=(900, 300))) as image:
            assert 0.15 < (np.asarray(image.convert("RGB")).min(-1) < 240).mean() < 0.7
        assert ds.bsa.export_html(folder / "page.html").stat().st_size < 2e6
        assert ds.bsa.export_glb(folder / "scene.glb").stat().st_size < 1e7
        assert pyvista.read(ds.bsa.save_vtp(folder / "mesh.vtp")).n_points == len(car.positions)


def test_a_generated_car(tmp_path):
    car = load_car("generated:7")
    assert car_picture(car).bar.label.startswith("pressure (Pa)")
    exported(car, tmp_path)


@pytest.mark.parametrize(
    "name", ["mlcfd_data/training_data/param0/car_a", "meshes/gazebo_hatchback.obj", "meshes/gazebo_prius_hybrid.obj"]
)
def test_real_cars(real_data, name, tmp_path):
    exported(load_car(real_data / name), tmp_path)
