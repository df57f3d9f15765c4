import re
import subprocess
import sys

import numpy as np
import pytest

import bsaviz.datasets
from bsaviz._checks import BsavizError
from bsaviz.datasets import load_car


@pytest.fixture
def cloud(tmp_path, toy):
    np.save(tmp_path / "toy.npy", toy.points)
    return tmp_path / "toy.npy"


@pytest.fixture
def mesh(tmp_path, toy):
    np.savez(tmp_path / "toy.npz", points=toy.points, faces=toy.faces, p=toy.pressure)
    return tmp_path / "toy.npz"


def test_importing_the_package_reads_no_mesh_library():
    code = """
import sys, bsaviz.datasets
from bsaviz.datasets import Car, load_car, ShapeNetCar, fetch
print([name for name in ("pyvista", "vtkmodules", "trimesh", "skimage", "pooch", "torch") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_an_unknown_name_of_the_package_lists_the_known():
    with pytest.raises(AttributeError, match="has no attribute 'load_cat'; it offers Car, Sample, load_car"):
        bsaviz.datasets.load_cat  # noqa: B018
    assert "load_car" in dir(bsaviz.datasets)


def test_num_points_takes_a_subset_or_refines(mesh, cloud):
    assert load_car(mesh, num_points=100).num_points == 100
    fine = load_car(mesh, num_points=1000)
    assert fine.num_points == 1000
    assert fine.attrs["refined_from"] == 210
    assert fine.pressure.min() >= -40  # between the values that are there
    assert load_car(cloud, num_points=1000).num_points == 210
    assert (load_car(mesh, num_points=50, seed=1).positions != load_car(mesh, num_points=50).positions).any()


@pytest.mark.parametrize("n", [0, -3, 1.5])
def test_num_points_must_be_a_number_of_points(mesh, n):
    with pytest.raises(BsavizError, match=f"num_points must be a positive whole number, got {n}"):
        load_car(mesh, num_points=n)


def test_axes_and_field_can_be_stated(mesh):
    assert "up as stated" in load_car(mesh, up="z").attrs["frame"]
    assert load_car(mesh, field="p").attrs["pressure_field"] == "p"
    with pytest.raises(BsavizError, match="no point field 'q' of one component; those it has: p"):
        load_car(mesh, field="q")


def test_an_only_field_of_another_kind_does_not_tell_the_nose(tmp_path, toy):
    np.savez(tmp_path / "hot.npz", points=toy.points, faces=toy.faces, temperature=toy.points[:, 0])
    assert "nose by the lower end" in load_car(tmp_path / "hot.npz").attrs["frame"]
    assert "nose by the pressure" in load_car(tmp_path / "hot.npz", field="temperature").attrs["frame"]


def test_the_home_folder_may_be_written_short(cloud, monkeypatch):
    monkeypatch.setenv("HOME", str(cloud.parent))
    assert load_car("~/toy.npy").num_points == 210


def test_a_missing_file_says_what_is_near(cloud):
    with pytest.raises(BsavizError, match=r"no file or folder '.*toi.npy'; .* has toy.npy"):
        load_car(cloud.with_name("toi.npy"))
    with pytest.raises(BsavizError, match=re.escape(f"{cloud.parent} has toy.npy")):
        load_car(cloud.parent / "no/such/folder/car.stl")


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(BsavizError, match="has no files"):
        load_car(tmp_path / "car.stl")
    with pytest.raises(BsavizError, match="is not a ShapeNet-Car sample .*; give the path of a mesh file"):
        load_car(tmp_path)
    for name in ("b.stl", "a.vtp", "notes.md"):
        (tmp_path / name).touch()
    with pytest.raises(BsavizError, match="is not a ShapeNet-Car sample .*; give one of its files: a.vtp, b.stl"):
        load_car(tmp_path)


def test_a_file_that_may_not_be_read(cloud, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("bsaviz.datasets.meshes.read_mesh", refuse)
    with pytest.raises(BsavizError, match=r"cannot read .*toy.npy: Permission denied"):
        load_car(cloud)


def test_an_unknown_kind_lists_the_known():
    with pytest.raises(BsavizError, match="neither a known kind of car nor a file; known are generated:<number>, "):
        load_car("drivaer:1")


@pytest.mark.parametrize("name", ["generated:", "generated:seven", "generated:-1", "generated:1.5"])
def test_generated_cars_go_by_number(name):
    with pytest.raises(BsavizError, match=f"generated cars go by number, e.g. 'generated:7'; got '{name}'"):
        load_car(name)


def test_generated_cars_load_by_number():
    car = load_car("generated:7", num_points=500)
    assert car.num_points == 500
    assert "pressure" in car.fields


@pytest.mark.parametrize("option", ["field", "up", "forward", "root"])
def test_options_that_do_not_apply_are_refused(option):
    with pytest.raises(BsavizError, match=f"{option}= does not apply to 'generated:7'"):
        load_car("generated:7", **{option: "z"})


def test_root_goes_with_shapenet_alone(cloud):
    with pytest.raises(BsavizError, match=r"root= does not apply to .*toy.npy': it goes with 'shapenet:<id>'"):
        load_car(cloud, root=cloud.parent)
    with pytest.raises(BsavizError, match="frame must be 'canonical' or 'file', got 'nose'"):
        load_car("generated:7", frame="nose")


@pytest.mark.parametrize("name", [None, 7, ["a.stl"]])
def test_what_is_neither_name_nor_path_is_refused(name):
    with pytest.raises(BsavizError, match="load_car takes a name or a path, got .*generated:<number>"):
        load_car(name)


@pytest.mark.parametrize("number", [0, -3, 1.5, float("nan"), "many", True])
def test_num_points_is_a_whole_number(cloud, number):
    with pytest.raises(BsavizError, match=f"num_points must be a positive whole number, got {number!r}"):
        load_car(cloud, num_points=number)


def test_num_points_may_be_a_numpy_number(cloud):
    assert load_car(cloud, num_points=np.int32(5)).num_points == 5


def test_more_points_than_memory_holds_are_refused(tmp_path):
    path = tmp_path / "triangle.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    with pytest.raises(BsavizError, match="num_points must be at most 10000000, got 1000000000"):
        load_car(path, num_points=10**9)
