"""What fields are asked on: a car, or bare points."""

from dataclasses import dataclass, field

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, Sample


@dataclass(frozen=True)
class Cloud:
    """Bare points in two or three dimensions, with what a `Car` would offer."""

    positions: np.ndarray
    name: str = "cloud"
    source: str = "array"
    faces: None = None
    fields: dict = field(default_factory=dict)
    units: dict = field(default_factory=dict)
    attrs: dict = field(default_factory=dict)

    @property
    def length(self):
        return float(np.ptp(self.positions, axis=0).max())

    @property
    def point_areas(self):
        return np.ones(len(self.positions), np.float32)


def as_surface(car, model):
    """The car itself, or points as a `Cloud`; checked against the model's number of dimensions.

    Raises
    ------
    BsavizError
        For anything else, points that are not finite, and points of another dimension than the model's.
    """
    surface = car if isinstance(car, Car | Sample) else _cloud(car)
    dims = model.config.spatial_dims
    if surface.positions.shape[1] != dims:
        raise BsavizError(
            f"the model was built for points in {dims} dimensions (spatial_dims={dims}), "
            f"{surface.name!r} has positions of shape {surface.positions.shape}"
        )
    return surface


def _cloud(points):
    if isinstance(points, str) or not hasattr(points, "__len__"):
        raise BsavizError(
            f"car must be a Car or an array of points (P, 3), got {points!r}; "
            "bsaviz.load_car(...) reads names and files"
        )
    positions = np.asarray(points.detach().cpu() if hasattr(points, "detach") else points)
    if positions.ndim != 2 or positions.dtype.kind not in "fiu" or len(positions) == 0:
        raise BsavizError(f"points must be numbers of shape (P, 3), got {positions.dtype} {positions.shape}")
    if not np.isfinite(positions).all():
        bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
        raise BsavizError(f"{len(bad)} of {len(positions)} points are NaN or infinite, the first at index {bad[0]}")
    return Cloud(np.ascontiguousarray(positions, np.float32))


def point_features(features, surface, model):
    """Features (P, in_features) for the model, from an array or from names of the car's fields; None for none."""
    wanted = model.config.in_features
    if features is None and wanted:
        features = getattr(surface, "feature_names", ()) or None
    if features is None:
        if wanted:
            there = ", ".join(sorted(surface.fields)) or "none"
            raise BsavizError(
                f"this model reads {wanted} features a point (in_features={wanted}): pass features= as an array "
                f"({len(surface.positions)}, {wanted}) or as names of the car's fields (there are: {there})"
            )
        return None
    names = [features] if isinstance(features, str) else features
    if all(isinstance(name, str) for name in names):
        features = np.concatenate([_columns(surface, name) for name in names], axis=1)
    if hasattr(features, "detach"):
        features = features.detach().cpu()
    features = np.asarray(features, np.float32)
    if features.shape != (len(surface.positions), wanted):
        raise BsavizError(
            f"features must be ({len(surface.positions)}, {wanted}): one row a point, and in_features={wanted} of the "
            f"model; got {features.shape}"
        )
    return features


def _columns(surface, name):
    """A field as (P, k) float32; ``"normals"`` are those of the surface, as in training."""
    if name == "normals" and isinstance(surface, Car):
        values = surface.normals
    elif name in surface.fields:
        values = surface.fields[name]
    else:
        there = ", ".join(sorted(surface.fields)) or "none"
        raise BsavizError(f"{surface.name!r} has no field {name!r} to use as a feature; its fields: {there}")
    return np.asarray(values, np.float32).reshape(len(surface.positions), -1)
