"""A car body as a smooth signed distance: tub, cabin, wheels in their arches, door mirrors.

Tub and cabin are side views (closed curves in x and z) pushed out to a half width that depends on x and z; smooth
minima and maxima join the parts. Only the half ``y >= 0`` is sampled.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, map_coordinates
from scipy.spatial import cKDTree

_TYRE_LIFT = 0.03  # gap under the tyres, m: a panel that touched its own mirror image would have no solution


@dataclass(frozen=True)
class Grid:
    """Samples ``values[i, j, k]`` at ``origin + spacing * (i, j, k)``, with linear interpolation."""

    values: np.ndarray
    origin: np.ndarray
    spacing: float

    def __call__(self, points):
        """Interpolate at points (P, 3)."""
        where = (points - self.origin) / self.spacing
        return map_coordinates(self.values, where.T, order=1, mode="nearest")

    def gradient(self, points):
        """Central difference at points (P, 3)."""
        step = self.spacing / 2
        axes = np.eye(3) * step
        return np.stack([(self(points + axis) - self(points - axis)) / (2 * step) for axis in axes], axis=1)


def body_distance(shape, spacing=0.02):
    """Sample the signed distance (negative inside) of a car on a grid over its half ``y >= 0``.

    Parameters
    ----------
    shape : CarShape
    spacing : float
        Of the grid, m.

    Returns
    -------
    Grid
        x from 0 at the nose, y from 0 at the plane of symmetry, z from 0 at the ground; a distance near the surface,
        only its sign means something far away.
    """
    pad = 4 * spacing
    x = np.arange(-pad, shape.length + pad, spacing)
    y = np.arange(0, shape.width / 2 + 0.25 + pad, spacing)
    z = np.arange(-spacing, shape.height + pad, spacing)
    x3, y3, z3 = np.meshgrid(x, y, z, indexing="ij", sparse=True)
    body = _smooth_min(_tub(shape, x3, y3, z3), _cabin(shape, x3, y3, z3), 0.05)
    body = _smooth_min(body, _door_mirror(shape, x3, y3, z3), 0.06)
    for axle in shape.axles:
        body = _with_wheel(shape, body, axle, x3, y3, z3)
    # Rounded, so that the last bits of a sine on another machine do not move the contour.
    return Grid(np.round(body, 7).astype(np.float32), np.array([x[0], y[0], z[0]]), spacing)


def _smooth_min(a, b, radius):
    """Minimum whose crease is filled to about `radius`."""
    blend = np.maximum(radius - np.abs(a - b), 0) / radius
    return np.minimum(a, b) - blend * blend * radius / 4


def _smooth_max(a, b, radius):
    return -_smooth_min(-a, -b, radius)


def _bump(t):
    """1 at 0, falling smoothly to 0 at +-1 and beyond."""
    return np.square(np.maximum(1 - t * t, 0))


def _ramp(t):
    """0 below 0, 1 above 1, smooth between."""
    t = np.clip(t, 0, 1)
    return t * t * (3 - 2 * t)


def _side_view(corners, rounding, x, z):
    """Lookup of the signed distance to a closed curve through corners (x, z), its corners rounded."""
    corners = np.asarray(corners, dtype=np.float64)
    closed = np.vstack([corners, corners[:1]])
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    step = 0.004
    samples = np.linspace(0, along[-1], int(along[-1] / step), endpoint=False)
    curve = np.stack([np.interp(samples, along, closed[:, axis]) for axis in range(2)], axis=1)
    curve = gaussian_filter1d(curve, rounding / step, axis=0, mode="wrap")
    grid = np.stack(np.meshgrid(x, z, indexing="ij"), axis=-1).reshape(-1, 2)
    distance, nearest = cKDTree(curve).query(grid)
    tangent = np.roll(curve, -1, axis=0) - np.roll(curve, 1, axis=0)
    offset = grid - curve[nearest]
    # The curve runs clockwise (nose, roof, tail, floor), so that outside lies on its left.
    outside = tangent[nearest, 0] * offset[:, 1] - tangent[nearest, 1] * offset[:, 0] > 0
    return np.where(outside, distance, -distance).reshape(len(x), len(z))


def _look_up(table, x_axis, z_axis, x, z):
    """Linear interpolation of a side view at broadcast coordinates."""
    shape = np.broadcast_shapes(x.shape, z.shape)
    step_x, step_z = x_axis[1] - x_axis[0], z_axis[1] - z_axis[0]
    rows = np.broadcast_to((x - x_axis[0]) / step_x, shape)
    columns = np.broadcast_to((z - z_axis[0]) / step_z, shape)
    return map_coordinates(table, [rows, columns], order=1, mode="nearest")


def _pushed_out(shape, corners, half_width, x, y, z, *, corner_rounding, edge_rounding, nose_bend, tail_bend, crown):
    """A side view pushed out to `half_width`, with curved ends in plan and a crowned top."""
    step = x[1, 0, 0] - x[0, 0, 0]
    x_axis = np.arange(x.min() - 0.5, x.max() + 0.5, step)
    z_axis = np.arange(z.min() - 0.2, z.max() + 0.3, step)
    table = _side_view(corners, corner_rounding, x_axis, z_axis)
    across = np.square(y / (shape.width / 2))
    along = 2 * x / shape.length - 1
    profile_x = x + np.where(along < 0, nose_bend, tail_bend) * along * across
    profile_z = z + crown * across * _ramp((z - 0.5) / 0.3)
    return _smooth_max(_look_up(table, x_axis, z_axis, profile_x, profile_z), y - half_width, edge_rounding)


def _belt(shape, x):
    """Height of the lower edge of the side windows."""
    share = _ramp((x - shape.cowl) / (shape.length - shape.cowl))
    return shape.cowl_height + (shape.deck_height - shape.cowl_height) * share


def _tub(shape, x, y, z):
    end, low = shape.length, shape.clearance
    nose, deck = shape.nose_height, shape.deck_height
    corners = [
        (0.30, low), (0.12, low + 0.02), (0.02, low + 0.10), (0.00, low + 0.24), (0.03, nose - 0.14),
        (0.08, nose - 0.05), (0.22, nose + 0.01),
        (0.5 * shape.cowl, 0.42 * nose + 0.58 * shape.cowl_height), (shape.cowl + 0.02, shape.cowl_height),
        (0.6 * shape.cowl + 0.4 * end, 0.6 * shape.cowl_height + 0.4 * deck + 0.01),
        (end - 0.10 - 0.5 * shape.deck_length, deck + 0.005), (end - 0.06, deck - 0.02), (end - 0.05, deck - 0.20),
        (end, low + 0.36), (end - 0.01, low + 0.22), (end - 0.12, low + 0.13), (shape.axles[1] + 0.15, low),
    ]  # fmt: skip
    widest = shape.width / 2 - 0.012
    height = (z - 0.62) / 0.5
    section = 1 - np.where(height < 0, 0.075, 0.05) * height * height
    ends = 1 - 0.10 * np.square(_ramp((0.95 - x) / 0.95)) - 0.075 * np.square(_ramp((x - end + 1.0) / 1.0))
    half_width = widest * section * ends
    for axle in shape.axles:
        radius = np.hypot(x - axle, z - shape.wheel_radius)
        half_width = half_width + shape.flare * _bump((radius - _arch_radius(shape)) / 0.2)
    return _pushed_out(
        shape, corners, half_width, x, y, z, corner_rounding=0.055, edge_rounding=1.4 * shape.rounding,
        nose_bend=shape.nose_bend, tail_bend=shape.tail_bend,
        crown=0.05 - 0.08 * _bump((x - shape.axles[0]) / 0.8),  # wings rise over the front wheels
    )  # fmt: skip


def _roof(shape):
    """x of the roof's front and rear end, and of the foot of the rear window."""
    front = shape.cowl + (shape.height - 0.03 - shape.cowl_height) / np.tan(np.radians(shape.screen_angle))
    foot = shape.length - 0.05 - shape.deck_length
    rise = shape.height - 0.03 - shape.roof_drop - shape.deck_height
    rear = foot - rise / np.tan(np.radians(shape.tail_angle))
    return front, max(rear, front + 0.35), foot


def _cabin(shape, x, y, z):
    front, rear, foot = _roof(shape)
    top = shape.height
    corners = [
        (shape.cowl - 0.10, shape.cowl_height - 0.30), (shape.cowl - 0.02, shape.cowl_height - 0.01),
        (front, top - 0.035), (0.72 * front + 0.28 * rear, top + 0.3 * shape.roof_arch - 0.02),
        (0.45 * front + 0.55 * rear, top - 0.012 - 0.25 * shape.roof_drop), (rear, top - 0.035 - shape.roof_drop),
        (foot, shape.deck_height), (foot - 0.05, shape.deck_height - 0.35),
    ]  # fmt: skip
    above = np.maximum(z - _belt(shape, x), -0.05)
    lean = np.tan(np.radians(shape.tumblehome))
    plan = 1 - 0.05 * np.square(_ramp((front - x) / 1.0)) - 0.08 * np.square(_ramp((x - front - 0.3) / (foot - front)))
    half_width = (shape.width / 2 - shape.shoulder - 0.015) * plan - lean * above * (1 + 0.35 * above)
    return _pushed_out(
        shape, corners, np.maximum(half_width, 0.2), x, y, z, corner_rounding=0.06, edge_rounding=1.6 * shape.rounding,
        nose_bend=0.30, tail_bend=0.16, crown=0.05,
    )  # fmt: skip


def _door_mirror(shape, x, y, z):
    """Door mirror: an ellipsoid on the belt behind the foot of the windscreen."""
    centre_x = shape.cowl + 0.42
    across = np.square((y - shape.width / 2 - 0.03) / 0.16)
    scaled = np.sqrt(np.square((x - centre_x) / 0.085) + across + np.square((z - shape.cowl_height - 0.10) / 0.075))
    return (scaled - 1) * 0.08


def _arch_radius(shape):
    return 1.04 * shape.wheel_radius + 0.05


def _with_wheel(shape, body, axle, x, y, z):
    """Cut an arch into the side of the body and put a wheel in."""
    centre_z = shape.wheel_radius + _TYRE_LIFT
    radius = np.hypot(x - axle, z - centre_z)
    outer = shape.width / 2 - 0.04
    arch = _smooth_max(radius - _arch_radius(shape), outer - 0.10 - y, 0.04)
    body = _smooth_max(body, -arch, 0.05)
    middle, half = outer - shape.wheel_width / 2, shape.wheel_width / 2
    tyre = _smooth_max(radius - shape.wheel_radius, np.abs(y - middle) - half, 0.08)
    dish = np.maximum(radius - 0.64 * shape.wheel_radius, outer - 0.04 - y)
    tyre = _smooth_max(tyre, -dish, 0.04)
    hub = _smooth_max(radius - 0.22 * shape.wheel_radius, np.abs(y - outer + 0.05) - 0.045, 0.04)
    return _smooth_min(body, _smooth_min(tyre, hub, 0.03), 0.05)
