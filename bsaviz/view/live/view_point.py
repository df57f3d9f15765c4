"""The camera of a live scene: a direction, and where someone has moved or zoomed, also a target and a distance."""

from dataclasses import dataclass

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.camera import Camera, axes, direction, fit

MARGIN = 0.05  # share kept free at every side of a panel; the browser fits with the same


@dataclass(frozen=True)
class ViewPoint:
    """Unit `direction` from the object to the eye. `target` and `distance` None: every point is just inside a panel."""

    direction: tuple
    target: tuple | None = None
    distance: float | None = None

    def to_dict(self):
        target = None if self.target is None else list(self.target)
        return {"direction": list(self.direction), "target": target, "distance": self.distance}

    def camera(self, surface, aspect, top=0.0):
        """The `Camera` of a panel of this shape, with a share `top` of its height left free for text."""
        eye = np.array(self.direction)
        if self.target is None:
            return fit(surface.positions, eye, aspect, top=top, margin=MARGIN)
        target = np.array(self.target)
        return Camera(target + self.distance * eye, target, axes(eye)[1])


def check_view_point(camera, surface):
    """`ViewPoint` of a name of `bsaviz.view.CAMERAS`, a direction, or a dict as `ViewPoint.to_dict` gives."""
    positions = np.zeros((1, 3)) if surface is None else surface.positions
    if not isinstance(camera, dict):
        if camera == "auto" and surface is None:
            camera = "front-left"
        return ViewPoint(tuple(direction(camera, positions).tolist()))
    unknown = set(camera) - {"direction", "target", "distance"}
    if unknown or "direction" not in camera:
        raise BsavizError(f"a camera dict has the keys direction, target and distance, got {sorted(map(str, camera))}")
    eye = tuple(direction(camera["direction"], positions).tolist())
    target, distance = camera.get("target"), camera.get("distance")
    if target is None and distance is None:
        return ViewPoint(eye)
    try:
        spot, away = np.array(target, float), float(distance)
    except (TypeError, ValueError):
        spot, away = np.empty(0), 0.0
    if spot.shape != (3,) or not np.isfinite(spot).all() or not (np.isfinite(away) and away > 0):
        raise BsavizError(
            "a camera's target must be three finite numbers and its distance a positive one (or both None), "
            f"got {target!r} and {distance!r}"
        )
    return ViewPoint(eye, tuple(spot.tolist()), away)
