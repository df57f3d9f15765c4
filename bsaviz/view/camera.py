"""Fixed cameras: named directions, an exact fit of the points into a panel, and the first one that sees the query.

In the canonical frame the nose points to -x and z is up; the driver's left is then -y. A camera is the direction from
the object to the eye, so the same name shows the same side of every car.
"""

from dataclasses import dataclass

import numpy as np

from bsaviz._checks import BsavizError

CAMERAS = {
    "front-left": (-1, -1, 0.62),
    "front-right": (-1, 1, 0.62),
    "rear-left": (1, -1, 0.62),
    "rear-right": (1, 1, 0.62),
    "front": (-1, 0, 0.1),
    "rear": (1, 0, 0.1),
    "side": (0, -1, 0.1),
    "right": (0, 1, 0.1),
    "top": (0, 0, 1),
    "bottom": (0, 0, -1),
    "below-left": (-1, -1, -0.62),
    "below-right": (-1, 1, -0.62),
}
SEEN_FROM = ("front-left", "front-right", "rear-left", "rear-right", "top", "below-left", "below-right", "bottom")
GRAZING = 0.2  # cosine: a surface seen flatter than this shows little of what lies around the query
VIEW_ANGLE = 18.0  # degrees, vertical: a long lens distorts little


@dataclass(frozen=True)
class Camera:
    """Eye, focal point and up vector of a picture."""

    position: np.ndarray
    focus: np.ndarray
    up: np.ndarray


def direction(camera, positions, faces=None, query=None):
    """Unit vector from the object to the eye.

    Parameters
    ----------
    camera : str or (float, float, float)
        A name of `CAMERAS`, a direction, or ``"auto"``: the first of `SEEN_FROM` that sees the query well.
    positions : (P, 3) float
    faces : (F, 3) int, optional
    query : int, optional
        Index of the query point.
    """
    if isinstance(camera, str):
        if camera == "auto":
            camera = _auto(positions, faces, query)
        elif camera not in CAMERAS:
            names = ", ".join(map(repr, CAMERAS))
            raise BsavizError(f"camera must be 'auto', {names} or a direction (x, y, z), got {camera!r}")
        camera = CAMERAS[camera]
    vector = np.asarray(camera, float)
    if vector.shape != (3,) or not np.isfinite(vector).all() or not vector.any():
        raise BsavizError(f"a camera direction must be three finite numbers, not all zero, got {camera!r}")
    return vector / np.linalg.norm(vector)


def axes(eye):
    """Right, up and forward of a camera looking along -`eye`, z up (y up when looking straight down or up)."""
    forward = -eye
    up = np.array([0.0, 0, 1]) if np.hypot(eye[0], eye[1]) > 1e-6 else np.array([0.0, np.sign(eye[2]), 0])
    right = np.cross(forward, up)
    right /= np.linalg.norm(right)
    return right, np.cross(right, forward), forward


def fit(positions, eye, aspect, top=0.0, margin=0.04):
    """The nearest camera in direction `eye` whose panel holds every point.

    Parameters
    ----------
    positions : (P, 3) float
    eye : (3,) float
        Unit vector, see `direction`.
    aspect : float
        Width over height of the panel.
    top : float
        Share of the panel's height kept free at the top for text.
    margin : float
        Share kept free at every side.
    """
    right, up, forward = axes(eye)
    half = np.tan(np.radians(VIEW_ANGLE / 2))
    wide, below, above = half * aspect * (1 - 2 * margin), half * (1 - 2 * margin), half * (1 - 2 * margin - 2 * top)
    p = np.asarray(positions, float)
    x, y, z = p @ right, p @ up, p @ forward
    # A point is inside when |x - cx| <= wide (z - cz) and -below (z - cz) <= y - cy <= above (z - cz).
    x_high, x_low = (x - wide * z).max(), (-x - wide * z).max()
    y_high, y_low = (y - above * z).max(), (-y - below * z).max()
    spread = max(np.ptp(p, axis=0).max(), 1e-6)
    cz = min(-(x_high + x_low) / (2 * wide), -(y_high + y_low) / (above + below), z.min() - 0.05 * spread)
    cx = (x_high - x_low) / 2
    cy = ((y_high + above * cz) + (-y_low - below * cz)) / 2
    position = cx * right + cy * up + cz * forward
    return Camera(position, position + (z.mean() - cz) * forward, up)


def _auto(positions, faces, query):
    if np.ptp(positions[:, 2]) == 0:
        return "top"
    if query is None or faces is None:
        return SEEN_FROM[0]
    eyes = {name: np.array(CAMERAS[name]) / np.linalg.norm(CAMERAS[name]) for name in SEEN_FROM}
    clear = [name for name, eye in eyes.items() if sees(positions, faces, query, eye)]
    a, b, c = positions[faces[(faces == query).any(1)]].astype(float).transpose(1, 0, 2)
    normal = np.cross(b - a, c - a).sum(0)
    normal /= max(np.linalg.norm(normal), 1e-300)
    facing = [name for name in clear if abs(normal @ eyes[name]) > GRAZING]
    return (facing or clear or SEEN_FROM)[0]


def sees(positions, faces, query, eye):
    """Whether the ray from point `query` along unit vector `eye` crosses no triangle (Moeller and Trumbore)."""
    corners = positions[faces].astype(float)
    first, edge1, edge2 = corners[:, 0], corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    start = positions[query].astype(float) - first
    across = np.cross(eye, edge2)
    volume = (edge1 * across).sum(1)
    flat = np.abs(volume) < 1e-12 * max(np.abs(volume).max(), 1e-300)
    scale = 1 / np.where(flat, 1, volume)
    u = scale * (start * across).sum(1)
    turned = np.cross(start, edge1)
    v = scale * (turned @ eye)
    distance = scale * (turned * edge2).sum(1)
    nearest = 0.01 * np.ptp(positions, axis=0).max()  # the query's own triangles do not hide it
    return not ((~flat) & (u >= 0) & (v >= 0) & (u + v <= 1) & (distance > nearest)).any()
