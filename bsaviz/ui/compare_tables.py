"""The numbers of a comparison as HTML tables: errors and cost, and what the hot-spot's queries read."""

from html import escape

import numpy as np

from bsaviz.ui.comparison import relative_l2
from bsaviz.ui.hot_spot import CLASSES
from bsaviz.ui.text import swatch, table

NONE = "–"


def error_table(comparison, names, point, unit, costs, parameters):
    """Errors and cost of A, of B, and of their difference.

    Parameters
    ----------
    comparison : Comparison
    names : pair of str
        What A and B are.
    point : int
    unit : str
        Of the field; empty where it is not known.
    costs : pair of float or None
        GFLOPs; None where they are not known yet, or cannot be counted.
    parameters : pair of int
    """
    in_unit = f" ({unit})" if unit else ""
    known = comparison.errors is not None
    at = f"{'error' if known else 'prediction'} at {point:,}{in_unit}"
    head = ("", "relative L2", f"largest error{in_unit}", at, "GFLOPs", "parameters")
    rows = []
    for i, prediction in enumerate((comparison.a, comparison.b)):
        off = comparison.errors[i] if known else prediction
        rows.append(
            (
                escape(names[i]),
                f"{relative_l2(prediction, comparison.target):.4f}" if known else NONE,
                f"{np.abs(off).max():.4g}" if known else NONE,
                f"{off[point]:.4g}",
                NONE if costs[i] is None else f"{costs[i]:.2f}",
                f"{parameters[i]:,}",
            )
        )
    difference = comparison.difference
    ratio = NONE if None in costs else f"{costs[1] / costs[0]:.2f} ×"
    share = f"{relative_l2(comparison.b, comparison.a):.4f}"
    last = ("B − A, relative to A", share, f"{np.abs(difference).max():.4g}", f"{difference[point]:.4g}", ratio, "")
    return table(head, [*rows, last])


def reading_table(readings, point, count, layer):
    """Shares of the surface by how A and B read it for a hot-spot; `layer` None for all layers."""
    where = "any layer" if layer is None else f"layer {layer}"
    queries = f"point {point:,}" if count == 1 else f"the {count} points around {point:,}"
    rows = [
        (swatch(name, colour), *(f"{reading.surface[c]:.1f} %" for reading in readings))
        for c, (name, colour) in CLASSES.items()
    ]
    outside = (NONE if np.isnan(r.outside) else f"{r.outside:.1f} %" for r in readings)
    rows.append(("attention mass outside the balls", *outside))
    never = ", ".join(f"{reading.never_directly:.1f} % by {name}" for name, reading in zip("AB", readings))
    told = f"<div>Never read point by point in {where} for {queries}: {never}.</div>"
    return told + table(("Share of the surface", "A", "B"), rows)
