"""What the panels of a comparison show: titles, colours and ranges, for each thing that can be looked at."""

import numpy as np

from bsaviz.ui.hot_spot import CLASSES, DIRECT
from bsaviz.view.branches import SURFACE_COLOUR
from bsaviz.view.car import BOTH_SIGNS
from bsaviz.view.reading import GATE_COLOURS

SHOWS = {
    "hot-spot": "errors and reading",
    "prediction": "predictions",
    "error": "errors",
    "difference": "difference B − A",
    "never read": "what is never read",
}
NEEDS_TARGET = ("error",)
READING_SHOWS = ("hot-spot", "never read")
# Blue and red as in the differences: blue where A has more, red where B has.
WHO = {"both": "#8C8C8C", "only A": "#2166AC", "only B": "#B2182B", "neither": SURFACE_COLOUR}
PERCENTILES, WHOLE = "percentiles", "whole"


class Values:
    """A panel painted with one number a point."""

    def __init__(self, title, values, label, limits, cmap):
        self.title, self.values, self.label, self.limits, self.cmap = title, values, label, limits, cmap

    def paint(self, scene, panel):
        scene.set_title(self.title, panel=panel)
        scene.set_scalars(self.values, panel=panel, cmap=self.cmap, clim=self.limits, label=self.label)


class Classes:
    """A panel painted with one class a point; `palette` is a list of pairs of a name and a colour."""

    def __init__(self, title, classes, palette):
        self.title, self.classes, self.palette = title, classes, palette

    def paint(self, scene, panel):
        scene.set_title(self.title, panel=panel)
        there = np.unique(self.classes)
        legend = dict(self.palette[c] for c in there)
        scene.set_classes(self.classes, [colour for _, colour in self.palette], panel=panel, legend=legend)


def panels(show, comparison, readings, label, limits):
    """The panels of one of `SHOWS`.

    Parameters
    ----------
    show : str
    comparison : Comparison
    readings : pair of HotSpotReading
        Needed for `READING_SHOWS`.
    label : str
        Name and unit of the field.
    limits : {"percentiles", "whole"}
        Colours end at the 1st and 99th percentile, or at the extremes.

    Returns
    -------
    list of Values and Classes
    """
    if show == "prediction":
        return [*_predictions(comparison, label, limits), _difference(comparison, label, limits)]
    if show == "error":
        return [*_errors(comparison, label, limits), _worse(comparison, label, limits)]
    if show == "difference":
        return [_difference(comparison, label, limits)]
    reads = [
        Classes(f"Read by {name}", reading.classes, list(CLASSES.values())) for name, reading in zip("AB", readings)
    ]
    if show == "never read":
        return [*reads, _who_reads(*readings)]
    first = (
        [_difference(comparison, label, limits)] if comparison.errors is None else _errors(comparison, label, limits)
    )
    return [*first, *reads]


def count(show, known):
    """How many `panels` there will be; `known` says whether the field itself is."""
    if show == "hot-spot":
        return 4 if known else 3
    return 1 if show == "difference" else 3


def _predictions(comparison, label, limits):
    both = np.concatenate([comparison.a, comparison.b])
    clim = _apart(*(np.percentile(both, [1, 99]) if limits == PERCENTILES else (both.min(), both.max())))
    sides = zip("AB", (comparison.a, comparison.b))
    return [Values(f"Prediction of {name}", values, label, clim, GATE_COLOURS) for name, values in sides]


def _errors(comparison, label, limits):
    clim = _about_zero(comparison.errors, limits)
    sides = zip("AB", comparison.errors)
    return [Values(f"Error of {name}", values, f"error of {label}", clim, BOTH_SIGNS) for name, values in sides]


def _difference(comparison, label, limits):
    clim = _about_zero([comparison.difference], limits)
    return Values("Difference B − A", comparison.difference, f"difference of {label}", clim, BOTH_SIGNS)


def _worse(comparison, label, limits):
    clim = _about_zero([comparison.worse], limits)
    return Values("Which is farther off", comparison.worse, f"error of B less error of A, {label}", clim, BOTH_SIGNS)


def _who_reads(a, b):
    """Which of the two reads a point by itself."""
    a, b = (reading.classes == DIRECT for reading in (a, b))
    return Classes("Read point by point by", np.select([a & b, a, b], [0, 1, 2], 3), list(WHO.items()))


def _about_zero(values, limits):
    """A range centred at zero that holds all values, or 99 % of them."""
    sizes = np.abs(np.concatenate(values))
    highest = float(np.percentile(sizes, 99) if limits == PERCENTILES else sizes.max())
    return (-highest, highest) if highest > 0 else (-1.0, 1.0)


def _apart(low, high):
    """A range that is not empty."""
    low, high = float(low), float(high)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
