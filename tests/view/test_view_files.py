"""Stills, glTF and VTK files: what they hold, and that none is ever left half-written."""

import json
import struct

import numpy as np
import pytest
import pyvista
import trimesh
from PIL import Image
from view_cases import QUERY, field, gates

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, QUERY_COLOUR, SURFACE_COLOUR, linear, rgb

EXPORTS = {
    "screenshot": ("picture.png", {"window_size": (600, 200)}),
    "export_html": ("page.html", {}),
    "export_glb": ("scene.glb", {}),
    "save_vtp": ("mesh.vtp", {}),
}


@pytest.mark.parametrize("method", EXPORTS)
@pytest.mark.parametrize("dataset", [field, gates])
def test_every_export_returns_the_file_it_wrote(method, dataset, tmp_path):
    name, options = EXPORTS[method]
    path = getattr(dataset().bsa, method)(str(tmp_path / "new folder" / name), **options)
    assert path == tmp_path / "new folder" / name
    assert path.stat().st_size > 1000
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("method", EXPORTS)
def test_a_full_disk_leaves_nothing_and_says_so(method, tmp_path, full_disk):
    name, options = EXPORTS[method]
    with full_disk(), pytest.raises(BsavizError, match=f"cannot write .*{name}.*free some space or choose another"):
        getattr(field().bsa, method)(tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", EXPORTS)
def test_a_full_disk_keeps_the_file_that_was_there(method, tmp_path, full_disk):
    name, options = EXPORTS[method]
    (tmp_path / name).write_text("before")
    with full_disk(), pytest.raises(BsavizError):
        getattr(field().bsa, method)(tmp_path / name, **options)
    assert (tmp_path / name).read_text() == "before"


@pytest.mark.parametrize("method", EXPORTS)
def test_wrong_endings_name_the_right_one(method, tmp_path):
    right = EXPORTS[method][0].split(".")[1]
    with pytest.raises(BsavizError, match=rf"expected a file name ending in .*\.{right}.*, got 'rf.docx'"):
        getattr(field().bsa, method)(tmp_path / "rf.docx")


@pytest.mark.parametrize("method", EXPORTS)
def test_a_folder_that_is_a_file(method, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(BsavizError, match="cannot write"):
        getattr(field().bsa, method)(tmp_path / "taken" / EXPORTS[method][0])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_stills_have_the_size_asked_for(suffix, tmp_path):
    with Image.open(field().bsa.screenshot(tmp_path / f"x{suffix}", window_size=(480, 160))) as image:
        assert image.size == (480, 160)


def part(scene, name):
    """Vertices in the scene's frame and vertex colours of a node."""
    transform, geometry = scene.graph[name]
    mesh = scene.geometry[geometry]
    colours = np.asarray(mesh.visual.vertex_attributes["color"])[:, :3]
    return trimesh.transform_points(mesh.vertices, transform), colours


def test_glb_names_and_colours_every_branch(tmp_path):
    scene = trimesh.load(field().bsa.export_glb(tmp_path / "rf.glb"))
    assert set(scene.graph.nodes_geometry) == {"surface", "ball", "selection", "compression", "query"}
    wanted = {**COLOURS, "surface": SURFACE_COLOUR, "query": QUERY_COLOUR}
    for name in scene.graph.nodes_geometry:
        assert (part(scene, name)[1] == linear(rgb(wanted[name]))).all(), name
    shows = scene.metadata.get("shows") or scene.metadata["metadata"]["shows"]
    assert f"query point {QUERY}" in shows


def test_glb_solids_lie_on_the_points_with_y_up(tmp_path):
    rf = field()
    scene = trimesh.load(rf.bsa.export_glb(tmp_path / "rf.glb", layer=0, head=0))
    points = rf["position"].values
    ball = rf["structural"].sel(layer=0, head=0, branch="ball").values[0]
    vertices, _ = part(scene, "ball")
    solids = vertices.reshape(ball.sum(), -1, 3).mean(1)
    np.testing.assert_allclose(solids, points[ball][:, [0, 2, 1]] * [1, 1, -1], atol=1e-5)
    surface, _ = part(scene, "surface")
    np.testing.assert_allclose(surface, points[:, [0, 2, 1]] * [1, 1, -1], atol=1e-6)
    assert np.isclose(part(scene, "query")[0].mean(0), points[QUERY][[0, 2, 1]] * [1, 1, -1], atol=1e-4).all()


def test_glb_solids_face_outwards_and_are_not_metal(tmp_path):
    path = field().bsa.export_glb(tmp_path / "rf.glb")
    ball = trimesh.load(path).geometry["ball"]
    assert all(piece.volume > 0 for piece in ball.split()[:5])
    content = path.read_bytes()
    length = struct.unpack("<I", content[12:16])[0]
    tree = json.loads(content[20 : 20 + length])
    materials = {primitive["material"] for mesh in tree["meshes"] for primitive in mesh["primitives"]}
    assert [tree["materials"][m]["pbrMetallicRoughness"]["metallicFactor"] for m in materials] == [0]


def test_glb_of_mass_is_stronger_where_more_is_read(tmp_path):
    rf = field()
    _, colours = part(trimesh.load(rf.bsa.export_glb(tmp_path / "m.glb", kind="mass")), "ball")
    mass = rf["mass"].isel(query=0, layer=-1).mean("head").sel(branch="ball").values
    mass = mass[mass > 0]
    each = colours.reshape(len(mass), -1, 3)[:, 0].astype(int).sum(1)
    assert each[mass.argmax()] < each[mass.argmin()]


def test_glb_of_gates_stands_one_car_a_branch_side_by_side(tmp_path):
    scene = trimesh.load(gates().bsa.export_glb(tmp_path / "g.glb", head=0))
    names = ["gate: ball", "gate: selection", "gate: compression"]
    assert set(scene.graph.nodes_geometry) == set(names)
    middles = [part(scene, name)[0][:, 2].mean() for name in names]
    width = np.ptp(gates()["position"].values[:, 1])
    np.testing.assert_allclose(np.diff(middles), -1.25 * width, rtol=1e-3)
    assert len({tuple(c) for c in part(scene, names[0])[1]}) > 20


def test_glb_of_a_cloud_has_its_points(tmp_path):
    scene = trimesh.load(field(faces=False).sel(branch=["ball"]).bsa.export_glb(tmp_path / "c.glb"))
    assert set(scene.graph.nodes_geometry) == {"points", "ball", "query"}
    assert set(trimesh.load(gates(faces=False).bsa.export_glb(tmp_path / "g.glb")).graph.nodes_geometry) == {
        "gate: ball",
        "gate: selection",
        "gate: compression",
    }


def test_vtp_holds_the_dataset(tmp_path):
    rf = field()
    mesh = pyvista.read(rf.bsa.save_vtp(tmp_path / "rf.vtp", layer=0, head=1))
    one = rf.isel(query=0).sel(layer=0, head=1)
    np.testing.assert_array_equal(mesh.points, rf["position"])
    np.testing.assert_array_equal(mesh.regular_faces, rf["faces"])
    np.testing.assert_array_equal(mesh["pressure"], rf["pressure"])
    for branch in ("ball", "selection", "compression"):
        np.testing.assert_array_equal(mesh[f"structural_{branch}"].astype(bool), one["structural"].sel(branch=branch))
        np.testing.assert_array_equal(mesh[f"mass_{branch}"], one["mass"].sel(branch=branch))
        assert mesh.field_data[f"gate_{branch}"][0] == one["gate"].sel(branch=branch)
    assert int(mesh.field_data["query"][0]) == QUERY
    assert (str(mesh.field_data["layer"][0]), str(mesh.field_data["head"][0])) == ("0", "1")


def test_vtp_of_all_heads_is_union_and_mean(tmp_path):
    rf = field()
    mesh = pyvista.read(rf.bsa.save_vtp(tmp_path / "rf.vtp"))
    last = rf.isel(query=0, layer=-1).sel(branch="selection")
    np.testing.assert_array_equal(mesh["structural_selection"].astype(bool), last["structural"].any("head"))
    np.testing.assert_allclose(mesh["mass_selection"], last["mass"].mean("head"), rtol=1e-6)


def test_vtp_of_gates_and_of_a_cloud(tmp_path):
    ds = gates(faces=False)
    mesh = pyvista.read(ds.bsa.save_vtp(tmp_path / "g.vtp", head=0))
    for branch in ("ball", "selection", "compression"):
        np.testing.assert_array_equal(mesh[f"gate_{branch}"], ds["gate"].sel(layer=5, head=0, branch=branch))
    assert mesh.n_verts == mesh.n_points == 866
    with pytest.raises(BsavizError, match="gates belong to no query point"):
        ds.bsa.save_vtp(tmp_path / "g.vtp", query=3)
