"""Named places of a car, found by one geometric rule each."""

import numpy as np

from bsaviz._checks import BsavizError

LANDMARKS = ("nose", "bonnet", "windscreen", "mirror line", "roof", "tail", "wheel arch")
_MIDDLE = 0.06  # half width of the band round the middle line, as a share of the width
_BIN = 0.02  # step of the profile, as a share of the length


def landmarks(car):
    """A point of the surface for each named place, by rules on the bounding box and the profile.

    For a car in the canonical frame (nose at -x, z up); on any other shape the same rules give some point near that
    place. Places off the middle line are on the driver's left (-y).

    ============= ======================================================================================
    nose          the foremost point near the middle line
    bonnet        on top, on the middle line, 18 % of the length behind the nose
    windscreen    where the profile of the middle line first rises half way from the bonnet to the roof
    mirror line   the outermost point above half the height, between 20 and 55 % of the length: the door
                  mirror, or the side window where there is none
    roof          the highest point of the middle line
    tail          the rearmost point near the middle line
    wheel arch    above the front wheel (over the lowest points of the front half), on the outer side, at half
                  the height
    ============= ======================================================================================

    Parameters
    ----------
    car : Car, Cloud or array (P, 3)

    Returns
    -------
    dict of str to int
        Point of each of `LANDMARKS`; it may be given as the `query` of `receptive_field`, whole or in part.

    Raises
    ------
    BsavizError
        For points that are not in three dimensions.

    Examples
    --------
    >>> bsaviz.receptive_field(model, car, bsaviz.fields.landmarks(car))  # doctest: +SKIP
    """
    positions = np.asarray(getattr(car, "positions", car))
    if positions.ndim != 2 or positions.shape[1] != 3 or len(positions) == 0:
        raise BsavizError(f"landmarks needs a car or points of shape (P, 3), got {positions.shape}")
    box = _Box(positions.astype(np.float64))
    found = {name: int(_RULES[name](box)) for name in LANDMARKS}
    return found


class _Box:
    """Points by their share of the bounding box: `behind` the nose, `aside` (0 is the left) and `above` the ground."""

    def __init__(self, positions):
        low = positions.min(axis=0)
        self.span = np.maximum(np.ptp(positions, axis=0), 1e-9)
        self.behind, self.aside, self.above = ((positions - low) / self.span).T
        self.middle = self.among(np.abs(self.aside - 0.5), _MIDDLE)

    def among(self, off, most):
        """Points that are off by at most so much; the least off where there is none."""
        return np.flatnonzero(off <= max(most, off.min()))

    def nearest(self, *place):
        """Point nearest to a place, given as (behind, aside, above)."""
        offsets = np.stack([self.behind, self.aside, self.above], axis=1) - place
        return np.square(offsets * self.span).sum(axis=1).argmin()

    def profile(self):
        """The highest point of the middle line in every step of the length, from the nose to the tail."""
        step = (self.behind[self.middle] / _BIN).astype(int)
        by_height = self.middle[np.lexsort((-self.above[self.middle], step))]
        return by_height[np.unique((self.behind[by_height] / _BIN).astype(int), return_index=True)[1]]


def _nose(box):
    return box.middle[box.behind[box.middle].argmin()]


def _tail(box):
    return box.middle[box.behind[box.middle].argmax()]


def _roof(box):
    return box.middle[box.above[box.middle].argmax()]


def _bonnet(box):
    off = np.hypot((box.behind - 0.18) * box.span[0], (box.aside - 0.5) * box.span[1])
    near = np.flatnonzero(off <= max(0.05 * box.span[0], off.min()))
    return near[box.above[near].argmax()]


def _windscreen(box):
    bonnet, roof = _bonnet(box), _roof(box)
    height = (box.above[bonnet] + box.above[roof]) / 2
    profile = box.profile()
    risen = profile[(box.behind[profile] >= box.behind[bonnet]) & (box.above[profile] >= height)]
    if len(risen) == 0:
        return roof
    return box.nearest(box.behind[risen[0]], 0.5, box.above[risen[0]])


def _mirror_line(box):
    band = (box.above >= 0.5) & (box.behind >= 0.2) & (box.behind <= 0.55)
    if not band.any():
        return box.nearest(0.35, 0.0, 0.65)
    candidates = np.flatnonzero(band)
    return candidates[box.aside[candidates].argmin()]


def _wheel_arch(box):
    front = box.among(box.behind, 0.5)
    ground = front[box.above[front] <= box.above[front].min() + 0.02]
    return box.nearest(np.median(box.behind[ground]), 0.0, 0.5)


_RULES = {
    "nose": _nose,
    "bonnet": _bonnet,
    "windscreen": _windscreen,
    "mirror line": _mirror_line,
    "roof": _roof,
    "tail": _tail,
    "wheel arch": _wheel_arch,
}
