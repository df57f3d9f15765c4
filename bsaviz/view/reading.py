"""What a picture says, before any drawing: levels, captions, colour range and footer of one query, layer and head.

Stills, web pages and 3D files are all drawn from a `Reading`, so that they show the same content.
"""

import math
from dataclasses import dataclass

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.branches import COLOURS, colour_map, ramp
from bsaviz.view.choose import DIMS, YES_OR_NO, index_of, kind_of, labels, values_of

DECADES = 4  # an amount below 1/10000 of the largest is drawn in the palest colour
AMOUNTS = {
    "mass": "mass per point = gate × probability",
    "gradient": "change of the output per change of a point",
    "rollout": "mass per point, rolled out",
    "model_gradient": "change of the prediction per change of a point",
}
GATE_COLOURS = "viridis"  # perceptually uniform, its lightness rises all the way: legible in grey


@dataclass(frozen=True)
class Bar:
    """A scalar bar: `ramps` are (256, 3) uint8 colours from `low` to `high`, one above the other, on one axis."""

    label: str
    low: float
    high: float
    ramps: tuple
    log: bool = False

    @property
    def ticks(self):
        """Pairs of position along the bar (0 to 1) and text."""
        if not self.log:
            span = self.high - self.low
            decimals = max(0, 2 - math.floor(math.log10(span)))
            return [(f, f"{self.low + f * span:.{decimals}f}") for f in (0, 0.25, 0.5, 0.75, 1)]
        first, last = math.log10(self.low), math.log10(self.high)
        return [((e - first) / (last - first), f"1e{e}") for e in range(math.ceil(first), math.floor(last) + 1)]

    def levels(self, values):
        """uint8 1..255 of `values`: where they lie between `low` and `high`, clipped."""
        low, high = self.low, self.high
        if self.log:
            values, low, high = np.log10(np.maximum(values, low)), math.log10(low), math.log10(high)
        share = np.clip((np.asarray(values, np.float64) - low) / (high - low), 0, 1)
        return (1 + np.round(254 * share)).astype(np.uint8)


@dataclass(frozen=True)
class Reading:
    """One picture's content.

    Attributes
    ----------
    branches : tuple of str
        In drawing order.
    levels : (branch, point) uint8
        0 where a branch does not read a point (field), else 1..255 along the bar.
    headings, captions : tuple of str
        Above the panels, one panel a branch.
    footer : str
        Query, layer and head in words.
    bar : Bar or None
    query : int or None
        Index of the query point, or of the point in the middle of a region.
    region : (k,) int or None
        Points of the query, where it is a region.
    """

    branches: tuple
    levels: np.ndarray
    headings: tuple
    captions: tuple
    footer: str
    bar: Bar | None
    query: int | None = None
    region: np.ndarray | None = None


def read_field(rf, *, query=None, layer=None, head=None, kind=None):
    """What each branch reads for one query point, or how much of it.

    Parameters
    ----------
    rf : xarray.Dataset
        Of `bsaviz.receptive_field`.
    query : int, optional
        A query point of the dataset, by its point index; the first one by default.
    layer : int, optional
        A layer of the dataset; the last one by default.
    head : int, optional
        One head. None: all heads together, the union of what they read and the mean of their amounts.
    kind : str, optional
        One of `bsaviz.view.choose.KINDS`; by default the first of these in the dataset.

    Returns
    -------
    Reading
    """
    kind = kind_of(rf, kind)
    if head is not None and "head" not in DIMS[kind]:
        raise BsavizError(f"{kind!r} is of all heads together; leave head out")
    branches, values = values_of(rf, kind, query=query, layer=layer, head=head)
    q = index_of(rf, "query", query, 0)
    point, region = int(labels(rf, "query")[q]), _region(rf, q)
    headings = tuple(" + ".join(branches[: i + 1]) for i in range(len(branches)))
    if kind in YES_OR_NO:
        levels, bar = np.where(values, 255, 0).astype(np.uint8), None
        named = headings if kind == "reach" else branches  # what reaches through a branch may pass the ones before it
        captions = [f"{b}: {n:,} points ({100 * n / values.shape[1]:.1f} %)" for b, n in zip(named, values.sum(1))]
    else:
        bar = _amount_bar(values, branches, AMOUNTS[kind])
        levels = np.where(_read(rf, kind, values, query, layer, head), bar.levels(values), 0).astype(np.uint8)
        captions = _amounts(kind, branches, values)
    footer = _footer(rf, kind, layer, head, _query_name(rf, q, point, region))
    return Reading(branches, levels, headings, tuple(captions), footer, bar, point, region)


def read_gates(ds, *, layer=None, head=None, clim=None):
    """The gate of each branch at every point.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `bsaviz.gates`.
    layer : int, optional
        A layer of the dataset; the last one by default.
    head : int, optional
        One head. None: the mean over the heads.
    clim : (float, float), optional
        Range of the colours. By default the range of the values shown, which the bar says.

    Returns
    -------
    Reading
    """
    branches, values = values_of(ds, "gate", layer=layer, head=head)
    bar = value_bar(values, "gate", clim)
    captions = tuple(f"mean {v.mean():.3f}, from {v.min():.3f} to {v.max():.3f}" for v in values)
    headings = tuple(f"gate: {b}" for b in branches)
    return Reading(branches, bar.levels(values), headings, captions, _footer(ds, "gate", layer, head), bar)


def value_bar(values, label, clim=None, colours=GATE_COLOURS):
    """A linear bar over `clim`, or over the range of `values`; its label says which."""
    if clim is None:
        low, high = float(np.min(values)), float(np.max(values))
        label = f"{label} (colours span the data)"
    else:
        low, high = map(float, clim)
        label = f"{label} (colours span {low:g} to {high:g})"
    if not high - low > 1e-6 * max(abs(high), abs(low)):  # constant values: a range of one colour cannot be read
        low, high = low - 0.5e-3 * max(abs(low), 1), high + 0.5e-3 * max(abs(high), 1)
    return Bar(label, low, high, (colour_map(colours),))


def _read(rf, kind, values, query, layer, head):
    """Which points are drawn: those that may be read, also where a mass is too small to be a number."""
    if kind == "mass" and "structural" in rf:
        return values_of(rf, "structural", query=query, layer=layer, head=head)[1]
    return values > 0


def _amount_bar(values, branches, label):
    high = float(values.max(initial=0))
    high = high if high > 0 else 1.0
    ramps = tuple(ramp(COLOURS[b]) for b in branches)
    return Bar(f"{label} (log scale)", high / 10**DECADES, high, ramps, log=True)


def _amounts(kind, branches, values):
    """Captions: summed masses, or the largest of what does not add up."""
    if kind in ("mass", "rollout"):
        sums = values.sum(1, dtype=np.float64)
        share = 100 * sums / max(sums.sum(), 1e-30)
        return [f"{b}: mass {m:.3f} ({s:.0f} % of all)" for b, m, s in zip(branches, sums, share)]
    return [f"{b}: at most {v.max(initial=0):.3g}, at {np.count_nonzero(v):,} points" for b, v in zip(branches, values)]


def _region(rf, q):
    """Points of a query that is a region, or None."""
    if "in_region" not in rf:
        return None
    inside = np.atleast_2d(rf["in_region"].values)[q]
    return np.flatnonzero(inside) if np.count_nonzero(inside) > 1 else None


def _query_name(rf, q, point, region):
    name = str(labels(rf, "region")[q]) if "region" in rf.coords else None
    if region is not None:
        return f"query {name} ({len(region):,} points)"
    return f"query {name} (point {point})" if name and name != f"point {point}" else f"query point {point}"


def _footer(ds, kind, layer, head, first=None):
    name = ds.attrs.get("car")
    parts = [str(name) if name else None, first, _layer_name(ds, kind, layer), _head_name(ds, kind, layer, head)]
    return ", ".join(p for p in parts if p)


def _layer_name(ds, kind, layer):
    if "layer" not in DIMS[kind]:
        return "whole model"
    at = index_of(ds, "layer", layer, -1)
    label = labels(ds, "layer")[at]
    if kind in ("reach", "rollout"):
        return f"layers 0 to {label}" if label != 0 else "layer 0"
    return f"layer {label}" + (f" (level {labels(ds, 'level')[at]})" if "level" in ds.coords else "")


def _head_name(ds, kind, layer, head):
    if head is not None:
        return f"head {head}"
    if "head" not in DIMS[kind]:
        return None
    heads = len(labels(ds, "head"))
    if "gate" in ds and "head" in ds["gate"].dims and "layer" in ds["gate"].dims:
        there = ds["gate"].isel(layer=index_of(ds, "layer", layer, -1)).notnull()
        heads = int(there.any([dim for dim in there.dims if dim != "head"]).sum())  # other layers may have more
    over = {"structural": "union", "mass": "mean mass"}.get(kind, "mean")
    return f"all {heads} heads ({over})" if heads > 1 else "1 head"
