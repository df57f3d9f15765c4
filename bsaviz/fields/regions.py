"""What a query is: points, places, landmarks by name, and regions of several points."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.fields.landmarks import LANDMARKS, landmarks
from bsaviz.fields.queries import resolve_query


@dataclass(frozen=True, eq=False)
class Region:
    """Several points asked about together, under a name.

    Parameters
    ----------
    name : str
    points : sequence of int, or rows of coordinates
        Points by index in input order, or places whose nearest points are meant.
    """

    name: str
    points: object


@dataclass(frozen=True)
class Queries:
    """What was asked for, one entry a query.

    Attributes
    ----------
    anchors : array (Q,) int64
        The point itself, or of a region the point nearest to its middle.
    names : list of str, or None
        None where plain points were asked for.
    members : list of array int64
        Points of each query.
    """

    anchors: np.ndarray
    names: list | None
    members: list

    def __len__(self):
        return len(self.members)

    @property
    def points(self):
        """All members, one query after the other, (R,) int64."""
        return np.concatenate(self.members)

    @property
    def owners(self):
        """Query of each of `points`, (R,) int64."""
        return np.repeat(np.arange(len(self)), [len(points) for points in self.members])

    @property
    def are_points(self):
        """Whether every query is a single point."""
        return all(len(points) == 1 for points in self.members)


def resolve_queries(query, surface):
    """The `Queries` that are meant.

    Parameters
    ----------
    query : int, sequence, coordinates, str, Region, mapping
        As in `bsaviz.receptive_field`.
    surface : Car or Cloud

    Raises
    ------
    BsavizError
        For an unknown landmark, an empty region, a point out of range, and anything that is none of these.
    """
    if isinstance(query, Mapping):
        named = [_region(name, points, surface) for name, points in query.items()]
        if not named:
            raise BsavizError("query is an empty mapping; name at least one point or region")
        return _queries(named, surface)
    if isinstance(query, (str, Region)):
        return _queries([_named(query, surface)], surface)
    if isinstance(query, (list, tuple)) and any(isinstance(one, (str, Region)) for one in query):
        return _queries([_named(one, surface) for one in query], surface)
    points = resolve_query(query, surface.positions)
    return Queries(points, None, list(points[:, None]))


def _named(one, surface):
    """Name and points of one entry of a list."""
    if isinstance(one, Region):
        return _region(one.name, one.points, surface)
    if not isinstance(one, str):
        return _region(f"point {one}" if np.ndim(one) == 0 else "place", one, surface)
    if one not in LANDMARKS:
        raise BsavizError(f"there is no landmark {one!r}; a query by name is one of {', '.join(LANDMARKS)}")
    return one, np.array([landmarks(surface)[one]])


def _region(name, points, surface):
    if not isinstance(name, str) or not name:
        raise BsavizError(f"a region's name must be a text that is not empty, got {name!r}")
    if np.size(points) == 0:
        raise BsavizError(f"region {name!r} has no points; give at least one")
    members = resolve_query(points, surface.positions)
    if len(np.unique(members)) < len(members):
        raise BsavizError(f"region {name!r} names a point twice; name each once")
    return name, members


def _queries(named, surface):
    anchors = [_middle(points, surface.positions) for _, points in named]
    return Queries(np.array(anchors, np.int64), [name for name, _ in named], [points for _, points in named])


def _middle(points, positions):
    """The one of `points` that is nearest to their mean."""
    held = positions[points].astype(np.float64)
    return points[((held - held.mean(axis=0)) ** 2).sum(axis=1).argmin()]
