"""``mesh.bsa`` on pyvista meshes."""

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from fields_cases import random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import gates, receptive_field

pyvista = pytest.importorskip("pyvista")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def mesh(car):
    import bsaviz._mesh_accessor  # noqa: F401

    return car.to_pyvista()


def test_a_mesh_as_a_car(mesh, car):
    found = mesh.bsa.car(name="fan", frame="file")
    np.testing.assert_array_equal(found.positions, car.positions)
    np.testing.assert_array_equal(found.faces, car.faces)
    np.testing.assert_array_equal(found.pressure, car.pressure)
    assert (found.name, found.source, found.attrs["pressure_field"]) == ("fan", "pyvista", "pressure")
    assert mesh.bsa is mesh.bsa
    assert mesh.bsa.car(field="pressure", up="z", forward="-x").attrs["frame"].startswith("canonical")


def test_fields_gates_and_trees(mesh, model):
    car = dict(frame="file")
    own = mesh.bsa.car(**car)
    choice = dict(layers=0, kinds="structural")
    xr.testing.assert_identical(
        mesh.bsa.receptive_field(model, [3, 5], car=car, **choice), receptive_field(model, own, [3, 5], **choice)
    )
    xr.testing.assert_identical(mesh.bsa.gates(model, car=car, heads=1), gates(model, own, heads=1))
    tree = mesh.bsa.ball_tree(ball_size=16, block_size=4, rotation_angle=45)
    assert (tree.num_points, tree.ball_size, tree.rotation is not None) == (37, 16, True)


def test_other_meshes_and_clouds():
    import bsaviz._mesh_accessor  # noqa: F401

    model = random_model()
    assert pyvista.Sphere().bsa.receptive_field(model, 0, layers=0).sizes["point"] == pyvista.Sphere().n_points
    assert pyvista.PolyData(np.random.default_rng(0).normal(size=(30, 3))).bsa.car().faces is None
    box = pyvista.ImageData(dimensions=(4, 4, 4)).bsa.car()
    assert (box.num_points, len(box.faces)) == (56, 6 * 9 * 2)


def test_bad_input(mesh, model):
    with pytest.raises(BsavizError, match="has no point field 'speed'"):
        mesh.bsa.car(field="speed")
    with pytest.raises(BsavizError, match="the mesh is empty: it has no points"):
        pyvista.PolyData().bsa.car()
    with pytest.raises(BsavizError, match="query 37 is out of range"):
        mesh.bsa.receptive_field(model, 37)
    from bsaviz.datasets.from_pyvista import car_from_pyvista

    with pytest.raises(BsavizError, match="expected a pyvista mesh with points, got int"):
        car_from_pyvista(3)


_BARE = "import pyvista as pv, sys; print(pv.Sphere().bsa.car().num_points, 'torch' in sys.modules)"


def test_pyvista_finds_it_without_an_import():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("entry-points", {})
    assert declared.get("pyvista.accessors") == {"bsa": "bsaviz._mesh_accessor"}
    if not importlib.metadata.entry_points(group="pyvista.accessors", name="bsa"):
        pytest.skip("installed before the entry point was declared: install again")
    done = subprocess.run([sys.executable, "-c", _BARE], capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == [str(pyvista.Sphere().n_points), "False"], done.stderr
