"""The numbers that make a generated car: styles, their ranges, and one draw from a seed."""

from dataclasses import dataclass, fields

import numpy as np

from bsaviz._checks import BsavizError


@dataclass(frozen=True)
class CarShape:
    """Parameters of a car body. Lengths in m, angles in degrees, heights above the ground, x from the nose.

    Attributes
    ----------
    style : str
        Name in `STYLES` that the numbers were drawn from.
    length, width, height : float
        Outer size, without door mirrors.
    clearance : float
        Height of the underbody.
    wheelbase, front_overhang : float
        Between the axles; from the nose to the front axle.
    wheel_radius, wheel_width : float
    nose_height : float
        Leading edge of the bonnet.
    cowl, cowl_height : float
        Where the bonnet meets the windscreen: x and height.
    screen_angle : float
        Windscreen against the horizontal.
    roof_arch : float
        How far the middle of the roof stands above its ends.
    roof_drop : float
        How far the rear end of the roof lies below its front end.
    tail_angle : float
        Rear window against the horizontal.
    deck_length, deck_height : float
        Boot lid behind the rear window, and its height; a length of nearly zero makes a hatch.
    tumblehome : float
        Lean of the side windows from the vertical.
    shoulder : float
        Step from the doors in to the side windows.
    nose_bend, tail_bend : float
        How far the corners of the nose and of the tail fall back behind the middle.
    rounding : float
        Edge radius of the body.
    flare : float
        How far the wheel arches stand out.
    """

    style: str
    length: float
    width: float
    height: float
    clearance: float
    wheelbase: float
    front_overhang: float
    wheel_radius: float
    wheel_width: float
    nose_height: float
    cowl: float
    cowl_height: float
    screen_angle: float
    roof_arch: float
    roof_drop: float
    tail_angle: float
    deck_length: float
    deck_height: float
    tumblehome: float
    shoulder: float
    nose_bend: float
    tail_bend: float
    rounding: float
    flare: float

    @property
    def axles(self):
        """x of the front and of the rear axle."""
        return self.front_overhang, self.front_overhang + self.wheelbase

    def numbers(self):
        """Every parameter but the style, by name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "style"}


# (lowest, highest) of each parameter; wheelbase and front overhang are shares of the length.
_COMMON = dict(
    wheel_width=(0.20, 0.24), roof_arch=(0.02, 0.05), shoulder=(0.03, 0.055), nose_bend=(0.16, 0.30),
    tail_bend=(0.08, 0.18), rounding=(0.07, 0.12), flare=(0.01, 0.035), wheelbase=(0.575, 0.61),
    front_overhang=(0.185, 0.205),
)  # fmt: skip
STYLES = {
    "sedan": dict(
        length=(4.45, 4.95), width=(1.76, 1.88), height=(1.42, 1.49), clearance=(0.17, 0.20), wheel_radius=(0.31, 0.34),
        nose_height=(0.66, 0.76), cowl=(1.25, 1.45), cowl_height=(0.92, 0.98), screen_angle=(28, 33),
        roof_drop=(0.02, 0.06), tail_angle=(26, 34), deck_length=(0.42, 0.65), deck_height=(0.98, 1.06),
        tumblehome=(16, 23),
    ),
    "hatchback": dict(
        length=(3.75, 4.30), width=(1.68, 1.80), height=(1.44, 1.54), clearance=(0.16, 0.19), wheel_radius=(0.29, 0.33),
        nose_height=(0.68, 0.80), cowl=(1.00, 1.18), cowl_height=(0.95, 1.02), screen_angle=(30, 37),
        roof_drop=(0.05, 0.12), tail_angle=(55, 72), deck_length=(0.02, 0.08), deck_height=(0.95, 1.02),
        tumblehome=(13, 20),
    ),
    "suv": dict(
        length=(4.25, 4.95), width=(1.82, 1.96), height=(1.62, 1.80), clearance=(0.22, 0.28), wheel_radius=(0.35, 0.40),
        nose_height=(0.90, 1.04), cowl=(1.18, 1.38), cowl_height=(1.08, 1.18), screen_angle=(33, 42),
        roof_drop=(0.03, 0.09), tail_angle=(60, 76), deck_length=(0.02, 0.08), deck_height=(1.08, 1.18),
        tumblehome=(10, 17),
    ),
    "coupe": dict(
        length=(4.20, 4.70), width=(1.80, 1.94), height=(1.27, 1.37), clearance=(0.13, 0.16),
        wheel_radius=(0.31, 0.335), nose_height=(0.64, 0.71), cowl=(1.42, 1.65), cowl_height=(0.88, 0.93),
        screen_angle=(25, 30), roof_drop=(0.03, 0.06), tail_angle=(17, 23), deck_length=(0.12, 0.28),
        deck_height=(0.90, 0.97), tumblehome=(21, 28),
    ),
    "estate": dict(
        length=(4.50, 4.95), width=(1.76, 1.88), height=(1.44, 1.52), clearance=(0.16, 0.20), wheel_radius=(0.31, 0.34),
        nose_height=(0.66, 0.76), cowl=(1.25, 1.42), cowl_height=(0.92, 0.98), screen_angle=(28, 34),
        roof_drop=(0.05, 0.11), tail_angle=(48, 68), deck_length=(0.02, 0.08), deck_height=(0.94, 1.02),
        tumblehome=(14, 20),
    ),
    "van": dict(
        length=(4.40, 4.95), width=(1.80, 1.95), height=(1.72, 1.95), clearance=(0.16, 0.20), wheel_radius=(0.31, 0.35),
        nose_height=(0.80, 0.94), cowl=(0.82, 1.02), cowl_height=(1.06, 1.16), screen_angle=(34, 44),
        roof_drop=(0.02, 0.07), tail_angle=(74, 84), deck_length=(0.01, 0.04), deck_height=(1.02, 1.12),
        tumblehome=(6, 11),
    ),
}  # fmt: skip


def draw_shape(seed):
    """The shape of one seed: styles take turns, everything else is drawn evenly from the style's range.

    Parameters
    ----------
    seed : int
        Zero or more.

    Returns
    -------
    CarShape
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise BsavizError(f"the seed of a generated car must be an integer, zero or more, got {seed!r}")
    style = list(STYLES)[seed % len(STYLES)]
    generator = np.random.default_rng([20, int(seed)])
    ranges = {**_COMMON, **STYLES[style]}
    # Drawn in the order of the fields, so that a range added to a style does not move the others.
    drawn = {
        field.name: round(float(generator.uniform(*ranges[field.name])), 4)
        for field in fields(CarShape)
        if field.name != "style"
    }
    drawn["wheelbase"] *= drawn["length"]
    drawn["front_overhang"] *= drawn["length"]
    return CarShape(style=style, **drawn)
