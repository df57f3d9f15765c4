"""Meshes and clouds of any usual format as points, triangles and point fields."""

import contextlib
from dataclasses import replace
from importlib import import_module

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.datasets._legacy_vtk import read_legacy_vtk
from bsaviz.datasets._ply import read_off, read_ply
from bsaviz.datasets.car import Car
from bsaviz.datasets.clouds import read_array, read_text
from bsaviz.datasets.shapenet import quad_faces

_VTK = {
    ".vtk": ("vtkmodules.vtkIOLegacy", "vtkGenericDataObjectReader"),
    ".vtp": ("vtkmodules.vtkIOXML", "vtkXMLPolyDataReader"),
    ".vtu": ("vtkmodules.vtkIOXML", "vtkXMLUnstructuredGridReader"),
    ".stl": ("vtkmodules.vtkIOGeometry", "vtkSTLReader"),
    ".obj": ("vtkmodules.vtkIOGeometry", "vtkOBJReader"),
}
_SPLIT = (".stl", ".obj", ".glb", ".gltf")  # formats that repeat a point for each face, normal or texture seam
_PRESSURE = ("pressure", "press", "p", "pmean", "pressuremean", "meanpressure", "pmeantrim", "staticpressure",
             "wallpressure", "surfacepressure", "cp", "cpmean", "cpmeantrim", "pressurecoefficient")  # fmt: skip


def read_mesh(path, field=None):
    """A mesh or cloud in the axes of its file.

    Polygons are triangulated; of a volume mesh the surface is taken; points that belong to no face are dropped where
    there are faces; several components are kept as one mesh. Points at exactly the same place are merged only where the
    format itself repeats points (stl, obj, glb, gltf). Values at cells are averaged to the points, unless the file has
    values at points. Every numeric point field is kept under its name.

    Parameters
    ----------
    path : Path
        One of the suffixes in ``SUFFIXES``.
    field : str, optional
        Which point field is the pressure. Otherwise it is the one with a usual name of pressure (``p``, ``pressure``,
        ``Cp``, ...), or the only floating one of one component.

    Returns
    -------
    Car
        ``attrs``: ``pressure_field`` (its name in the file), ``file_points``, ``merged_points``, ``dropped_points``.

    Raises
    ------
    BsavizError
        For an unknown suffix, a truncated or damaged file, an empty one, and a field that is not there.
    """
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise BsavizError(f"{path}: the suffix {suffix!r} is not one that is read; known are {' '.join(SUFFIXES)}")
    positions, faces, fields = _read_vtk(path, field) if suffix in _VTK else _READERS[suffix](path)
    if not len(positions):
        raise BsavizError(f"{path} is empty: no points are found in it; is it whole, and a {suffix} file?")
    car = Car(path.stem, positions, faces, fields, source=str(path))
    return _with_pressure(_compact(car, merge=suffix in _SPLIT), field)


def known_pressure(name):
    """Whether a field's name is one of the usual names of pressure."""
    return _plain(name) in _PRESSURE


def _plain(name):
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _read_vtk(path, field=None):
    pyvista = require("pyvista", "view")
    suffix = path.suffix.lower()
    if suffix == ".vtk":
        sections = read_legacy_vtk(path)  # VTK reads half a file without a word
        if _pads_triangles(sections):
            offsets, corners = sections["CELLS"]
            faces = quad_faces(path, np.diff(offsets), corners, len(sections["POINTS"]))
            return sections["POINTS"], faces, sections["POINT_DATA"]
    module, name = _VTK[suffix]
    reader = getattr(import_module(module), name)()
    reader.SetFileName(str(path))
    with _vtk_messages() as messages:
        reader.Update()
        text = messages()
    if "ERROR" in text or reader.GetErrorCode():
        reason = (text.partition("): ")[2].strip().splitlines() or ["VTK could not read it"])[0]
        raise BsavizError(f"{path} is truncated or damaged ({reason}); copy or download the whole file again")
    data = reader.GetOutput()
    if data is None or not data.IsA("vtkDataSet"):
        kind = "nothing" if data is None else data.GetClassName()
        raise BsavizError(f"{path} holds {kind}, expected a mesh or points")
    if suffix == ".obj" and data.GetNumberOfPoints() and not data.GetNumberOfCells():
        raise BsavizError(
            f"{path} has vertices but no faces, as a truncated file has; copy the whole file, or save a cloud as .xyz"
        )
    mesh = pyvista.wrap(data)
    scalars = [name for name, value in mesh.point_data.items() if value.ndim == 1 and value.dtype.kind == "f"]
    if len(mesh.cell_data) and (not scalars or (field in mesh.cell_data and field not in mesh.point_data)):
        for name in set(mesh.point_data) & set(mesh.cell_data):
            del mesh.cell_data[name]
        mesh = mesh.cell_data_to_point_data()
    positions, faces, fields = _arrays(mesh)
    return positions, faces, {} if suffix in (".obj", ".stl") else fields  # those hold no fields, only VTK's extras


def _pads_triangles(sections):
    """Whether triangles are written as quads that end in index 0, as in ShapeNet-Car: too many for a real point."""
    if sections["DATASET"] != "UNSTRUCTURED_GRID":
        return False
    offsets, corners = sections["CELLS"]
    return len(corners) == 4 * (len(offsets) - 1) and (corners[3::4] == 0).sum() > 20


def _arrays(mesh):
    """Points in the file's order, triangles and numeric point fields of a VTK data set."""
    if mesh.n_points and not mesh.IsA("vtkPolyData") and mesh.n_cells:
        mesh.point_data["bsaviz row"] = np.arange(mesh.n_points)
        mesh = mesh.cast_to_unstructured_grid()  # of a structured grid VTK would repeat the points at its edges
        mesh = mesh.extract_surface(algorithm="dataset_surface", pass_pointid=False, pass_cellid=False)
    fields = {name: np.asarray(mesh.point_data[name]) for name in mesh.point_data}
    fields = {name: value for name, value in fields.items() if value.dtype.kind in "fiub"}
    positions, faces = np.asarray(mesh.points), None
    if mesh.IsA("vtkPolyData") and mesh.GetNumberOfPolys() + mesh.GetNumberOfStrips():
        faces = mesh.triangulate().regular_faces
    if "bsaviz row" in fields:
        order = np.argsort(fields.pop("bsaviz row"))
        faces = None if faces is None else np.argsort(order)[faces]
        positions, fields = positions[order], {name: value[order] for name, value in fields.items()}
    return positions, faces, fields


@contextlib.contextmanager
def _vtk_messages():
    """Collect what VTK has to say, instead of letting it reach the terminal."""
    core = import_module("vtkmodules.vtkCommonCore")
    window, before = core.vtkStringOutputWindow(), core.vtkOutputWindow.GetInstance()
    verbosity = core.vtkLogger.GetCurrentVerbosityCutoff()
    core.vtkOutputWindow.SetInstance(window)
    core.vtkLogger.SetStderrVerbosity(core.vtkLogger.VERBOSITY_OFF)
    try:
        yield window.GetOutput
    finally:
        core.vtkOutputWindow.SetInstance(before)
        core.vtkLogger.SetStderrVerbosity(verbosity)


def _read_gltf(path):
    trimesh = require("trimesh", "view")
    try:
        scene = trimesh.load_scene(path, process=False)
        parts = [part for part in scene.dump() if len(getattr(part, "vertices", ()))]
    except Exception as error:  # trimesh lets through whatever its parsers meet
        raise BsavizError(f"{path} is truncated or damaged, or uses an extension that is not read ({error})") from error
    offsets = np.cumsum([0, *(len(part.vertices) for part in parts)])
    faces = [part.faces + offset for part, offset in zip(parts, offsets) if hasattr(part, "faces")]
    positions = np.concatenate([part.vertices for part in parts]) if parts else np.zeros((0, 3))
    return positions, np.concatenate(faces) if faces else None, {}


_READERS = {
    **dict.fromkeys(_VTK, _read_vtk),
    ".ply": read_ply, ".off": read_off, ".glb": _read_gltf, ".gltf": _read_gltf,
    ".npy": read_array, ".npz": read_array, ".csv": read_text, ".xyz": read_text, ".txt": read_text,
}  # fmt: skip
SUFFIXES = tuple(_READERS)


def _compact(car, merge):
    """Merge points at the same place if asked, and drop degenerate faces and the points no face uses."""
    keep, faces = np.arange(car.num_points), car.faces
    attrs = {"file_points": car.num_points, "merged_points": 0, "dropped_points": 0}
    if merge and faces is not None:
        first, inverse = np.unique(car.positions + np.float32(0), axis=0, return_index=True, return_inverse=True)[1:]
        faces = first[inverse.reshape(-1)][faces]
        attrs["merged_points"] = car.num_points - len(first)
    if faces is not None:
        a, b, c = faces.T
        faces = faces[(a != b) & (b != c) & (c != a)]
        keep = np.unique(faces)
        attrs["dropped_points"] = car.num_points - attrs["merged_points"] - len(keep)
        faces = np.searchsorted(keep, faces)
    fields = {name: value[keep] for name, value in car.fields.items()}
    return replace(car, positions=car.positions[keep], faces=faces, fields=fields, attrs={**car.attrs, **attrs})


def _with_pressure(car, field):
    """The car with the field that is the pressure under that name."""
    scalar = [name for name, value in car.fields.items() if value.ndim == 1]
    if field is None:
        floating = [name for name in scalar if car.fields[name].dtype.kind == "f"]
        named = sorted(filter(known_pressure, floating), key=lambda name: _PRESSURE.index(_plain(name)))
        field = named[0] if named else floating[0] if len(floating) == 1 else None
        if field is None:
            return car
    elif field not in scalar:
        there = ", ".join(scalar) or "none"
        raise BsavizError(f"{car.source} has no point field {field!r} of one component; those it has: {there}")
    fields = {"pressure": car.fields[field], **{n: v for n, v in car.fields.items() if n not in (field, "pressure")}}
    return replace(car, fields=fields, attrs={**car.attrs, "pressure_field": field})
