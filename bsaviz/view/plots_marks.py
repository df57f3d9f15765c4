"""One colour, shape and line for each thing told apart in a plot: shapes and lines carry it in black and white."""

from dataclasses import dataclass

from bsaviz.view.branches import COLOURS

INK, PALE, GRID = "#222222", "#777777", "#DDDDDD"


@dataclass(frozen=True)
class Mark:
    """How a series looks: its colour, and its shape and line as plotly and as matplotlib name them."""

    colour: str
    symbol: str
    marker: str
    dash: str
    line: object


_SHAPES = (
    ("circle", "o"), ("square", "s"), ("diamond", "D"), ("triangle-up", "^"), ("triangle-down", "v"), ("cross", "P"),
    ("x", "X"), ("hexagon", "h"), ("star", "*"), ("triangle-left", "<"), ("triangle-right", ">"), ("pentagon", "p"),
)  # fmt: skip
_LINES = (
    ("solid", "-"), ("dash", (0, (6, 2))), ("dot", (0, (1.2, 1.6))), ("dashdot", (0, (6, 2, 1.2, 2))),
    ("longdash", (0, (10, 3))), ("longdashdot", (0, (10, 2, 1.2, 2, 1.2, 2))),
)  # fmt: skip
# Okabe and Ito's colours again, in an order in which neighbours differ in lightness too.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#555555", "#882255")
_FIXED = {  # models and branches look alike in every plot, whatever stands beside them
    "full": (COLOURS["full"], 0),
    "ball": (COLOURS["ball"], 1),
    "bsa": (COLOURS["selection"], 2),
    "bsa-group-compression": (COLOURS["compression"], 3),
    "bsa-no-group-selection": (COLOURS["window"], 4),
    "erwin": ("#D55E00", 5),
    "erwin-nsa": ("#555555", 6),
    "nsa": (COLOURS["whole model"], 8),
    "selection": (COLOURS["selection"], 2),
    "compression": (COLOURS["compression"], 3),
    "window": (COLOURS["window"], 4),
}


def marks(names):
    """A `Mark` for each name of a plot, by name; models and branches keep theirs from plot to plot.

    Parameters
    ----------
    names : sequence

    Returns
    -------
    dict of name to Mark
    """
    names = list(dict.fromkeys(names))
    taken = {_FIXED[name][1] for name in names if name in _FIXED}
    free = iter([i for i in range(len(_SHAPES)) if i not in taken] * (1 + len(names) // len(_SHAPES)))
    colours = iter(_COLOURS * (1 + len(names) // len(_COLOURS)))
    found = {}
    for name in names:
        colour, shape = _FIXED[name] if name in _FIXED else (next(colours), next(free))
        (symbol, marker), (dash, line) = _SHAPES[shape], _LINES[shape % len(_LINES)]
        found[name] = Mark(colour, symbol, marker, dash, line)
    return found
