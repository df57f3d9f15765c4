"""A car, or any other surface, as the rest of bsaviz sees it: points in input order, triangles, fields, units."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from numbers import Real

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.datasets._sampling import collapse_faces, farthest_points, split_long_edges
from bsaviz.datasets._surface import cloud_normals, mesh_normals, mesh_point_areas


@dataclass(frozen=True, eq=False)
class Car:
    """Points of a surface with optional triangles and fields.

    Parameters
    ----------
    name : str
        What to call it in titles, file names and tables.
    positions : array (P, 3)
        Points in input order; stored as float32. Canonical frame: x to the rear (the way the air flows, nose at -x),
        z up, right-handed. ``attrs["frame"]`` says how a loaded file was brought there.
    faces : array (F, 3), optional
        Triangles as rows of point indices; stored as int64. None for a cloud (an empty array becomes None).
    fields : dict of str to array (P,) or (P, k)
        Values at the points; floating ones are stored as float32. ``"pressure"`` is the one models learn, and must be
        finite.
    units : dict of str to str
        Unit of each field, and of ``"positions"`` where it is known.
    source : str
        Where it comes from: a file, or the generator's name.
    attrs : dict
        Anything else that is worth keeping: frame, seed, parameters.

    Raises
    ------
    BsavizError
        For an array of the wrong shape, positions that are not finite (says how many and the first), faces that point
        outside the points, and a field of the wrong length.
    """

    name: str
    positions: np.ndarray
    faces: np.ndarray | None = None
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    attrs: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        who = f"car {self.name!r}" + (f" ({self.source})" if self.source else "")
        positions = _checked_positions(who, self.positions)
        store = lambda name, value: object.__setattr__(self, name, value)
        store("positions", positions)
        store("faces", _checked_faces(who, self.faces, len(positions)))
        store("fields", {key: _checked_field(who, key, value, len(positions))
                         for key, value in dict(self.fields).items()})
        store("units", dict(self.units))
        store("attrs", dict(self.attrs))

    def __repr__(self):
        triangles = "a cloud" if self.faces is None else f"{len(self.faces)} triangles"
        return f"Car({self.name!r}: {self.num_points} points, {triangles}, fields {sorted(self.fields)})"

    @property
    def num_points(self):
        """Number of points, P."""
        return len(self.positions)

    @property
    def pressure(self):
        """The field ``"pressure"`` (P,) float32.

        Raises
        ------
        BsavizError
            When the car has none; lists the fields there are.
        """
        if "pressure" not in self.fields:
            there = ", ".join(sorted(self.fields)) or "none"
            raise BsavizError(
                f"car {self.name!r} has no field 'pressure' (its fields: {there}); "
                "load it with load_car(path, field=NAME) to say which point field holds the pressure"
            )
        return self.fields["pressure"]

    @property
    def length(self):
        """Longest side of the bounding box, in the units of the positions."""
        return float(np.ptp(self.positions, axis=0).max())

    @cached_property
    def point_areas(self):
        """Surface that each point stands for (P,) float32: a third of the area of its triangles; ones for a cloud."""
        if self.faces is None:
            return np.ones(self.num_points, np.float32)
        return mesh_point_areas(self.positions, self.faces)

    @cached_property
    def normals(self):
        """Unit normals (P, 3) float32.

        Of a mesh: the area-weighted mean of the normals of a point's triangles, facing where the faces' winding says
        (zero for a point of no triangle). Of a cloud: the direction in which the 16 nearest points vary least, turned
        away from the centroid of the cloud, which is a guess in concave places.
        """
        if self.faces is None:
            return cloud_normals(self.positions)
        return mesh_normals(self.positions, self.faces)

    def subsample(self, n, seed=0):
        """A well-spread subset of `n` points, in input order, with their fields.

        Points are picked one after the other, each the farthest from those picked before, so that they are spread
        evenly over the surface however uneven the file's own points are. Faces are rebuilt: every point of the file
        is given to its nearest picked one, and a triangle whose corners go to three different points becomes a
        triangle of the subset. That is a mesh to draw and to weigh with, not necessarily a watertight one.

        Parameters
        ----------
        n : int
            Number of points wanted. With as many as there are or more, the car itself is returned.
        seed : int
            Picks the first point.

        Returns
        -------
        Car
            With ``attrs["subsampled_from"]`` and ``attrs["subsample_seed"]``.
        """
        if not is_whole(n) or n < 1:
            raise BsavizError(f"subsample needs a positive whole number of points, got {n!r}")
        n = int(n)
        if n >= self.num_points:
            return self
        keep = farthest_points(self.positions, n, seed)
        faces = None if self.faces is None else collapse_faces(self.positions, self.faces, keep)
        return replace(
            self,
            positions=self.positions[keep],
            faces=faces,
            fields={key: value[keep] for key, value in self.fields.items()},
            attrs={**self.attrs, "subsampled_from": self.num_points, "subsample_seed": int(seed)},
        )

    def refine(self, n):
        """The mesh with at least `n` points: long edges are halved until there are enough.

        Fields are interpolated linearly. Does nothing to a cloud, or where there are enough points already.

        Returns
        -------
        Car
            With ``attrs["refined_from"]``. The first points are those of the file.
        """
        if self.faces is None or n <= self.num_points:
            return self
        ends, faces = split_long_edges(self.positions, self.faces, n)
        middle = lambda values: _append_midpoints(values, ends)
        return replace(
            self,
            positions=middle(self.positions),
            faces=faces,
            fields={key: middle(value) for key, value in self.fields.items()},
            attrs={**self.attrs, "refined_from": self.num_points},
        )

    def to_pyvista(self):
        """The car as a ``pyvista.PolyData`` with its fields as point data (a cloud gets one vertex cell a point)."""
        pyvista = require("pyvista", "view")
        if self.faces is None:
            mesh = pyvista.PolyData(self.positions.copy())
        else:
            mesh = pyvista.PolyData.from_regular_faces(self.positions.copy(), self.faces)
        for key, value in self.fields.items():
            mesh.point_data[key] = value.copy()
        return mesh


def is_whole(number):
    """Whether it is a whole number, however it is stored: 3, 3.0, or one of numpy's."""
    return isinstance(number, Real) and not isinstance(number, bool) and float(number).is_integer()


def _append_midpoints(values, rounds):
    """`values` with the means of each round's pairs of points added at the end, round after round."""
    for ends in rounds:
        values = np.concatenate([values, values[ends].mean(axis=1).astype(values.dtype)])
    return values


def _checked_positions(who, positions):
    positions = np.asarray(positions)
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise BsavizError(f"{who}: positions must have shape (points, 3), got {positions.shape}")
    if len(positions) == 0:
        raise BsavizError(f"{who} is empty: it has no points; check that the file holds a surface or a cloud")
    if positions.dtype.kind not in "fiu":
        raise BsavizError(f"{who}: positions must be real numbers, got {positions.dtype}")
    given = positions
    with np.errstate(over="ignore"):
        positions = np.ascontiguousarray(positions, dtype=np.float32)
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise BsavizError(
            f"{who}: {len(bad)} of {len(positions)} positions are NaN or infinite, the first at index {bad[0]}; "
            "remove those points, or repair the file"
        )
    _check_resolved(who, given, positions)
    return positions


def _check_resolved(who, given, stored):
    """Refuse a surface so far from the origin, for its size, that single precision would merge its points."""
    length = np.ptp(given, axis=0).max()
    if given.dtype != stored.dtype and np.abs(stored - given).max() > 0.02 * length:
        raise BsavizError(
            f"{who}: it measures {length:.3g} but lies {np.abs(given).max():.3g} from the origin, too far for single "
            "precision to tell its points apart; move it to the origin first"
        )


def _checked_faces(who, faces, num_points):
    if faces is None or np.size(faces) == 0:
        return None
    faces = np.asarray(faces)
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu":
        raise BsavizError(
            f"{who}: faces must be integers of shape (triangles, 3), got {faces.dtype} {faces.shape}; "
            "triangulate other polygons first"
        )
    faces = np.ascontiguousarray(faces, dtype=np.int64)
    outside = np.flatnonzero(((faces < 0) | (faces >= num_points)).any(axis=1))
    if len(outside):
        first = faces[outside[0]].tolist()
        raise BsavizError(
            f"{who}: {len(outside)} of {len(faces)} faces use points that do not exist "
            f"(points are 0 to {num_points - 1}); the first is face {outside[0]} = {first}"
        )
    return faces


def _checked_field(who, key, value, num_points):
    value = np.asarray(value)
    if value.ndim not in (1, 2) or len(value) != num_points:
        got = len(value) if value.ndim in (1, 2) else f"an array of shape {value.shape}"
        raise BsavizError(
            f"{who}: field {key!r} must have one value (or one row) a point: expected {num_points}, got {got}"
        )
    if value.dtype.kind not in "fiub":
        raise BsavizError(f"{who}: field {key!r} must hold numbers, got {value.dtype}")
    if value.dtype.kind == "f":
        value = value.astype(np.float32)
    if key == "pressure":
        bad = np.flatnonzero(~np.isfinite(value).reshape(num_points, -1).all(axis=1))
        if len(bad):
            raise BsavizError(
                f"{who}: {len(bad)} of {num_points} values of field 'pressure' are NaN or infinite, "
                f"the first at index {bad[0]}; repair the file or leave that field out"
            )
    return np.ascontiguousarray(value)
