import re
import sys

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.datasets import ShapeNetCar, load_car


def write_tensors(folder, toy):
    folder.mkdir(parents=True)
    torch.save(torch.from_numpy(toy.points[:, [1, 2, 0]].copy()), folder / "mesh_points.th")
    torch.save(torch.from_numpy(toy.pressure), folder / "pressure.th")
    return folder


def write_ply(path, points, polygons):
    path.parent.mkdir(parents=True, exist_ok=True)
    header = ["ply", "format ascii 1.0", f"element vertex {len(points)}"]
    header += [f"property double {axis}" for axis in "xyz"]
    header += [f"element face {len(polygons)}", "property list uchar uint vertex_indices", "end_header"]
    rows = [" ".join(f"{x:.9g}" for x in point) for point in points]
    path.write_text("\n".join([*header, *rows, *(f"{len(p)} " + " ".join(map(str, p)) for p in polygons), ""]))


@pytest.fixture
def meshes(tmp_path, toy):
    """The layout of the Zenodo record: cleaned meshes whose pressures still have the 96 unused rows."""
    root = tmp_path / "processed-car-pressure-data"
    for name in ("001", "004", "002"):
        write_ply(root / f"data/mesh_{name}.ply", toy.points[:, [1, 2, 0]], toy.faces.tolist())
        np.save(root / f"data/press_{name}.npy", toy.rows()[2])
    (root / "train.txt").write_text("004,001\n")
    (root / "test.txt").write_text("002")
    return root


def test_released_layout_drops_the_points_of_no_cell(released, toy):
    car = load_car(released / "training_data/param0/cc")
    assert car.positions == pytest.approx(toy.points, abs=1e-6)
    assert car.pressure == pytest.approx(toy.pressure)
    triangles = lambda faces: {tuple(np.roll(face, -face.argmin())) for face in faces}
    assert triangles(car.faces) == triangles(toy.faces)
    assert (car.name, car.units["pressure"], car.attrs["sample"]) == ("cc", "Pa", "param0/cc")
    assert car.attrs["inlet_speed"] == 20.0


def test_the_canonical_frame_keeps_handedness_and_says_what_it_did(released, toy):
    path = released / "training_data/param0/cc/quadpress_smpl.vtk"
    car, raw = load_car(path), load_car(path, frame="file")
    assert (car.positions == raw.positions[:, [2, 0, 1]]).all()
    assert (car.normals == pytest.approx(raw.normals[:, [2, 0, 1]], abs=1e-6))
    assert car.attrs["frame"] == "canonical: x = +z, y = +x, z = +y of the file (the axes of ShapeNet-Car)"
    assert raw.attrs["frame"] == "file"
    assert car.pressure[car.positions[:, 0] < -2].mean() > car.pressure[car.positions[:, 0] > 2].mean()


def test_every_way_to_name_a_released_sample(released, monkeypatch):
    folder = released / "training_data/param1/aa"
    wanted = load_car(folder).positions
    for name in (folder, str(folder), folder / "quadpress_smpl.vtk", folder / "press.npy"):
        assert (load_car(name).positions == wanted).all()
    for root in (released, released / "training_data", released.parent):
        assert (load_car("shapenet:aa", root=root).positions == wanted).all()
    monkeypatch.setenv("BSAVIZ_SHAPENET", str(released))
    assert (load_car("shapenet:param1/aa").positions == wanted).all()


def test_the_cache_is_where_cars_are_looked_for_last(released, tmp_path, monkeypatch):
    monkeypatch.delenv("BSAVIZ_SHAPENET", raising=False)
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BsavizError, match=r"ShapeNet-Car is not here: .*fetch\('shapenet-car'\)"):
        load_car("shapenet:aa")
    (tmp_path / "cache").mkdir()
    (released / "training_data").rename(tmp_path / "cache/shapenet-car")
    assert load_car("shapenet:aa").name == "aa"


def test_without_press_npy_the_scalars_of_the_mesh_file_serve(tmp_path, toy, write_released):
    assert load_car(write_released(tmp_path / "aa", toy, press=False)).pressure == pytest.approx(toy.pressure)


def test_a_mesh_file_under_another_name_is_read_alike(released, tmp_path, toy):
    pytest.importorskip("pyvista")
    sample = released / "training_data/param0/cc"
    renamed = (sample / "quadpress_smpl.vtk").rename(tmp_path / "some car.vtk")
    car = load_car(renamed)
    assert car.positions == pytest.approx(toy.points, abs=1e-6)
    assert car.pressure == pytest.approx(toy.pressure)
    assert len(car.faces) == len(toy.faces)


def test_tensor_layout(tmp_path, toy):
    folder = write_tensors(tmp_path / "preprocessed/param3/ee", toy)
    for path in (folder, folder / "mesh_points.th", folder / "pressure.th"):
        car = load_car(path)
        assert car.positions == pytest.approx(toy.points)
        assert car.pressure == pytest.approx(toy.pressure)
        assert car.faces is None
    assert ShapeNetCar(tmp_path).ids == ["param3/ee"]


def test_mesh_layout_and_its_own_split(meshes, toy):
    cars = ShapeNetCar(meshes.parent)
    assert cars.ids == ["001", "002", "004"]
    assert ShapeNetCar(meshes, "train").ids == ["001", "004"]
    assert ShapeNetCar(meshes, "test").ids == ["002"]
    for car in (cars[1], load_car("shapenet:002", root=meshes), load_car(meshes / "data/mesh_002.ply")):
        assert car.name == "002"
        assert car.positions == pytest.approx(toy.points)
        assert car.pressure == pytest.approx(toy.pressure)  # rows 16 to 111 left out
        assert car.num_points == len(toy.points)


def test_mesh_layout_with_a_folder_a_car(tmp_path, toy):
    points, cells, pressure = toy.rows()
    write_ply(tmp_path / "data/007/tri_mesh.ply", points, cells.tolist())  # unused rows, quads that end in 0
    np.save(tmp_path / "data/007/press.npy", pressure)
    folder = tmp_path / "data/007"
    for car in (ShapeNetCar(tmp_path)[0], load_car(folder), load_car(folder / "tri_mesh.ply")):
        assert car.name == "007"
        assert len(car.faces) == len(toy.faces)
        assert car.pressure == pytest.approx(toy.pressure)


def test_cars_are_sorted_by_param_folder_then_id(released, toy, write_released):
    write_released(released / "training_data/param10/aa", toy)
    assert ShapeNetCar(released).ids == ["param0/cc", "param0/dd", "param1/aa", "param1/bb", "param10/aa"]


def test_the_split_is_the_published_one(tmp_path):
    for i in range(889):
        folder = tmp_path / f"param{i // 100}" / f"{i:03d}"
        folder.mkdir(parents=True)
        (folder / "mesh_points.th").touch()
    published = [550, 592, 229, 547, 62, 464, 798, 836, 5, 732, 876, 843, 367, 496]  # the first of the published list
    test, train = ShapeNetCar(tmp_path, "test"), ShapeNetCar(tmp_path, "train")
    assert (len(test), len(train), len(ShapeNetCar(tmp_path))) == (189, 700, 889)
    assert {f"param{i // 100}/{i:03d}" for i in published} <= set(test.ids)
    assert not set(test.ids) & set(train.ids)
    assert test.ids == sorted(test.ids)


@pytest.mark.parametrize(("count", "test"), [(1, 0), (2, 1), (4, 1), (50, 11)])
def test_a_smaller_folder_splits_by_the_same_rule(tmp_path, count, test):
    for i in range(count):
        (tmp_path / f"param0/{i:03d}").mkdir(parents=True)
        (tmp_path / f"param0/{i:03d}/mesh_points.th").touch()
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))[:test]
    assert ShapeNetCar(tmp_path, "test").ids == [f"param0/{i:03d}" for i in sorted(order.tolist())]
    assert len(ShapeNetCar(tmp_path, "train")) == count - test


def test_a_set_is_a_sequence_of_cars(released):
    cars = ShapeNetCar(released, frame="file")
    assert [car.name for car in cars] == ["cc", "dd", "aa", "bb"]
    assert [car.name for car in cars[1:3]] == ["dd", "aa"]
    assert cars[-1].name == "bb"
    assert cars[0].attrs["frame"] == "file"
    assert repr(cars) == f"ShapeNetCar({str(released / 'training_data')!r}, split='all') with 4 cars"
    with pytest.raises(IndexError):
        cars[4]


def test_reading_cars_needs_no_mesh_library(released, monkeypatch):
    for name in ("pyvista", "vtk", "vtkmodules", "trimesh"):
        monkeypatch.setitem(sys.modules, name, None)
    assert load_car("shapenet:cc", root=released).num_points == 210


def test_pressures_of_another_number_are_refused(released):
    folder = released / "training_data/param0/cc"
    np.save(folder / "press.npy", np.zeros(305))
    message = r"press.npy: field 'pressure' must have one value for each of the 306 points of the mesh file"
    with pytest.raises(BsavizError, match=message + r" \(or of the 210 that belong to cells\), got 305"):
        load_car(folder)
    np.save(folder / "press.npy", np.arange(210.0))
    assert (load_car(folder).pressure == np.arange(210)).all()


def test_truncated_files_are_refused_at_any_length(released):
    mesh = released / "training_data/param0/cc/quadpress_smpl.vtk"
    whole = mesh.read_bytes()
    for share in np.linspace(0, 0.99, 34):
        mesh.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BsavizError, match="truncated or damaged|not a legacy VTK file"):
            load_car(mesh)


def test_truncated_pressures_and_tensors_are_refused(released, tmp_path, toy):
    press = released / "training_data/param0/cc/press.npy"
    press.write_bytes(press.read_bytes()[:-40])
    with pytest.raises(BsavizError, match=r"cannot read .*press.npy as a numpy file .*truncated"):
        load_car(press.parent)
    points = write_tensors(tmp_path / "param0/ee", toy) / "mesh_points.th"
    points.write_bytes(points.read_bytes()[:500])
    with pytest.raises(BsavizError, match=r"cannot read .*mesh_points.th as a torch tensor .*truncated"):
        load_car(points)


def test_files_that_would_run_code_are_not_opened(released, tmp_path, toy):
    class Evil:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code ran')",))

    points = write_tensors(tmp_path / "param0/ee", toy) / "mesh_points.th"
    torch.save(Evil(), points)
    with pytest.raises(BsavizError, match=r"as a torch tensor \(it holds more than a tensor, or is truncated\); copy"):
        load_car(points)
    press = released / "training_data/param0/cc/press.npy"
    np.save(press, np.array([Evil()], dtype=object), allow_pickle=True)
    with pytest.raises(BsavizError, match="as a numpy file"):
        load_car(press.parent)


def test_damaged_cells_and_positions_are_refused(released):
    mesh = released / "training_data/param0/cc/quadpress_smpl.vtk"
    text = mesh.read_text()
    mesh.write_text(re.sub(r"^4 \d+", "4 999", text, count=1, flags=re.M))
    with pytest.raises(BsavizError, match="its cells must be quads or triangles of points 0 to 305"):
        load_car(mesh)
    lines = text.splitlines()
    lines[6] = "nan 0 0"
    mesh.write_text("\n".join(lines))
    with pytest.raises(BsavizError, match="1 of 210 positions are NaN or infinite, the first at index 0"):
        load_car(mesh)
    mesh.write_text("\n".join(["# vtk DataFile Version 2.0", "t", "ASCII", "DATASET POLYDATA", "POINTS 0 float", ""]))
    with pytest.raises(BsavizError, match="holds a POLYDATA, expected the UNSTRUCTURED_GRID of ShapeNet-Car"):
        load_car(mesh)


def test_a_sample_of_no_cells_is_empty(tmp_path):
    lines = ["# vtk DataFile Version 2.0", "t", "ASCII", "DATASET UNSTRUCTURED_GRID", "POINTS 1 float", "0 0 0"]
    (tmp_path / "quadpress_smpl.vtk").write_text("\n".join([*lines, "CELLS 0 0", "CELL_TYPES 0", ""]))
    with pytest.raises(BsavizError, match="quadpress_smpl.vtk is empty: it has no cells"):
        load_car(tmp_path)


def test_a_mesh_without_faces_is_refused(meshes, toy):
    write_ply(meshes / "data/mesh_001.ply", toy.points, [])
    with pytest.raises(BsavizError, match="mesh_001.ply has no faces"):
        load_car(meshes / "data/mesh_001.ply")


def test_an_unknown_id_is_told_the_nearest(released, toy, write_released):
    with pytest.raises(BsavizError, match=r"no car 'zz' among the 4 of .*for example, param0/cc, param0/dd, param1/aa"):
        load_car("shapenet:zz", root=released)
    write_released(released / "training_data/param2/aa", toy)
    with pytest.raises(BsavizError, match="several cars have the id 'aa': param1/aa, param2/aa; name the folder too"):
        load_car("shapenet:aa", root=released)


def test_a_wrong_root_says_what_is_expected(tmp_path):
    with pytest.raises(BsavizError, match=r"folder .*nowhere does not exist; check root= or \$BSAVIZ_SHAPENET"):
        ShapeNetCar(tmp_path / "nowhere")
    with pytest.raises(BsavizError, match=r"holds no cars .*give the folder that holds param0, param1"):
        ShapeNetCar(tmp_path)
    (tmp_path / "param0.tar.gz").touch()
    with pytest.raises(BsavizError, match=r"holds no cars .*unpack param0.tar.gz and its like"):
        ShapeNetCar(tmp_path)


def test_wrong_options_are_refused(released):
    with pytest.raises(BsavizError, match="split must be 'all', 'train' or 'test', got 'dev'"):
        ShapeNetCar(released, split="dev")
    with pytest.raises(BsavizError, match="frame must be 'canonical' or 'file', got 'nose'"):
        load_car("shapenet:cc", root=released, frame="nose")
    for option in ({"field": "p"}, {"up": "z"}, {"forward": "-x"}):
        with pytest.raises(BsavizError, match=f"{next(iter(option))}= does not apply to 'shapenet:cc'"):
            load_car("shapenet:cc", root=released, **option)
        with pytest.raises(BsavizError, match=f"{next(iter(option))}= does not apply to .*a ShapeNet-Car sample"):
            load_car(released / "training_data/param0/cc", **option)


def test_a_whole_set_is_not_one_car(released):
    for folder in (released, released / "training_data"):
        with pytest.raises(BsavizError, match=r"holds 4 cars; load one: load_car\('shapenet:param0/cc', root=...\)"):
            load_car(folder)
    with pytest.raises(BsavizError, match="is not a ShapeNet-Car sample"):
        load_car(released / "training_data/param0/broken")
