"""Which query, layer and head of a dataset a picture shows, and whether the dataset can be drawn at all."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, DRAW_ORDER

KINDS = ("structural", "mass")


def what_is(ds):
    """``"field"`` for receptive fields, ``"gates"`` for gates.

    Raises
    ------
    BsavizError
        For any other dataset, or one that lacks what a picture needs.
    """
    kind = "field" if any(k in ds for k in KINDS) else "gates" if "gate" in ds and "point" in ds["gate"].dims else None
    if kind is None:
        raise BsavizError(
            "expected a dataset of bsaviz.receptive_field (variable 'structural' or 'mass') or of bsaviz.gates "
            f"(variable 'gate' with dimension 'point'), got variables {sorted(map(str, ds.data_vars))}"
        )
    if "position" not in ds or ds["position"].dims != ("point", "xyz"):
        raise BsavizError("the dataset has no variable 'position' of dimensions (point, xyz) to draw on")
    strange = [b for b in labels(ds, "branch") if b not in COLOURS]
    if strange:
        raise BsavizError(f"unknown branch {strange[0]!r} in the dataset; branches are {', '.join(COLOURS)}")
    return kind


def kinds_of(ds):
    """The kinds a receptive-field dataset holds."""
    return [k for k in KINDS if k in ds]


def labels(ds, dim):
    """Labels along `dim` as a list: its coordinate, or a scalar one left by a selection, or counting from 0."""
    if dim in ds.coords:
        return np.atleast_1d(ds[dim].values).tolist()
    return list(range(ds.sizes.get(dim, 1)))


def with_all_dims(ds):
    """The fields and gates of `ds`, with the dimensions again that ``.sel`` or ``.isel`` has dropped."""
    field = what_is(ds) == "field"
    variables = kinds_of(ds) if field else ["gate"]
    dims = ["query", "layer", "head", "branch"] if field else ["layer", "head", "branch"]
    out = ds[[*variables, "gate"] if "gate" in ds else variables]
    for dim in dims:
        if dim not in out.dims:
            out = out.expand_dims(dim)
    for name in variables:
        if dims[-1] not in out[name].dims or "point" not in out[name].dims:
            raise BsavizError(f"variable {name!r} has dimensions {out[name].dims}, expected ({', '.join(dims)}, point)")
    return out.transpose(*dims, "point")


def index_of(ds, dim, label, default):
    """Position of `label` along `dim`; `default` (a position) when `label` is None."""
    known = labels(ds, dim)
    if label is None:
        return default % len(known)
    if isinstance(label, (int, np.integer, str)) and label in known:
        return known.index(label)
    raise BsavizError(f"{dim} {label!r} is not in this dataset; it holds {_few(known)}")


def kind_of(ds, kind):
    """`kind`, or the first one present when None."""
    present = kinds_of(ds)
    if kind is None:
        return present[0]
    if kind not in KINDS:
        raise BsavizError(f"kind must be one of {', '.join(map(repr, KINDS))}, got {kind!r}")
    if kind not in present:
        raise BsavizError(
            f"this dataset holds no {kind!r} field, only {', '.join(map(repr, present))}; "
            f"ask for it with receptive_field(..., kinds={KINDS!r})"
        )
    return kind


def drawn_branches(ds):
    """Positions along ``branch`` in drawing order."""
    known = labels(ds, "branch")
    return sorted(range(len(known)), key=lambda i: DRAW_ORDER.index(known[i]))


def geometry(ds):
    """Positions (P, 3) float32 and faces (F, 3) int64 or None of a dataset; flat clouds get z = 0."""
    positions = np.asarray(ds["position"].values, np.float32)
    points, dims = positions.shape
    if points == 0 or dims not in (2, 3) or not np.isfinite(positions).all():
        raise BsavizError(
            f"expected at least one point at finite positions in 2 or 3 dimensions, got {points} points in {dims}"
        )
    if dims == 2:
        positions = np.pad(positions, ((0, 0), (0, 1)))
    faces = np.asarray(ds["faces"].values, np.int64) if "faces" in ds else None
    if faces is None or len(faces) == 0:
        return positions, None
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.min() < 0 or faces.max() >= points:
        raise BsavizError(f"faces must be triangles (face, 3) of point indices below {points}; got shape {faces.shape}")
    return positions, faces


def _few(known):
    shown = ", ".join(map(str, known[:12]))
    return shown if len(known) <= 12 else f"{shown}, ... ({len(known)} in all)"
