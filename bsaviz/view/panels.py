"""A `Picture`: the car's surface and, for each panel, the round dots or the values that lie on it."""

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, QUERY_COLOUR, SURFACE_COLOUR, rgb
from bsaviz.view.choose import geometry, what_is
from bsaviz.view.reading import read_field, read_gates

# Branches that reach everything get smaller dots, so that the others stay visible.
FAINT = ("compression", "full", "whole model")


@dataclass(frozen=True)
class Dots:
    """Round points: `points` (n,) int64 indices, `colours` (n, 3) uint8, `radii` (n,) float32, as positions."""

    name: str
    points: np.ndarray
    colours: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One view of the car. `levels` (P,) uint8, when given, paints the surface with the picture's bar."""

    heading: str
    caption: str
    dots: tuple = ()
    levels: np.ndarray | None = None


@dataclass(frozen=True)
class Picture:
    """Panels that share a surface (positions, faces or None), a query point, a legend, a bar and a footer."""

    positions: np.ndarray
    faces: np.ndarray | None
    panels: tuple
    footer: str
    bar: object = None
    legend: tuple = ()
    query: int | None = None


def field_picture(rf, *, query=None, layer=None, head=None, kind=None):
    """The paper's Fig. 2: panels that add one branch after the other. Arguments as for `read_field`."""
    reading = read_field(rf, query=query, layer=layer, head=head, kind=kind)
    positions, faces = geometry(rf)
    check_query(reading.query, len(positions))
    radii = dot_radii(positions)
    panels = []
    for i, (heading, caption) in enumerate(zip(reading.headings, reading.captions)):
        dots = field_dots(reading, i, *radii)
        panels.append(Panel(heading, caption, cloud_dots(faces, len(positions), dots, radii[1]) + dots))
    query = "query point" if reading.region is None else "query points"
    legend = tuple((b, COLOURS[b]) for b in reading.branches) + ((query, QUERY_COLOUR),)
    return Picture(positions, faces, tuple(panels), reading.footer, reading.bar, legend, reading.query)


def gates_picture(ds, *, layer=None, head=None, clim=None):
    """The gate of each branch painted on the car, one panel a branch. Arguments as for `read_gates`."""
    reading = read_gates(ds, layer=layer, head=head, clim=clim)
    positions, faces = geometry(ds)
    shown = zip(reading.headings, reading.captions, reading.levels)
    panels = [painted_panel(*one, positions, faces, reading.bar) for one in shown]
    return Picture(positions, faces, tuple(panels), reading.footer, reading.bar)


def picture(ds, **choice):
    """The picture of any dataset that can be drawn; see `field_picture` and `gates_picture` for `choice`."""
    draw = field_picture if what_is(ds) == "field" else gates_picture
    return draw(ds, **check_choice(ds, choice))


def check_choice(ds, choice):
    """What was chosen, without what was left None; refuses a choice that such a dataset does not offer."""
    field = what_is(ds) == "field"
    takes = ("query", "layer", "head", "kind") if field else ("layer", "head", "clim")
    given = {name: value for name, value in choice.items() if value is not None}
    for name in given:
        if name not in takes:
            what = "receptive fields" if field else "gates"
            raise BsavizError(f"{name!r} chooses nothing in a picture of {what}, which takes {', '.join(takes)}")
    return given


def painted_panel(heading, caption, levels, positions, faces, bar):
    """A panel with values painted on the surface, or on round dots where there is none."""
    if faces is not None:
        return Panel(heading, caption, levels=levels)
    everything = np.arange(len(positions))
    radii = np.full(len(positions), dot_radii(positions)[0], np.float32)
    return Panel(heading, caption, (Dots("points", everything, bar.ramps[0][levels], radii),))


def field_dots(reading, last, clear, faint):
    """Dots of the branches 0..`last`. A point that several read is drawn once, for the first of them."""
    free = np.ones(reading.levels.shape[1], bool)
    out = []
    if reading.region is not None:  # its points are drawn as such, whatever they read
        free[reading.region] = False
        colours = np.tile(rgb(QUERY_COLOUR), (len(reading.region), 1))
        out.append(Dots("query points", reading.region, colours, np.full(len(reading.region), clear, np.float32)))
    for i, (branch, levels) in enumerate(zip(reading.branches[: last + 1], reading.levels)):
        points = np.flatnonzero(free & (levels > 0))
        free[points] = False
        level = levels[points]
        size = faint if branch in FAINT else clear
        if reading.bar is None:
            colours, radii = np.broadcast_to(rgb(COLOURS[branch]), (len(points), 3)), np.full(len(points), size)
        else:
            colours, radii = reading.bar.ramps[i][level], size * (0.6 + level / 640)
        out.append(Dots(branch, points, np.ascontiguousarray(colours), radii.astype(np.float32)))
    return tuple(out)


def cloud_dots(faces, points, dots, radius):
    """Grey dots for the points that nothing else draws, when there is no surface."""
    if faces is not None:
        return ()
    free = np.ones(points, bool)
    for d in dots:
        free[d.points] = False
    rest = np.flatnonzero(free)
    colours = np.broadcast_to(rgb(SURFACE_COLOUR), (len(rest), 3))
    return (Dots("points", rest, np.ascontiguousarray(colours), np.full(len(rest), radius, np.float32)),)


def dot_radii(positions):
    """Radii of clear and of faint dots: neighbours nearly touch, within limits set by the bounding box's diagonal."""
    diagonal = float(np.linalg.norm(np.ptp(positions, axis=0))) or 1.0
    distinct = np.unique(positions[:: max(1, len(positions) // 20000)], axis=0)
    apart = np.median(cKDTree(distinct).query(distinct, k=2)[0][:, 1]) if len(distinct) > 1 else diagonal
    clear = float(np.clip(0.45 * apart, 0.0045 * diagonal, 0.009 * diagonal))
    return clear, min(0.6 * clear, max(0.3 * float(apart), 0.0016 * diagonal))


def check_query(query, points):
    """Refuse a query that is no point of the car."""
    if query is not None and not 0 <= query < points:
        raise BsavizError(f"query {query} is out of range: the dataset has {points} points, 0 to {points - 1}")
