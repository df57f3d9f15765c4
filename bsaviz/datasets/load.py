"""`load_car`: one door for generated cars, ShapeNet-Car, and any mesh or cloud."""

import difflib
import os
import re
from pathlib import Path

from bsaviz._checks import BsavizError
from bsaviz.datasets._frame import canonical
from bsaviz.datasets.car import is_whole

MOST_POINTS = 10_000_000  # of a refined mesh
_KINDS = ("generated:<number>", "shapenet:<id>", "a path to a mesh, a cloud or a ShapeNet-Car sample folder")


def load_car(name_or_path, *, field=None, num_points=None, seed=0, frame="canonical", up=None, forward=None, root=None):
    """Load a car, or any other surface or cloud.

    Parameters
    ----------
    name_or_path : str or path
        ``"generated:7"``, ``"shapenet:<id>"`` (or ``"shapenet:param0/<id>"``), or a path: a mesh or cloud of one of the
        suffixes in ``bsaviz.datasets.meshes.SUFFIXES``, a ShapeNet-Car sample folder or one of its files.
    field : str, optional
        Point field of a mesh file that is the pressure; otherwise the one with a usual name (``p``, ``pressure``, ...)
        or the only one.
    num_points : int, optional
        Number of points wanted: of more, a well-spread subset is taken (`Car.subsample`); a mesh of fewer is refined
        first (`Car.refine`); a cloud of fewer keeps what it has.
    seed : int
        Seed of that choice.
    frame : "canonical" or "file"
        Canonical: x to the rear (nose at -x), z up, right-handed. The axes of generated cars and of ShapeNet-Car are
        known; those of other files are guessed (``attrs["frame"]`` says how), or stated by `up` and `forward`. "file"
        keeps the axes of the file. Positions are neither moved nor scaled.
    up, forward : str, optional
        Axes of a mesh file: the one that points up, and the one the nose points along, e.g. ``up="y", forward="-z"``.
    root : path, optional
        Folder of ShapeNet-Car; default ``$BSAVIZ_SHAPENET``, else the cache.

    Returns
    -------
    Car

    Raises
    ------
    BsavizError
        Missing, truncated or damaged file, no points, positions that are not finite, a field of the wrong length,
        unknown suffix, id or number. No partly read car is returned.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        raise BsavizError(f"load_car takes a name or a path, got {name_or_path!r}; known are {', '.join(_KINDS)}")
    text = str(name_or_path)
    kind, colon, name = text.partition(":")
    if colon and kind == "generated":
        _refuse(text, "generated cars take num_points= and seed= alone", field=field, up=up, forward=forward, root=root)
        car = _generated(name, frame)
    elif colon and kind == "shapenet":
        from bsaviz.datasets.shapenet import load_shapenet

        _refuse(text, "their axes and field are known", field=field, up=up, forward=forward)
        car = load_shapenet(name, root, frame)
    else:
        _refuse(text, "it goes with 'shapenet:<id>'", root=root)
        path = Path(name_or_path).expanduser()
        try:
            car = _from_path(path, field, frame, up, forward)
        except OSError as error:
            raise BsavizError(f"cannot read {path}: {error.strerror or error}") from error
    return car if num_points is None else _with_points(car, num_points, seed)


def _refuse(text, why, **options):
    given = [f"{name}=" for name, value in options.items() if value is not None]
    if given:
        raise BsavizError(f"{', '.join(given)} does not apply to {text!r}: {why}")


def _generated(name, frame):
    from bsaviz.datasets.generated import load_generated

    if not name.isdigit():
        raise BsavizError(f"generated cars go by number, e.g. 'generated:7'; got 'generated:{name}'")
    if frame not in ("canonical", "file"):
        raise BsavizError(f"frame must be 'canonical' or 'file', got {frame!r}")
    return load_generated(int(name))


def _from_path(path, field, frame, up, forward):
    from bsaviz.datasets.meshes import known_pressure, read_mesh
    from bsaviz.datasets.shapenet import find_sample, read_sample

    if not path.exists():
        raise BsavizError(_missing(path))
    if sample := find_sample(path):
        _refuse(str(path), "a ShapeNet-Car sample, whose axes and field are known", field=field, up=up, forward=forward)
        return read_sample(sample, frame)
    if path.is_dir():
        raise BsavizError(_not_a_sample(path))
    car = read_mesh(path, field)
    is_pressure = field is not None or known_pressure(car.attrs.get("pressure_field", ""))
    return canonical(car, frame=frame, up=up, forward=forward, nose_by_pressure=is_pressure)


def _missing(path):
    """Message for a path that does not exist, with what there is near it."""
    if re.match(r"[A-Za-z][\w-]+:", str(path)):
        return f"{str(path)!r} names neither a known kind of car nor a file; known are {', '.join(_KINDS)}"
    folder = next(parent for parent in path.absolute().parents if parent.is_dir())
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    alike = difflib.get_close_matches(path.name, there, n=3, cutoff=0.6) or there[:5]
    more = ", ..." if len(there) > len(alike) else ""
    return f"no file or folder {str(path)!r}; {folder} has {', '.join(alike) or 'no files'}{more}"


def _not_a_sample(path):
    from bsaviz.datasets.meshes import SUFFIXES
    from bsaviz.datasets.shapenet import list_samples, root_in

    if root := root_in(path):
        samples = list(list_samples(root))
        return f"{path} holds {len(samples)} cars; load one: load_car('shapenet:{samples[0]}', root=...)"
    files = [entry.name for entry in sorted(path.iterdir()) if entry.suffix.lower() in SUFFIXES]
    there = f"one of its files: {', '.join(files[:5])}" if files else "the path of a mesh file"
    return f"the folder {path} is not a ShapeNet-Car sample (no quadpress_smpl.vtk, no mesh_points.th); give {there}"


def _with_points(car, num_points, seed):
    if not is_whole(num_points) or num_points < 1:
        raise BsavizError(f"num_points must be a positive whole number, got {num_points!r}")
    if num_points > MOST_POINTS:
        raise BsavizError(f"num_points must be at most {MOST_POINTS}, got {num_points}; a finer surface fits no memory")
    if num_points > car.num_points and car.faces is not None:
        car = car.refine(num_points)
    return car.subsample(num_points, seed)
