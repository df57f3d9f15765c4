"""Which way a car faces: from the axes of a file to the canonical frame (x to the rear, z up, right-handed)."""

from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError

_AXES = {sign + letter: (axis, factor)
         for sign, factor in (("", 1), ("+", 1), ("-", -1)) for axis, letter in enumerate("xyz")}  # fmt: skip
_CLEAR = 1.1  # how many times longer than the next a side must be to count as the length
_LOPSIDED = 0.5  # mirrored points of the width axis must lie this many times closer to the car than the other axis's


def canonical(car, *, frame="canonical", up=None, forward=None, because=None, nose_by_pressure=True):
    """The car in the canonical frame, with ``attrs["frame"]`` saying how it got there.

    Only turns by right angles are made, so numbers keep their exact values. What is not stated is guessed:

    1. *length*: the longest side of the bounding box, if it is at least 10 % longer than the next; otherwise the
       file's axes are kept.
    2. *up*: of the two other axes the one along which the car is not its own mirror image (the shorter one if both are
       about alike); its positive direction points up.
    3. *nose*: the end with the higher mean pressure, if there is a pressure; else the lower end (a bonnet is lower than
       a boot), if one is lower by 5 % of the height; else the negative end.

    Parameters
    ----------
    car : Car
        In the axes of its file.
    frame : "canonical" or "file"
        "file" keeps the axes of the file.
    up, forward : str, optional
        Axis of the file that points up, and the one the nose points along: ``"z"``, ``"-y"``, ...
    because : str, optional
        What `up` and `forward` are known from, when it is not the caller.
    nose_by_pressure : bool
        Whether the field "pressure" can be trusted to be one.

    Returns
    -------
    Car
        Fields of three components are turned too.
    """
    if frame not in ("canonical", "file"):
        raise BsavizError(f"frame must be 'canonical' or 'file', got {frame!r}")
    up, forward = _parse("up", up), _parse("forward", forward)
    if frame == "file":
        if up or forward:
            raise BsavizError("frame='file' keeps the file's axes; leave up and forward out, or leave frame out")
        return replace(car, attrs={**car.attrs, "frame": "file"})
    if up and forward and up[0] == forward[0]:
        raise BsavizError(f"up and forward must be different axes, both are {'xyz'[up[0]]}")
    pressure = car.fields.get("pressure") if nose_by_pressure else None
    forward, up, reasons = _guess(car.positions, pressure, forward, up)
    if forward is None:
        return replace(car, attrs={**car.attrs, "frame": f"file ({reasons})"})
    return _turned(car, forward, up, because or reasons)


def _turned(car, forward, up, reasons):
    """The car turned so that the file's axis `forward` (axis, sign) becomes -x and `up` becomes z."""
    rows = np.zeros((3, 3), np.float32)
    rows[0, forward[0]] = -forward[1]
    rows[2, up[0]] = up[1]
    rows[1] = np.cross(rows[2], rows[0])
    turn = lambda vectors: np.ascontiguousarray(vectors @ rows.T) + np.float32(0)  # no negative zeros
    names = ", ".join(f"{new} = {_name(row)}" for new, row in zip("xyz", rows))
    return replace(
        car,
        positions=turn(car.positions),
        fields={key: turn(value) if value.ndim == 2 and value.shape[1] == 3 and value.dtype.kind == "f" else value
                for key, value in car.fields.items()},  # fmt: skip
        attrs={**car.attrs, "frame": f"canonical: {names} of the file ({reasons})"},
    )


def _guess(positions, pressure, forward, up):
    """Forward and up as (axis, sign), and what told them; (None, None, why) when the shape has no length."""
    extents = np.ptp(positions, axis=0).astype(float)
    reasons = []
    if forward is None:
        rest = [axis for axis in range(3) if not up or axis != up[0]]
        length = max(rest, key=lambda axis: extents[axis])
        next_longest = max(extents[axis] for axis in rest if axis != length)
        if extents[length] <= _CLEAR * next_longest and not up:
            return None, None, "no side of it is clearly the longest; give up= and forward="
        reasons.append("length by the longest side")
    else:
        length = forward[0]
        reasons.append("forward as stated")
    if up is None:
        up, reason = _guess_up(positions, extents, length)
    else:
        reason = "up as stated"
    reasons.append(reason)
    if forward is None:
        sign, reason = _guess_nose(positions, pressure, length, up)
        forward = (length, sign)
        reasons.append(reason)
    return forward, up, ", ".join(reasons)


def _guess_up(positions, extents, length):
    first, second = [axis for axis in (2, 1, 0) if axis != length]
    misfit = {axis: _mirror_misfit(positions, axis) for axis in (first, second)}
    width = min(misfit, key=misfit.get)
    up = first + second - width
    if misfit[width] < _LOPSIDED * misfit[up]:
        return (up, 1), "up by mirror symmetry"
    up = second if extents[second] < 0.95 * extents[first] else first
    return (up, 1), "up by the shorter side"


def _mirror_misfit(positions, axis, most=2000):
    """Mean distance from the points' mirror images in the middle plane of `axis` to the points."""
    some = positions
    if len(positions) > most:
        some = positions[np.random.default_rng(0).choice(len(positions), most, replace=False)]
    image = some.copy()
    image[:, axis] = positions[:, axis].min() + positions[:, axis].max() - image[:, axis]
    return float(cKDTree(positions).query(image)[0].mean())


def _guess_nose(positions, pressure, length, up):
    """Sign of the direction in which the nose points along the axis `length`, and what told it."""
    along = positions[:, length]
    low, high = along.min(), along.max()
    if pressure is not None and pressure.ndim == 1:
        tenth = (high - low) / 10
        difference = pressure[along <= low + tenth].mean() - pressure[along >= high - tenth].mean()
        if abs(difference) > 0.1 * pressure.std():
            return (-1 if difference > 0 else 1), "nose by the pressure"
    heights = positions[:, up[0]] * up[1]
    third = (high - low) / 3
    top = lambda end: np.percentile(heights[end], 95)
    difference = top(along <= low + third) - top(along >= high - third)
    if abs(difference) > 0.05 * np.ptp(heights):
        return (-1 if difference < 0 else 1), "nose by the lower end"
    return -1, "nose at the negative end, unknown"


def _parse(name, value):
    if value is None:
        return None
    if value not in _AXES:
        raise BsavizError(f"{name} must be an axis of the file, one of x, y, z, -x, -y, -z; got {value!r}")
    return _AXES[value]


def _name(row):
    axis = int(np.abs(row).argmax())
    return f"{'-' if row[axis] < 0 else '+'}{'xyz'[axis]}"
