"""One colour per branch in every picture, and the colour ramps that show an amount.

The branch colours are Okabe and Ito's, which readers with any colour vision tell apart; the whole model, which is shown
alone, has a wine red.
"""

import numpy as np

from bsaviz._checks import require

COLOURS = {
    "ball": "#0072B2", "window": "#56B4E9", "selection": "#009E73", "compression": "#E69F00", "full": "#CC79A7",
    "whole model": "#882255",
}  # fmt: skip
QUERY_COLOUR = "#D55E00"
SURFACE_COLOUR = "#D9D9D9"
DRAW_ORDER = tuple(COLOURS)  # panels add one branch after the other in this order; the first one stays on top


def rgb(colour):
    """(3,) uint8 of ``"#rrggbb"``."""
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)], np.uint8)


def ramp(colour):
    """(256, 3) uint8 from a pale tint of `colour` through it to a dark shade: lightness falls all the way."""
    pure = rgb(colour).astype(float)
    stops = np.stack([255 - 0.30 * (255 - pure), pure, 0.6 * pure])
    at = np.linspace(0, 1, 256)
    return np.stack([np.interp(at, [0, 0.7, 1], stops[:, c]) for c in range(3)], 1).round().astype(np.uint8)


def colour_map(name):
    """(256, 3) uint8 of one of matplotlib's colour maps, e.g. ``"viridis"``."""
    matplotlib = require("matplotlib", "view")
    return (matplotlib.colormaps[name](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)


def linear(srgb):
    """Linear-light uint8 of sRGB uint8 colours: what glTF stores at vertices."""
    s = np.asarray(srgb, float) / 255
    light = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    return (light * 255).round().astype(np.uint8)
