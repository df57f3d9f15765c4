"""What a picture says, before any drawing: levels, captions, colour range and footer of one query, layer and head.

Stills, web pages and 3D files are all drawn from a `Reading`, so that they show the same content.
"""

import math
from dataclasses import dataclass

import numpy as np

from bsaviz.view.branches import COLOURS, colour_map, ramp
from bsaviz.view.choose import drawn_branches, index_of, kind_of, kinds_of, labels, with_all_dims

MASS_DECADES = 4  # a mass below 1/10000 of the largest is drawn in the palest colour
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
        Index of the query point.
    """

    branches: tuple
    levels: np.ndarray
    headings: tuple
    captions: tuple
    footer: str
    bar: Bar | None
    query: int | None = None


def read_field(rf, *, query=None, layer=None, head=None, kind=None):
    """What each branch reads for one query point.

    Parameters
    ----------
    rf : xarray.Dataset
        Of `bsaviz.receptive_field`.
    query : int, optional
        A query point of the dataset, by its point index; the first one by default.
    layer : int, optional
        A layer of the dataset; the last one by default.
    head : int, optional
        One head. None: all heads together, the union of what they read and the mean of their masses.
    kind : {"structural", "mass"}, optional
        By default the first of these in the dataset.

    Returns
    -------
    Reading
    """
    fields = with_all_dims(rf)
    kind = kind_of(rf, kind)
    q, l = index_of(rf, "query", query, 0), index_of(rf, "layer", layer, -1)
    order = drawn_branches(rf)
    branches = tuple(labels(rf, "branch")[i] for i in order)
    one = {name: fields[name].values[q, l][:, order] for name in kinds_of(rf)}
    one = {name: _heads(v, rf, head, "any" if name == "structural" else "mean") for name, v in one.items()}
    mass = one.get("mass")
    reads = one["structural"].astype(bool) if "structural" in one else mass > 0
    point = int(labels(rf, "query")[q])
    footer = _footer(rf, l, head, "union" if kind == "structural" else "mean mass", f"query point {point}")
    if kind == "structural":
        captions = [f"{b}: {n:,} points ({100 * n / reads.shape[1]:.1f} %)" for b, n in zip(branches, reads.sum(1))]
        levels, bar = np.where(reads, 255, 0).astype(np.uint8), None
    else:
        sums = mass.sum(1, dtype=np.float64)
        share = 100 * sums / max(sums.sum(), 1e-30)
        captions = [f"{b}: mass {m:.3f} ({s:.0f} % of all)" for b, m, s in zip(branches, sums, share)]
        bar = _mass_bar(mass, branches)
        levels = np.where(reads, bar.levels(mass), 0).astype(np.uint8)
    headings = tuple(" + ".join(branches[: i + 1]) for i in range(len(branches)))
    return Reading(branches, levels, headings, tuple(captions), footer, bar, point)


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
    gates = with_all_dims(ds)
    l = index_of(ds, "layer", layer, -1)
    order = drawn_branches(ds)
    branches = tuple(labels(ds, "branch")[i] for i in order)
    values = _heads(gates["gate"].values[l][:, order], ds, head, "mean")
    bar = value_bar(values, "gate", clim)
    captions = tuple(f"mean {v.mean():.3f}, from {v.min():.3f} to {v.max():.3f}" for v in values)
    headings = tuple(f"gate: {b}" for b in branches)
    return Reading(branches, bar.levels(values), headings, captions, _footer(ds, l, head, "mean"), bar)


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


def _mass_bar(mass, branches):
    high = float(mass.max())
    high = high if high > 0 else 1.0
    label = "mass per point = gate × probability (log scale)"
    return Bar(label, high / 10**MASS_DECADES, high, tuple(ramp(COLOURS[b]) for b in branches), log=True)


def _heads(values, ds, head, over):
    if head is None:
        return values.any(0) if over == "any" else values.mean(0)
    return values[index_of(ds, "head", head, 0)]


def _footer(ds, layer, head, over, first=None):
    heads = len(labels(ds, "head"))
    which = f"head {head}" if head is not None else f"all {heads} heads ({over})" if heads > 1 else "1 head"
    name = ds.attrs.get("car")
    parts = [str(name) if name else None, first, f"layer {labels(ds, 'layer')[layer]}", which]
    return ", ".join(p for p in parts if p)
