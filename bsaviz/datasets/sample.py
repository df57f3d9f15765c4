"""A sample of any set as the rest of bsaviz sees it: points as a model reads them, fields, what is learnt of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.datasets._sampling import farthest_points
from bsaviz.datasets.car import is_whole

LOSSES = ("mse", "relative_l2", "nll")


@dataclass(frozen=True, eq=False)
class Sample:
    """Points with fields, of which one is learnt from others.

    Wherever a car is taken to look at or to train on, a sample is too. `positions` and the features are what a model
    is given, in the published normalisation of their set; the target is in physical units.

    Parameters
    ----------
    name : str
    positions : array (P, D)
        Points in input order, D = 2 or 3; stored as float32.
    fields : dict of str to array (P,) or (P, k)
        Values at the points; floating ones are stored as float32.
    target_name : str
        The field that is learnt.
    feature_names : tuple of str
        The fields a model reads besides the positions.
    edges : array (2, E) int, optional
        Bonds, each in both directions; stored as int64.
    loss : {"mse", "relative_l2", "nll"}
        The set's published loss: mean squared error of the normalised target; relative L2 error of each sample in
        physical units; negative log-likelihood of the normalised target under a normal distribution whose mean and
        (through a softplus) standard deviation the model predicts, twice as many outputs as the target has columns.
    target_mean, target_std : tuple of float, optional
        Published normalisation of the target. None: mean and standard deviation over the training samples.
    position_mean, position_std : tuple of float
        ``positions * position_std + position_mean`` are in ``units["positions"]``.
    units : dict of str to str
        Unit of each field, and of "positions".
    source : str
        Where it comes from: a file, or the generator's name.
    attrs : dict
        Anything else: ``"dataset"``, ``"generated"`` (True for a stand-in that comes from no public file), parameters.

    Raises
    ------
    BsavizError
        For an array of the wrong shape, values that are not finite, edges to points that do not exist, and a target or
        feature that is no field.
    """

    name: str
    positions: np.ndarray
    fields: Mapping[str, np.ndarray]
    target_name: str
    feature_names: tuple[str, ...] = ()
    edges: np.ndarray | None = None
    loss: str = "mse"
    target_mean: tuple[float, ...] | None = None
    target_std: tuple[float, ...] | None = None
    position_mean: tuple[float, ...] = (0.0,)
    position_std: tuple[float, ...] = (1.0,)
    units: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
    attrs: Mapping[str, object] = field(default_factory=dict)
    faces = None  # as of a car that is a cloud

    def __post_init__(self):
        who = f"sample {self.name!r}" + (f" ({self.source})" if self.source else "")
        store = lambda name, value: object.__setattr__(self, name, value)
        shape = np.shape(self.positions)
        if len(shape) != 2 or shape[1] not in (2, 3) or not shape[0]:
            raise BsavizError(f"{who}: positions must have shape (points, 2 or 3), got {shape}")
        positions = _finite(who, "positions", self.positions, shape[:1])
        store("positions", positions)
        store("fields", {key: _finite(who, key, value, positions.shape[:1]) for key, value in self.fields.items()})
        for key in (self.target_name, *self.feature_names):
            if key not in self.fields:
                there = ", ".join(self.fields) or "none"
                raise BsavizError(f"{who}: there is no field {key!r}; its fields are {there}")
        if self.loss not in LOSSES:
            raise BsavizError(f"{who}: loss must be one of {', '.join(map(repr, LOSSES))}, got {self.loss!r}")
        store("feature_names", tuple(self.feature_names))
        store("edges", _checked_edges(who, self.edges, len(positions)))
        store("units", dict(self.units))
        store("attrs", dict(self.attrs))

    def __repr__(self):
        bonds = "" if self.edges is None else f", {self.edges.shape[1]} edges"
        return f"Sample({self.name!r}: {self.num_points} points{bonds}, learns {self.target_name!r})"

    @property
    def num_points(self):
        """Number of points, P."""
        return len(self.positions)

    @property
    def target(self):
        """What is learnt, (P, T) float32, in physical units."""
        return self.fields[self.target_name].reshape(self.num_points, -1)

    @property
    def features(self):
        """What a model reads besides the positions, (P, F) float32, or None."""
        parts = [self.fields[key].reshape(self.num_points, -1) for key in self.feature_names]
        return np.concatenate(parts, axis=1).astype(np.float32) if parts else None

    @property
    def num_outputs(self):
        """How many numbers a point a model of this set predicts: its ``out_features``."""
        return self.target.shape[1] * (2 if self.loss == "nll" else 1)

    @property
    def physical_positions(self):
        """Positions (P, D) float32 in ``units["positions"]``."""
        return (self.positions * np.float32(self.position_std) + np.float32(self.position_mean)).astype(np.float32)

    @property
    def length(self):
        """Longest side of the bounding box, in the units a model sees."""
        return float(np.ptp(self.positions, axis=0).max())

    @property
    def point_areas(self):
        """Weights of the points in errors (P,) float32: ones."""
        return np.ones(self.num_points, np.float32)

    def subsample(self, n, seed=0):
        """A well-spread subset of `n` points in input order, with their fields and the edges between them.

        Parameters
        ----------
        n : int
            With as many as there are or more, the sample itself is returned.
        seed : int
            Picks the first point.

        Returns
        -------
        Sample
            With ``attrs["subsampled_from"]`` and ``attrs["subsample_seed"]``.
        """
        if not is_whole(n) or n < 1:
            raise BsavizError(f"subsample needs a positive whole number of points, got {n!r}")
        if n >= self.num_points:
            return self
        keep = farthest_points(self._in_space(self.positions), int(n), seed)
        edges = None
        if self.edges is not None:
            place = np.full(self.num_points, -1)
            place[keep] = np.arange(len(keep))
            edges = place[self.edges]
            edges = edges[:, (edges >= 0).all(axis=0)]
        return replace(
            self,
            positions=self.positions[keep],
            fields={key: value[keep] for key, value in self.fields.items()},
            edges=edges,
            attrs={**self.attrs, "subsampled_from": self.num_points, "subsample_seed": int(seed)},
        )

    def to_pyvista(self):
        """A ``pyvista.PolyData`` in physical coordinates, its fields as point data.

        Bonds are lines; without bonds every point is a vertex. A plane sample lies at z = 0.
        """
        pyvista = require("pyvista", "view")
        points = self._in_space(self.physical_positions)
        if self.edges is None:
            mesh = pyvista.PolyData(points)
        else:
            once = self.edges[:, self.edges[0] < self.edges[1]].T
            lines = np.column_stack([np.full(len(once), 2), once])
            mesh = pyvista.PolyData(points, lines=lines)
        for key, value in self.fields.items():
            mesh.point_data[key] = value.copy()
        return mesh

    def _in_space(self, points):
        flat = np.zeros((len(points), 3 - points.shape[1]), points.dtype)
        return np.ascontiguousarray(np.concatenate([points, flat], axis=1))


def _finite(who, name, values, shape):
    """The values, floating ones as float32, checked: one (or one row) a point, all of them finite."""
    values = np.asarray(values)
    if values.ndim not in (1, 2) or values.shape[:1] != shape:
        raise BsavizError(f"{who}: {name} must have one value (or one row) a point, {shape} points; got {values.shape}")
    if values.dtype.kind not in "fiub":
        raise BsavizError(f"{who}: {name} must hold numbers, got {values.dtype}")
    values = np.ascontiguousarray(values, np.float32 if values.dtype.kind == "f" or name == "positions" else None)
    bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    if len(bad):
        raise BsavizError(
            f"{who}: {len(bad)} of {len(values)} values of {name} are NaN or infinite, the first at index {bad[0]}; "
            "repair the file or leave the sample out"
        )
    return values


def _checked_edges(who, edges, num_points):
    if edges is None:
        return None
    edges = np.asarray(edges)
    if edges.ndim != 2 or len(edges) != 2 or edges.dtype.kind not in "iu":
        raise BsavizError(f"{who}: edges must be integers of shape (2, edges), got {edges.dtype} {edges.shape}")
    if edges.size and (edges.min() < 0 or edges.max() >= num_points):
        raise BsavizError(
            f"{who}: edges must join points 0 to {num_points - 1}, got indices from {edges.min()} to {edges.max()}"
        )
    return np.ascontiguousarray(edges, np.int64)
