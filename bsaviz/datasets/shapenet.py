"""ShapeNet-Car: 889 cars with the surface pressure of a wind of 20 m/s, in the layouts it is passed around in.

Made by N. Umetani and B. Bickel, "Learning three-dimensional flow for interactive aerodynamic design", ACM Transactions
on Graphics 37 (2018). Split and normalisation are those published with the models of arXiv 2506.12541.

=============  =====================================================================================================
released       ``param0..8/<id>/quadpress_smpl.vtk`` and ``press.npy``, as in the authors' ``mlcfd_data.zip``
tensors        ``param*/<id>/mesh_points.th`` and ``pressure.th``, as other projects preprocess it (no faces)
meshes         ``data/mesh_<id>.ply`` and ``data/press_<id>.npy``, or ``data/<id>/tri_mesh.ply`` and ``press.npy``, with
               ``train.txt`` and ``test.txt``, as in record 13936501 of Zenodo
=============  =====================================================================================================

In all of them y points up and the wind blows along z: the nose is at -z, where the pressure is highest.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir
from bsaviz.datasets._frame import canonical
from bsaviz.datasets._legacy_vtk import read_legacy_vtk
from bsaviz.datasets._ply import fans, read_polygons
from bsaviz.datasets.car import Car
from bsaviz.datasets.clouds import load_numpy

PRESSURE_MEAN = -36.3099  # Pa, published, of the training cars
PRESSURE_STD = 48.5743  # Pa
INLET_SPEED = 20.0  # m/s
ROOT_VARIABLE = "BSAVIZ_SHAPENET"
CACHED = ("shapenet-car", "shapenet-car-meshes")  # folders of the cache where the downloads are unpacked
_UNUSED = slice(16, 112)  # rows of press.npy whose points belong to no cell of the released mesh
_INSIDE = ("", "training_data", "mlcfd_data/training_data", "mlcfd_data", "preprocessed", "processed-car-pressure-data")


class ShapeNetCar(Sequence):
    """The cars of a folder, each read when asked for.

    Parameters
    ----------
    root : path, optional
        The folder in any of the layouts, or one around it. Default: ``$BSAVIZ_SHAPENET``, else the cache, where
        ``bsaviz.datasets.fetch("shapenet-car")`` puts it.
    split : "all", "train" or "test"
        The published split: of n cars sorted by param folder, then id, the test cars are those at
        ``torch.randperm(n, generator=torch.Generator().manual_seed(0))[:k]`` with k = 189 of n = 889, and as large a
        share of a smaller folder (at least one car of two). A folder with ``data``,
        ``train.txt`` and ``test.txt`` brings its own split.
    frame : "canonical" or "file"

    Attributes
    ----------
    root : Path
    ids : list of str
        ``"param0/<id>"``, or ``"<id>"`` where there are no param folders. Folders without a mesh are left out.

    Examples
    --------
    >>> cars = ShapeNetCar("mlcfd_data", split="test")  # doctest: +SKIP
    >>> cars[0].pressure.mean()  # doctest: +SKIP
    """

    def __init__(self, root=None, split="all", frame="canonical"):
        if split not in ("all", "train", "test"):
            raise BsavizError(f"split must be 'all', 'train' or 'test', got {split!r}")
        self.root, self.split, self.frame = find_root(root), split, frame
        self._samples = list_samples(self.root)
        every = list(self._samples)
        self.ids = every if split == "all" else _split_ids(self.root, every)[split]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        return read_sample(self._samples[self.ids[index]], self.frame)

    def __repr__(self):
        return f"ShapeNetCar({str(self.root)!r}, split={self.split!r}) with {len(self)} cars"


def load_shapenet(name, root=None, frame="canonical"):
    """The car of an id, ``"<id>"`` or ``"param0/<id>"``, of the folder `root` (see `ShapeNetCar`)."""
    samples = list_samples(find_root(root))
    found = [key for key in samples if key == name or key.rpartition("/")[2] == name]
    if len(found) == 1:
        return read_sample(samples[found[0]], frame)
    if found:
        raise BsavizError(f"several cars have the id {name!r}: {', '.join(found)}; name the folder too")
    alike = ", ".join(difflib.get_close_matches(name, samples, n=5, cutoff=0.4) or list(samples)[:5])
    raise BsavizError(f"no car {name!r} among the {len(samples)} of {find_root(root)}; it has, for example, {alike}")


def find_root(root=None):
    """The folder that holds the param folders (or ``data/``), from an argument, the environment or the cache."""
    given = root or os.environ.get(ROOT_VARIABLE)
    places = [Path(given).expanduser()] if given else [cache_dir() / name for name in CACHED]
    for place in places:
        if found := root_in(place):
            return found
    if given and places[0].is_dir():
        packed = next(places[0].rglob("param*.tar.gz"), None)
        hint = f"unpack {packed.name} and its like" if packed else "give the folder that holds param0, param1, ..."
        raise BsavizError(f"{given} holds no cars (param*/<id>/ with quadpress_smpl.vtk or mesh_points.th); {hint}")
    if given:
        raise BsavizError(f"the ShapeNet-Car folder {given} does not exist; check root= or ${ROOT_VARIABLE}")
    raise BsavizError(
        f"ShapeNet-Car is not here: neither root= nor ${ROOT_VARIABLE} is given, and the cache {cache_dir()} has none; "
        "download it with bsaviz.datasets.fetch('shapenet-car'), or name the folder it is in"
    )


def root_in(folder):
    """The folder itself or the one in it that holds the param folders (or ``data/``), or None."""
    return next((folder / inside for inside in _INSIDE if _has_cars(folder / inside)), None)


def _has_cars(folder):
    if any(_mesh_of(sample) for param in folder.glob("param*") for sample in _subfolders(param)):
        return True
    data = folder / "data"
    return any(data.glob("mesh_*.ply")) or any(data.glob("*/tri_mesh.ply"))


def _subfolders(folder):
    return (entry for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else ()


def _mesh_of(folder):
    """The file with the points of a sample folder, or None."""
    names = ("quadpress_smpl.vtk", "mesh_points.th", "tri_mesh.ply")
    return next((folder / name for name in names if (folder / name).is_file()), None)


def list_samples(root):
    """Mesh file of every car of a folder by id, sorted by param folder, then id."""
    number = lambda folder: (int("0" + re.sub(r"\D", "", folder.name)), folder.name)
    samples = {}
    for param in sorted(root.glob("param*"), key=number):
        for folder in sorted(_subfolders(param)):
            if mesh := _mesh_of(folder):
                samples[f"{param.name}/{folder.name}"] = mesh
    for mesh in sorted([*(root / "data").glob("mesh_*.ply"), *(root / "data").glob("*/tri_mesh.ply")]):
        samples.setdefault(_mesh_id(mesh), mesh)
    return samples


def _mesh_id(mesh):
    return mesh.parent.name if mesh.name == "tri_mesh.ply" else mesh.stem.removeprefix("mesh_")


def _split_ids(root, ids):
    """The ids of the parts "train" and "test"."""
    lists = {part: root / f"{part}.txt" for part in ("train", "test")}
    if (root / "data").is_dir() and all(path.is_file() for path in lists.values()):
        named = {part: set(re.split(r"[,\s]+", path.read_text().strip())) for part, path in lists.items()}
        return {part: [name for name in ids if name in named[part]] for part in lists}
    import torch

    count = max(round(len(ids) * 189 / 889), min(1, len(ids) - 1))
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    return {"train": [ids[i] for i in sorted(order[count:].tolist())],
            "test": [ids[i] for i in sorted(order[:count].tolist())]}  # fmt: skip


def find_sample(path):
    """The mesh file of a ShapeNet-Car sample, when `path` is its folder or one of its files; else None."""
    if path.is_dir():
        return _mesh_of(path)
    if path.name in ("quadpress_smpl.vtk", "press.npy", "mesh_points.th", "pressure.th"):
        return _mesh_of(path.parent)
    named = path.name == "tri_mesh.ply" or (path.suffix == ".ply" and path.name.startswith("mesh_"))
    return path if named and _press_of(path).is_file() else None


def _press_of(mesh):
    name = "press.npy" if mesh.name in ("tri_mesh.ply", "quadpress_smpl.vtk") else f"press_{_mesh_id(mesh)}.npy"
    return mesh.parent / name


def read_sample(mesh, frame="canonical"):
    """A car from the mesh file of its sample.

    Points that belong to no cell are dropped, in the released layout 96 of 3682, with their pressures.

    Returns
    -------
    Car
        With field ``pressure`` in Pa, and ``attrs["inlet_speed"]`` in m/s.
    """
    read = {".vtk": _read_released, ".th": _read_tensors, ".ply": _read_mesh}[mesh.suffix]
    positions, faces, pressure = read(mesh)
    name = _mesh_id(mesh) if mesh.name.startswith("mesh_") and mesh.suffix == ".ply" else mesh.parent.name
    folder = mesh.parent.parent.name
    car = Car(
        name=name,
        positions=positions,
        faces=faces,
        fields={} if pressure is None else {"pressure": pressure},
        units={"pressure": "Pa", "positions": "m"},
        source=str(mesh),
        attrs={"dataset": "ShapeNet-Car", "sample": f"{folder}/{name}" if folder.startswith("param") else name,
               "inlet_speed": INLET_SPEED},  # fmt: skip
    )
    if frame == "file":
        return canonical(car, frame=frame)
    return canonical(car, frame=frame, up="y", forward="-z", because="the axes of ShapeNet-Car")


def _read_released(mesh):
    file = read_legacy_vtk(mesh)
    if file["DATASET"] != "UNSTRUCTURED_GRID":
        raise BsavizError(f"{mesh} holds a {file['DATASET']}, expected the UNSTRUCTURED_GRID of ShapeNet-Car")
    points = file["POINTS"]
    offsets, connectivity = file["CELLS"]
    faces = quad_faces(mesh, np.diff(offsets), connectivity, len(points))
    used = np.unique(faces)
    scalars = [value for value in file["POINT_DATA"].values() if value.ndim == 1]
    values = load_numpy(_press_of(mesh)) if _press_of(mesh).is_file() else scalars[0] if scalars else None
    return points[used], np.searchsorted(used, faces), _pressure(_press_of(mesh), values, len(points), used)


def quad_faces(mesh, sizes, corners, num_points):
    """Triangles of quads; a quad that ends in index 0 is a triangle whose last place was left unused."""
    if not len(sizes):
        raise BsavizError(f"{mesh} is empty: it has no cells")
    if not set(np.unique(sizes).tolist()) <= {3, 4} or corners.min() < 0 or corners.max() >= num_points:
        raise BsavizError(f"{mesh} is damaged: its cells must be quads or triangles of points 0 to {num_points - 1}")
    ends = np.cumsum(sizes)
    shorter = sizes - ((sizes == 4) & (corners[ends - 1] == 0))
    kept = np.arange(len(corners)) < np.repeat(ends - sizes + shorter, sizes)
    faces = fans(shorter, corners[kept])
    a, b, c = faces.T
    return faces[(a != b) & (b != c) & (c != a)]


def _pressure(path, values, rows, used):
    """Pressures of the points `used` of a file of so many rows."""
    if values is None:
        return None
    values = np.asarray(values).reshape(-1)
    if len(values) == len(used):
        return values
    if len(values) != rows:
        raise BsavizError(
            f"{path}: field 'pressure' must have one value for each of the {rows} points of the mesh file "
            f"(or of the {len(used)} that belong to cells), got {len(values)}"
        )
    return values[used]


def _read_tensors(mesh):
    points = _load_tensor(mesh)
    beside = mesh.with_name("pressure.th")
    values = _load_tensor(beside) if beside.is_file() else None
    return points, None, _pressure(beside, values, len(points), np.arange(len(points)))


def _load_tensor(path):
    import pickle

    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True).numpy()
    except pickle.UnpicklingError as error:  # whose own text advises to open the file all the same
        raise BsavizError(
            f"cannot read {path} as a torch tensor (it holds more than a tensor, or is truncated); copy it again"
        ) from error
    except Exception as error:  # torch raises its own, zip's and pickle's errors for damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BsavizError(f"cannot read {path} as a torch tensor ({reason}); is it truncated? copy it again") from error


def _read_mesh(mesh):
    positions, polygons, _ = read_polygons(mesh)
    if polygons is None:
        raise BsavizError(f"{mesh} has no faces; the meshes of ShapeNet-Car have")
    faces = quad_faces(mesh, *polygons, len(positions))
    used = np.unique(faces)
    press = _press_of(mesh)
    values = load_numpy(press).reshape(-1) if press.is_file() else None
    unused = _UNUSED.stop - _UNUSED.start
    if values is not None and len(values) == len(positions) + unused and len(used) == len(positions):
        values = np.delete(values, np.arange(_UNUSED.start, _UNUSED.stop))  # the mesh was cleaned, its pressures not
    return positions[used], np.searchsorted(used, faces), _pressure(press, values, len(positions), used)
