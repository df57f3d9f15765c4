"""Stills (PNG and others) and VTK files of a dataset. A file is made in memory, then written whole or not at all."""

from io import BytesIO
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz._files import whole_file
from bsaviz.view.choose import DIMS, geometry, index_of, kinds_of, labels, values_of, what_is
from bsaviz.view.drawing import scene

STILLS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")


def write(path, suffixes, make):
    """Write the bytes of `make()` to `path`, whose suffix must be one of `suffixes`; returns the path.

    Raises
    ------
    BsavizError
        For another suffix, a folder that cannot be written, or a full disk; nothing half-written is left.
    """
    path = check_suffix(path, suffixes)
    content = make()
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
    return path


def check_suffix(path, suffixes):
    """The path, if its name ends as it should."""
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise BsavizError(f"expected a file name ending in {' or '.join(suffixes)}, got {path.name!r}")
    return path


def write_still(drawn, path, *, camera="auto", window_size=None):
    """Write a `Picture` as an image file."""

    def make():
        image = require("PIL.Image", "view")
        plotter = scene(drawn, camera=camera, window_size=window_size)
        try:
            pixels = plotter.screenshot(return_img=True)
        finally:
            plotter.close()
        out = BytesIO()
        image.fromarray(pixels).save(out, format=image.registered_extensions()[Path(path).suffix.lower()])
        return out.getvalue()

    return write(path, STILLS, make)


def save_vtp(ds, path, *, query=None, layer=None, head=None):
    """Write a ``.vtp`` for ParaView: the surface (or the points) with one point array a field and branch.

    Receptive fields give ``structural_<branch>``, ``mass_<branch>``, ... for each kind they hold, and ``pressure``;
    gates give ``gate_<branch>``. The choice made, and a query's own gates, are in the field data. Arguments as for
    `bsaviz.view.reading.read_field`.
    """
    return write(path, (".vtp",), lambda: _vtp(vtk_mesh(ds, query=query, layer=layer, head=head)))


def vtk_mesh(ds, *, query=None, layer=None, head=None):
    """The pyvista mesh that `save_vtp` writes."""
    pv = require("pyvista", "view")
    field = what_is(ds) == "field"
    if query is not None and not field:
        raise BsavizError("gates belong to no query point: leave query out")
    positions, faces = geometry(ds)
    mesh = pv.PolyData(positions) if faces is None else pv.PolyData.from_regular_faces(positions, faces)
    l = index_of(ds, "layer", layer, -1)
    q = index_of(ds, "query", query, 0) if field else None
    for name in kinds_of(ds) if field else ["gate"]:
        of_head = head if "head" in DIMS[name] else None
        for branch, array in zip(*values_of(ds, name, query=query, layer=layer, head=of_head)):
            label = f"{name}_{branch}" if "branch" in DIMS[name] else name
            mesh.point_data[label] = array.astype(np.uint8) if array.dtype == bool else array
    if "pressure" in ds:
        mesh.point_data["pressure"] = np.asarray(ds["pressure"].values)
    mesh.field_data["layer"] = [str(labels(ds, "layer")[l])]
    mesh.field_data["head"] = ["all" if head is None else str(head)]
    if field:
        mesh.field_data["query"] = [labels(ds, "query")[q]]
    if field and "gate" in ds:
        for branch, gate in zip(labels(ds, "branch"), _own_gates(ds, q, l, head)):
            mesh.field_data[f"gate_{branch}"] = [gate]
    return mesh


def _own_gates(ds, q, l, head):
    """Gates of a query, one a branch."""
    at = {"query": q, "layer": l} if head is None else {"query": q, "layer": l, "head": index_of(ds, "head", head, 0)}
    own = ds["gate"].isel({dim: place for dim, place in at.items() if dim in ds["gate"].dims})
    return np.atleast_1d((own.mean("head") if "head" in own.dims else own).values)


def _vtp(mesh):
    vtk = require("vtk", "view")
    writer = vtk.vtkXMLPolyDataWriter()
    writer.SetInputData(mesh)
    writer.SetDataModeToBinary()
    writer.WriteToOutputStringOn()
    if not writer.Write():
        raise BsavizError("VTK could not write this mesh")
    return writer.GetOutputString().encode("ascii")
