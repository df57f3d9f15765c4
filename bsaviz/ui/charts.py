"""Small charts as SVG: they appear at once and need no plotting library in the browser."""

from html import escape

import numpy as np

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 44, 42
TICKS = 5


class Chart:
    """An SVG with two axes; draw with `bars` and `line`, then take `svg`.

    Parameters
    ----------
    title, x_label, y_label : str
    x, y : (float, float)
        Ranges of the axes.
    whole_x : bool
        Ticks of the x axis at whole numbers only.
    log_y : bool
        A logarithmic y axis, for values above 0.
    """

    def __init__(self, title, x_label, y_label, x, y, *, whole_x=False, log_y=False):
        self._title, self._labels, self._x, self._y, self._log_y = title, (x_label, y_label), x, y, log_y
        self._x_ticks, self._y_ticks = ticks(*x, whole=whole_x), (log_ticks if log_y else ticks)(*y)
        self._marks, self._key = [], []

    def steps(self, edges, heights, name, colour):
        """The outline of a histogram, filled faintly."""
        at_x, at_y = self._across(np.repeat(edges, 2)), self._up(np.concatenate([[0], np.repeat(heights, 2), [0]]))
        path = _path(at_x, at_y)
        self._marks.append(
            f'<path d="{path}" fill="{colour}" fill-opacity=".18" stroke="{colour}" stroke-width="1.6"/>'
        )
        self._key.append((name, colour))

    def line(self, x, y, name, colour, *, named=True, width=1.8, opacity=1.0):
        """A line through points; gaps where y is NaN are bridged."""
        there = np.isfinite(y)
        path = _path(self._across(np.asarray(x)[there]), self._up(np.asarray(y)[there]))
        self._marks.append(
            f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}" '
            f'stroke-linejoin="round"><title>{escape(name)}</title></path>'
        )
        if named:
            self._key.append((name, colour))

    def upright(self, x, colour):
        """A dashed line at a place of the x axis."""
        at = float(self._across(x))
        self._marks.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" '
            'stroke-dasharray="4 3"/>'
        )

    @property
    def svg(self):
        """The chart as text."""
        parts = [
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" '
            f'aria-label="{escape(self._title)}" xmlns="http://www.w3.org/2000/svg" '
            'font-family="sans-serif" font-size="11" fill="#222">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
            f'<text x="{LEFT}" y="15" font-weight="600" font-size="12">{escape(self._title)}</text>',
            *self._axes(),
            *self._marks,
            *self._names(),
            "</svg>",
        ]
        return "".join(parts)

    def _axes(self):
        low, right = HEIGHT - BOTTOM, WIDTH - RIGHT
        for value in self._x_ticks:
            at = float(self._across(value))
            yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{low}" y2="{low + 4}" stroke="#555"/>'
            yield f'<text x="{at:.1f}" y="{low + 16}" text-anchor="middle">{_number(value)}</text>'
        for value in self._y_ticks:
            at = float(self._up(value))
            yield f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>'
            yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_number(value)}</text>'
        yield f'<path d="M{LEFT} {TOP}V{low}H{right}" fill="none" stroke="#555"/>'
        middle = (LEFT + right) / 2
        yield f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{escape(self._labels[0])}</text>'
        middle = (TOP + low) / 2
        yield (
            f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">'
            f"{escape(self._labels[1])}</text>"
        )

    def _names(self):
        at = LEFT
        for name, colour in self._key:
            yield f'<rect x="{at:.0f}" y="24" width="10" height="10" rx="2" fill="{colour}"/>'
            yield f'<text x="{at + 14:.0f}" y="33">{escape(name)}</text>'
            at += 6.4 * len(name) + 28

    def _across(self, x):
        low, high = self._x
        return LEFT + (np.asarray(x, float) - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def _up(self, y):
        low, high, y = *self._y, np.asarray(y, float)
        if self._log_y:
            low, high, y = np.log10(low), np.log10(high), np.log10(np.maximum(y, low))
        return HEIGHT - BOTTOM - (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def ticks(low, high, *, whole=False):
    """About five round numbers from `low` to `high`."""
    raw = (high - low) / TICKS
    power = 10.0 ** np.floor(np.log10(raw))
    step = power * next(m for m in (1, 2, 5, 10) if power * m >= 0.999 * raw)
    step = max(1.0, step) if whole else step
    first = np.ceil(low / step - 1e-9)
    return [float(value) + 0.0 for value in np.arange(first, high / step + 1e-9) * step]  # + 0.0: no "-0"


def log_ticks(low, high):
    """1, 2 and 5 times powers of ten from `low` to `high`, or those powers alone over many; round numbers over few."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    for factors in ((1,), (1, 2, 5)):
        found = [float(power * factor) for power in powers for factor in factors if low <= power * factor <= high]
        if len(found) >= 3:
            return found
    return ticks(low, high)


def _path(x, y):
    points = [f"{a:.1f} {b:.1f}" for a, b in zip(x, y)]
    return "M" + "L".join(points) if points else ""


def _number(value):
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
