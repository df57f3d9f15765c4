import re

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import load_car
from bsaviz.datasets.meshes import SUFFIXES, known_pressure

pyvista = pytest.importorskip("pyvista")
trimesh = pytest.importorskip("trimesh")


@pytest.fixture
def mesh(toy):
    """The toy as quads and triangles with a pressure, as any solver might write it."""
    faces = [np.insert(cells, 0, cells.shape[1], axis=1).ravel() for cells in (toy.quads, toy.triangles)]
    mesh = pyvista.PolyData(toy.points, np.concatenate(faces))
    mesh["p"] = toy.pressure
    mesh["U"] = toy.points * 2
    return mesh


def same_surface(car, toy):
    """Whether a car has the toy's points, in any order, and its area."""
    order = lambda points: points[np.lexsort(np.round(points, 4).T)]
    assert order(car.positions) == pytest.approx(order(toy.points), abs=1e-4)
    area = trimesh.Trimesh(toy.points, toy.faces, process=False).area
    assert car.point_areas.sum() == pytest.approx(area, rel=1e-3)


def write(mesh, path, binary):
    if path.suffix in (".ply", ".stl"):
        mesh.triangulate().save(path, binary=binary)
    elif path.suffix == ".vtu":
        mesh.cast_to_unstructured_grid().save(path, binary=binary)
    elif path.suffix in (".obj", ".off", ".glb", ".gltf"):
        trimesh.Trimesh(mesh.points, mesh.triangulate().regular_faces, process=False).export(path)
    else:
        mesh.save(path, binary=binary)
    return path


KINDS = [(".vtk", True), (".vtk", False), (".vtp", True), (".vtp", False), (".vtu", True), (".stl", True),
         (".stl", False), (".ply", True), (".ply", False), (".obj", False), (".off", False),
         (".glb", True)]  # fmt: skip


@pytest.mark.parametrize(("suffix", "binary"), KINDS)
def test_every_format_gives_the_same_surface(tmp_path, mesh, toy, suffix, binary):
    path = write(mesh, tmp_path / f"toy{suffix}", binary)
    car = load_car(path, frame="file")
    same_surface(car, toy)
    assert car.name == "toy"
    assert car.source == str(path)
    if suffix in (".vtk", ".vtp", ".vtu"):
        assert car.positions == pytest.approx(toy.points, abs=1e-5)  # in the file's order
        assert car.pressure == pytest.approx(toy.pressure, rel=1e-5)
        assert car.fields["U"] == pytest.approx(toy.points * 2, abs=1e-5)
        assert car.attrs["pressure_field"] == "p"


def test_suffixes_are_read_whatever_their_case(tmp_path, mesh, toy):
    same_surface(load_car(write(mesh, tmp_path / "toy.stl", True).rename(tmp_path / "TOY.STL"), frame="file"), toy)


@pytest.mark.parametrize(("suffix", "binary"), [kind for kind in KINDS if kind[0] != ".obj"])
def test_a_truncated_file_is_never_half_read(tmp_path, mesh, suffix, binary, capfd):
    path = write(mesh, tmp_path / f"toy{suffix}", binary)
    whole = path.read_bytes()
    for share in (0, 0.003, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.93, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BsavizError, match=re.escape(str(path))):
            load_car(path)
    assert capfd.readouterr() == ("", "")  # VTK's own complaints do not reach the terminal


def test_a_truncated_obj_is_refused_where_the_format_shows_it(tmp_path, mesh):
    path = write(mesh, tmp_path / "toy.obj", False)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:100]) + "\n")
    with pytest.raises(BsavizError, match="has vertices but no faces, as a truncated file has; .* as .xyz"):
        load_car(path)
    path.write_text("\n".join(lines).rpartition(" ")[0])
    with pytest.raises(BsavizError, match="truncated or damaged"):
        load_car(path)


def test_points_that_a_format_repeats_are_merged(tmp_path):
    corners = "\n".join(f"v {x} {y} {z}" for x in (0, 4) for y in (0, 2) for z in (0, 1))
    normals = "vn 1 0 0\nvn 0 1 0\nvn 0 0 1"
    faces = ["1//1 2//1 4//1 3//1", "5//1 7//1 8//1 6//1", "1//2 5//2 6//2 2//2", "3//2 4//2 8//2 7//2",
             "1//3 3//3 7//3 5//3", "2//3 6//3 8//3 4//3"]  # fmt: skip
    (tmp_path / "box.obj").write_text("\n".join([corners, normals, *(f"f {face}" for face in faces), ""]))
    car = load_car(tmp_path / "box.obj")
    assert (car.num_points, len(car.faces)) == (8, 12)
    assert car.attrs["merged_points"] == car.attrs["file_points"] - 8 > 0
    assert not car.fields


def test_points_are_not_merged_where_the_format_does_not_repeat_them(tmp_path):
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    mesh = pyvista.PolyData.from_regular_faces(square, [[0, 1, 2], [3, 4, 5]])
    mesh["p"] = np.arange(6.0)
    mesh.save(tmp_path / "square.vtp")
    assert (load_car(tmp_path / "square.vtp", frame="file").pressure == np.arange(6)).all()


def test_points_of_no_face_go_with_their_values(tmp_path, toy):
    points = np.concatenate([[[9, 9, 9]], toy.points[:50], [[8, 8, 8]], toy.points[50:]])
    move = lambda faces: np.where(faces < 50, faces + 1, faces + 2)
    mesh = pyvista.PolyData.from_regular_faces(points, move(toy.faces))
    mesh["p"] = np.concatenate([[0], toy.pressure[:50], [0], toy.pressure[50:]])
    mesh.save(tmp_path / "toy.vtp")
    car = load_car(tmp_path / "toy.vtp", frame="file")
    assert (car.positions == toy.points).all()
    assert (car.pressure == toy.pressure).all()
    assert (car.attrs["file_points"], car.attrs["dropped_points"]) == (212, 2)


def test_of_a_volume_the_surface_is_taken(tmp_path):
    block = pyvista.ImageData(dimensions=(7, 4, 3)).cast_to_unstructured_grid()
    block["p"] = block.points @ [1.0, 10.0, 100.0]
    block.save(tmp_path / "block.vtu")
    pyvista.ImageData(dimensions=(7, 4, 3)).cast_to_structured_grid().save(tmp_path / "block.vtk")
    car = load_car(tmp_path / "block.vtu", frame="file")
    assert car.num_points == 7 * 4 * 3 - 5 * 2 * 1
    assert (car.pressure == car.positions @ np.float32([1, 10, 100])).all()
    assert (np.diff(car.pressure) > 0).all()  # the order of the file
    assert car.point_areas.sum() == pytest.approx(2 * (6 * 3 + 6 * 2 + 3 * 2))
    assert load_car(tmp_path / "block.vtk").num_points == car.num_points


def test_several_components_and_nodes_are_one_car(tmp_path):
    scene = trimesh.Scene()
    scene.add_geometry(trimesh.creation.box((4, 1.8, 1)))
    for x in (-1.5, 1.5):
        wheel = trimesh.creation.icosphere(radius=0.3)
        scene.add_geometry(wheel, transform=trimesh.transformations.translation_matrix([x, 0, -0.7]))
    scene.export(tmp_path / "car.glb")
    car = load_car(tmp_path / "car.glb", frame="file")
    assert car.num_points == 8 + 2 * 642
    assert car.positions.min(axis=0) == pytest.approx([-2, -0.9, -1.0], abs=1e-6)


def test_values_of_cells_become_values_of_points(tmp_path, mesh, toy):
    mesh.clear_data()
    mesh.cell_data["p"] = mesh.cell_centers().points[:, 0]
    mesh.save(tmp_path / "toy.vtp")
    car = load_car(tmp_path / "toy.vtp", frame="file")
    assert car.pressure == pytest.approx(mesh.cell_data_to_point_data()["p"], abs=1e-6)
    assert np.corrcoef(car.pressure, toy.points[:, 0])[0, 1] > 0.99


def test_values_of_cells_are_taken_by_name_beside_values_of_points(tmp_path, mesh):
    mesh.cell_data["wall"] = np.arange(mesh.n_cells, dtype=float)
    mesh.cell_data["p"] = np.zeros(mesh.n_cells)
    mesh.save(tmp_path / "toy.vtp")
    assert "wall" not in load_car(tmp_path / "toy.vtp").fields
    car = load_car(tmp_path / "toy.vtp", field="wall")
    assert car.pressure == pytest.approx(mesh.cell_data_to_point_data()["wall"])
    assert car.fields["p"] == pytest.approx(mesh.point_data["p"])


def test_which_field_is_the_pressure(tmp_path, mesh):
    mesh["Cp"] = mesh["p"] / 2
    mesh["T"] = mesh["p"] * 0
    mesh.save(tmp_path / "toy.vtp")
    assert load_car(tmp_path / "toy.vtp").attrs["pressure_field"] == "p"
    named = load_car(tmp_path / "toy.vtp", field="Cp")
    assert (named.pressure == mesh["Cp"]).all()
    assert sorted(named.fields) == ["T", "U", "p", "pressure"]
    del mesh.point_data["p"], mesh.point_data["Cp"]
    mesh.save(tmp_path / "toy.vtp")
    assert load_car(tmp_path / "toy.vtp").attrs["pressure_field"] == "T"  # the only one
    mesh["nu"] = mesh["T"]
    mesh.save(tmp_path / "toy.vtp")
    assert sorted(load_car(tmp_path / "toy.vtp").fields) == ["T", "U", "nu"]  # none is singled out


@pytest.mark.parametrize("name", ["p", "P", "pressure", "Pressure", "press", "pMean", "Static Pressure", "Cp"])
def test_usual_names_of_pressure(name):
    assert known_pressure(name)
    assert not known_pressure(name + "2")


def test_a_field_that_is_not_there_lists_those_that_are(tmp_path, mesh):
    mesh.save(tmp_path / "toy.vtp")
    for name in ("Cp", "U"):
        with pytest.raises(BsavizError, match=f"no point field '{name}' of one component; those it has: p"):
            load_car(tmp_path / "toy.vtp", field=name)


def test_a_ply_keeps_its_own_values(tmp_path):
    rows = ["0 0 0 1.5 0 0 1 255", "4 0 0 2.5 0 0 1 0", "4 1 0 3.5 0 0 1 0", "0 1 0 4.5 0 0 1 0"]
    kinds = ["float x", "float y", "float z", "float pressure", "float nx", "float ny", "float nz", "uchar red"]
    header = ["ply", "format ascii 1.0", "comment ours", "element vertex 4", *(f"property {kind}" for kind in kinds)]
    faces = ["element face 1", "property uchar flag", "property list uchar int vertex_index", "end_header"]
    (tmp_path / "q.ply").write_text("\n".join([*header, *faces, *rows, "7 4 0 1 2 3", ""]))
    car = load_car(tmp_path / "q.ply", frame="file")
    assert car.pressure.tolist() == [1.5, 2.5, 3.5, 4.5]
    assert car.fields["normals"].tolist() == [[0, 0, 1]] * 4
    assert car.fields["red"].tolist() == [255, 0, 0, 0]
    assert car.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_binary_ply_of_mixed_polygons(tmp_path, order):
    name = {"<": "little", ">": "big"}[order]
    header = ["ply", f"format binary_{name}_endian 1.0", "element vertex 5", *(f"property double {a}" for a in "xyz"),
              "element face 2", "property list uchar uint vertex_indices", "end_header", ""]  # fmt: skip
    points = np.array([[0, 0, 0], [4, 0, 0], [4, 1, 0], [0, 1, 0], [5, 0.5, 0]])
    body = points.astype(order + "f8").tobytes()
    for polygon in ([0, 1, 2, 3], [1, 4, 2]):
        body += bytes([len(polygon)]) + np.array(polygon, order + "u4").tobytes()
    path = tmp_path / "mixed.ply"
    path.write_bytes("\n".join(header).encode() + body)
    car = load_car(path, frame="file")
    assert car.positions == pytest.approx(points)
    assert car.faces.tolist() == [[0, 1, 2], [0, 2, 3], [1, 4, 2]]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BsavizError, match="truncated or damaged: it should hold 2 rows of 'face'"):
        load_car(path)


def test_clouds_in_mesh_formats(tmp_path, toy):
    cloud = pyvista.PolyData(toy.points)
    cloud["p"] = toy.pressure
    cloud.save(tmp_path / "cloud.vtp")
    cloud.cast_to_unstructured_grid().save(tmp_path / "cloud.vtu")
    trimesh.PointCloud(toy.points).export(tmp_path / "cloud.ply")
    for suffix in (".vtp", ".vtu", ".ply"):
        car = load_car(tmp_path / f"cloud{suffix}", frame="file")
        assert car.faces is None
        assert car.positions == pytest.approx(toy.points, abs=1e-6)
        assert suffix == ".ply" or (car.pressure == toy.pressure).all()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.ply", "plx", "is not a whole PLY file"),
        ("a.ply", "ply\nformat ascii 1.0\nelement edge 0\nend_header\n", "has no points: its header declares no"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex x\nend_header\n", "header line 'element vertex x' is not"),
        ("a.off", "PLY 3", "is not an OFF file"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n1 1 0\n", "does not hold the points and faces its header counts"),
        ("a.off", "OFF\n3 1 0\n0 0 0\n1 0 0\n1 1 0\n3 0 1\n", "does not hold the points and faces its header counts"),
        ("a.obj", "# nothing\n", "is empty: no points are found in it"),
        ("a.stl", "solid a\nendsolid a\n", "a.stl"),
        ("a.glb", "glTF", "is truncated or damaged"),
        ("a.vtk", "hello", "is not a legacy VTK file: it starts with 'hello'"),
        ("a.vtp", "<VTKFile", "is truncated or damaged (Error parsing XML"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\n"
                  "end_header\n0 nan 0\n", "1 of 1 positions are NaN or infinite, the first at index 0"),
    ],
)  # fmt: skip
def test_damaged_and_empty_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(BsavizError, match=re.escape(message)):
        load_car(tmp_path / name)


def test_a_mesh_of_no_points_is_empty(tmp_path):
    for suffix in (".vtp", ".vtk"):
        pyvista.PolyData().save(tmp_path / f"none{suffix}")
        with pytest.raises(BsavizError, match=f"none{suffix} is empty: no points are found in it"):
            load_car(tmp_path / f"none{suffix}")


def test_off_with_counts_on_its_first_line_and_colours(tmp_path):
    rows = "0 0 0 9 9\n4 0 0 9 9\n\n4 1 0 9 9\n0 1 0 9 9\n4 0 1 2 3 255 0 0\n"
    (tmp_path / "a.off").write_text("COFF 4 1 0 # counts\n" + rows)
    car = load_car(tmp_path / "a.off", frame="file")
    assert car.positions.tolist() == [[0, 0, 0], [4, 0, 0], [4, 1, 0], [0, 1, 0]]
    assert car.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


def test_an_unknown_suffix_lists_the_known(tmp_path):
    (tmp_path / "car.step").touch()
    message = f"the suffix '.step' is not one that is read; known are {' '.join(SUFFIXES)}"
    with pytest.raises(BsavizError, match=re.escape(message)):
        load_car(tmp_path / "car.step")
    assert {suffix for suffix, _ in KINDS} | {".gltf", ".xyz", ".txt", ".csv", ".npy", ".npz"} == set(SUFFIXES)


def test_points_without_cells_or_fields_are_a_cloud(tmp_path):
    bare = pyvista.PolyData()
    bare.points = np.array([[0, 0, 0], [4, 0, 0], [4, 1, 0.5]], np.float32)
    for suffix in (".vtp", ".vtk"):
        bare.save(tmp_path / f"bare{suffix}")
        assert load_car(tmp_path / f"bare{suffix}", frame="file").positions.tolist() == bare.points.tolist()
