"""What a live scene shows, checked: a surface, and for each panel its paint, marks and title. Holds no picture."""

import re
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.branches import colour_map, rgb
from bsaviz.view.panels import dot_radii
from bsaviz.view.reading import Bar

MOST_CLASSES = 256  # a class is sent as a byte a point

@dataclass(frozen=True)
class Surface:
    """Positions (P, 3) float32, faces (F, 3) int64 or None for a cloud, and the radius of a drawn point."""

    positions: np.ndarray
    faces: np.ndarray | None
    radius: float


@dataclass(frozen=True)
class Scalars:
    """Levels (P,) uint8 along the bar, 0 where there is no value, and that place's colour."""

    levels: np.ndarray
    bar: Bar
    nan_colour: str

    @property
    def ramp(self):
        """(256, 3) uint8: the colour of each level."""
        ramp = self.bar.ramps[0].copy()
        ramp[0] = rgb(self.nan_colour)
        return ramp

    @property
    def colours(self):
        """(P, 3) uint8: the colour of each point."""
        return self.ramp[self.levels]

    @property
    def some_missing(self):
        return bool((self.levels == 0).any())


@dataclass(frozen=True)
class Colours:
    """Colours (P, 3) uint8 as given, and what they mean: pairs of a name and ``"#rrggbb"``."""

    colours: np.ndarray
    legend: tuple


@dataclass(frozen=True)
class Classes:
    """Rows (P,) uint8 of a palette (k, 3) uint8, and what they mean, as in `Colours`."""

    classes: np.ndarray
    palette: np.ndarray
    legend: tuple

    @property
    def colours(self):
        """(P, 3) uint8: the colour of each point."""
        return self.palette[self.classes]


@dataclass(frozen=True)
class Marks:
    """Points (k,) int64 drawn larger in one colour; on top: never hidden by the surface."""

    points: np.ndarray
    colour: str
    scale: float
    on_top: bool


@dataclass
class Panel:
    """One view of the surface: grey without paint; at most one `Marks` a colour."""

    title: str = ""
    paint: Scalars | Colours | Classes | None = None
    marks: dict = field(default_factory=dict)


def check_surface(positions, faces, point_size):
    """`Surface` of what was given."""
    p = _numbers(positions, "positions", "(P, 3)")
    if p.ndim != 2 or p.shape[1] != 3 or len(p) == 0:
        raise BsavizError(f"positions must have shape (P, 3) with at least one point, got {p.shape}")
    p = p.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(p).all(1))
    if len(bad):
        raise BsavizError(f"positions must be finite, but {len(bad)} are NaN or infinite, the first is point {bad[0]}")
    if point_size is not None and not (np.isscalar(point_size) and np.isfinite(point_size) and point_size > 0):
        raise BsavizError(f"point_size must be a positive number in the unit of the positions, got {point_size!r}")
    radius = dot_radii(p)[0] if point_size is None else 0.5 * float(point_size)
    return Surface(p, None if faces is None else _check_faces(faces, len(p)), radius)


def _check_faces(faces, points):
    f = np.asarray(faces)
    if f.ndim != 2 or f.shape[1] != 3 or not np.issubdtype(f.dtype, np.integer):
        raise BsavizError(f"faces must be whole numbers of shape (F, 3), or None for a cloud, got {f.dtype} {f.shape}")
    if len(f) == 0:
        return None
    if f.min() < 0 or f.max() >= points:
        raise BsavizError(f"faces must hold points 0 to {points - 1}, got {f.min()} to {f.max()}")
    return np.ascontiguousarray(f, np.int64)


def check_scalars(values, points, *, cmap, clim, label, nan_colour):
    """`Scalars` of one number a point; without `clim` the colours span the finite values."""
    v = _numbers(values, "values", "(P,)").astype(np.float64)
    if v.shape != (points,):
        raise BsavizError(f"values must be one number a point, shape ({points},), got {v.shape}")
    bar = Bar(str(label), *_limits(v, clim), (_ramp(cmap),))
    missing = np.isnan(v)
    levels = bar.levels(np.where(missing, bar.low, v))
    levels[missing] = 0
    return Scalars(levels, bar, check_colour(nan_colour, "nan_colour"))


def _limits(values, clim):
    if clim is None:
        finite = values[np.isfinite(values)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if not high - low > 1e-6 * max(abs(high), abs(low)):  # constant values: a bar of one colour cannot be read
            low, high = low - 0.5e-3 * max(abs(low), 1), high + 0.5e-3 * max(abs(high), 1)
        return low, high
    try:
        low, high = (float(end) for end in clim)
    except (TypeError, ValueError):
        low = high = np.nan
    if not (np.isfinite([low, high]).all() and low < high):
        raise BsavizError(f"clim must be two finite numbers (low, high) with low < high, got {clim!r}")
    return low, high


def _ramp(cmap):
    try:
        return colour_map(cmap)
    except (KeyError, TypeError):
        raise BsavizError(f"cmap must be the name of a matplotlib colour map such as 'viridis', got {cmap!r}") from None


def check_colours(colours, points, legend):
    """`Colours` of one colour a point."""
    c = np.asarray(colours)
    if c.shape != (points, 3) or c.dtype != np.uint8:
        raise BsavizError(f"rgb must be uint8 of shape ({points}, 3), one colour a point, got {c.dtype} {c.shape}")
    return Colours(np.ascontiguousarray(c), _check_legend(legend))


def check_classes(classes, points, palette, legend):
    """`Classes` of one class a point, True and False or rows of the palette."""
    if isinstance(palette, str) or not 1 <= len(palette) <= MOST_CLASSES:
        raise BsavizError(f"palette must be a list of 1 to {MOST_CLASSES} colours '#rrggbb', got {palette!r}")
    colours = np.stack([rgb(check_colour(colour, f"palette[{i}]")) for i, colour in enumerate(palette)])
    c = np.asarray(classes)
    if c.shape != (points,) or not (c.dtype == bool or np.issubdtype(c.dtype, np.integer)):
        raise BsavizError(
            f"classes must be bool or whole numbers of shape ({points},), one a point, got {c.dtype} {c.shape}"
        )
    if c.min() < 0 or c.max() >= len(colours):
        raise BsavizError(
            f"classes must be rows 0 to {len(colours) - 1} of the palette, got {int(c.min())} to {int(c.max())}"
        )
    return Classes(c.astype(np.uint8), colours, _check_legend(legend))


def _check_legend(legend):
    if legend is not None and not isinstance(legend, dict):
        raise BsavizError(f"legend must be a dict of names and colours '#rrggbb', or None, got {legend!r}")
    named = ((str(name), check_colour(colour, f"legend[{name!r}]")) for name, colour in (legend or {}).items())
    return tuple(named)


def check_marks(points, count, colour, scale, on_top):
    """`Marks` of points of a surface of `count` points."""
    p = np.atleast_1d(np.asarray(points))
    if p.size == 0:
        p = np.empty(0, np.int64)
    if p.dtype == bool or not np.issubdtype(p.dtype, np.integer) or p.ndim != 1:
        raise BsavizError(f"points must be whole numbers of shape (k,), got {p.dtype} of shape {p.shape}")
    outside = p[(p < 0) | (p >= count)]
    if len(outside):
        raise BsavizError(f"point {outside[0]} is out of range: the surface has {count} points, 0 to {count - 1}")
    if not (np.isscalar(scale) and np.isfinite(scale) and scale > 0):
        raise BsavizError(f"scale must be a positive number, got {scale!r}")
    return Marks(p.astype(np.int64), check_colour(colour, "colour"), float(scale), bool(on_top))


def check_colour(colour, name):
    """The colour in upper case, if it is ``"#rrggbb"``."""
    if isinstance(colour, str) and re.fullmatch("#[0-9a-fA-F]{6}", colour):
        return colour.upper()
    raise BsavizError(f"{name} must be a colour '#rrggbb', got {colour!r}")


def whole_number(value):
    """Whether this is an integer of Python or numpy, and no boolean."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def _numbers(values, name, shape):
    values = np.asarray(values)
    if values.dtype == bool:
        return values.astype(np.float32)
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        raise BsavizError(f"{name} must be real numbers of shape {shape}, got {values.dtype} of shape {values.shape}")
    return values
