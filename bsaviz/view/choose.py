"""Which query, layer and head of a dataset a picture shows, and whether the dataset can be drawn at all."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, DRAW_ORDER

_BY_HEAD = ("query", "layer", "head", "branch", "point")
_THROUGH = ("query", "layer", "branch", "point")
DIMS = {
    "structural": _BY_HEAD,
    "mass": _BY_HEAD,
    "gradient": _BY_HEAD,
    "reach": _THROUGH,
    "rollout": _THROUGH,
    "model_gradient": ("query", "point"),
    "gate": _BY_HEAD[1:],
}
KINDS = tuple(DIMS)[:-1]  # of a receptive field
YES_OR_NO = ("structural", "reach")
WHOLE_MODEL = "whole model"  # stands for the branch of a kind that has none


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
            "expected a dataset of bsaviz.receptive_field (with 'structural', 'mass', ...) or of bsaviz.gates "
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


def values_of(ds, name, *, query=None, layer=None, head=None):
    """One kind of field, or the gates, for one query, layer and head.

    Parameters
    ----------
    ds : xarray.Dataset
    name : str
        A key of `DIMS`.
    query, layer, head : optional
        Labels, for the dimensions that the kind has: by default the first query, the last layer, and all heads together
        (the union of what they read, the mean of their amounts).

    Returns
    -------
    branches : tuple of str
        In drawing order.
    values : (branch, point) array
        bool, or float with 0 where there is no value.
    """
    one = with_all_dims(ds, name)
    if "query" in one.dims:
        one = one.isel(query=index_of(ds, "query", query, 0))
    if "layer" in one.dims:
        one = one.isel(layer=index_of(ds, "layer", layer, -1))
    if "head" in one.dims:
        one = _of_heads(ds, one, head)
    values = one.values if one.dtype == bool else np.nan_to_num(one.values)
    if "branch" not in one.dims:
        return (WHOLE_MODEL,), values[None]
    order = drawn_branches(ds)
    return tuple(labels(ds, "branch")[i] for i in order), values[order]


def _of_heads(ds, one, head):
    """One head, or all that the layer has together."""
    if head is not None:
        chosen = one.isel(head=index_of(ds, "head", head, 0))
        if chosen.dtype != bool and chosen.size and bool(chosen.isnull().all()):
            raise BsavizError(f"layer {one['layer'].item()} has no head {head}; it has fewer heads than other layers")
        return chosen
    return one.any("head") if one.dtype == bool else one.mean("head")  # a head that the layer lacks is NaN: left out


def with_all_dims(ds, name):
    """A variable with the dimensions again that ``.sel`` or ``.isel`` has dropped, in the order of `DIMS`."""
    one, dims = ds[name], DIMS[name]
    for dim in dims[:-2] if "branch" in dims else dims[:-1]:
        if dim not in one.dims:
            one = one.expand_dims(dim)
    if "branch" in dims and "branch" not in one.dims and "branch" in one.coords:
        one = one.expand_dims("branch")
    if set(one.dims) != set(dims):
        raise BsavizError(f"variable {name!r} has dimensions {ds[name].dims}, expected ({', '.join(dims)})")
    one = one.transpose(*dims)
    return one.astype(bool) if name in YES_OR_NO else one


def index_of(ds, dim, label, default):
    """Position of `label` along `dim`, of a query also of its name; `default` (a position) when `label` is None."""
    known = labels(ds, dim)
    if label is None:
        return default % len(known)
    named = labels(ds, "region") if dim == "query" and "region" in ds.coords else []
    for labelled in (known, named):
        if isinstance(label, (int, np.integer, str)) and label in labelled:
            return labelled.index(label)
    held = [f"{name} ({point})" for name, point in zip(named, known)] or known
    raise BsavizError(f"{dim} {label!r} is not in this dataset; it holds {_few(held)}")


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
            f"ask for it with receptive_field(..., kinds={(*present, kind)!r})"
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
