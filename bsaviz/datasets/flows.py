"""Flows that reach further than one car's shape: side wind, ride height, and two cars behind each other.

The air is inviscid (`bsaviz.physics.panels`): the second car meets what the first one does to the pressure and to the
direction of the air around it, not a wake of swirling air.
"""

from dataclasses import replace

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets.car import Car
from bsaviz.physics import panel_flow

_DENSITY = 1.184  # kg/m^3, air at 25 degrees C
_STEEPEST = 60.0  # degrees


def with_flow(car, *, yaw=0.0, ride_height=None, speed=20.0, ground=True):
    """The car with the pressure of another wind.

    Parameters
    ----------
    car : Car
        Closed triangles in the canonical frame, metres.
    yaw : float
        Degrees by which the wind comes from the side; positive from the driver's left (towards +y).
    ride_height : float, optional
        Metres between the ground and the lowest point. None: as the car stands above z = 0.
    speed : float
        m/s.
    ground : bool
        False: free air.

    Returns
    -------
    Car
        With the field ``pressure`` in Pa; moved up or down where a ride height is given.

    Raises
    ------
    BsavizError
        For a cloud, a yaw beyond 60 degrees, numbers that are not above 0, and what `panel_flow` refuses.
    """
    if car.faces is None:
        raise BsavizError(f"car {car.name!r} is a cloud; a flow needs a closed surface of triangles")
    if not np.isfinite(yaw) or abs(yaw) > _STEEPEST:
        raise BsavizError(f"yaw must be from -{_STEEPEST:g} to {_STEEPEST:g} degrees, got {yaw!r}")
    for name, value in (("speed", speed), ("ride_height", ride_height)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise BsavizError(f"{name} must be a finite number above 0, got {value!r}")
    positions = car.positions.astype(float)
    if ride_height is not None:
        positions = positions + [0, 0, ride_height - positions[:, 2].min()]
    angle = np.radians(yaw)
    wind = speed * np.array([np.cos(angle), np.sin(angle), 0])
    flow = panel_flow(positions, car.faces, velocity=wind, density=_DENSITY, ground=0.0 if ground else None)
    said = {"yaw": float(yaw), "speed": float(speed), "density": _DENSITY}
    said |= {} if ride_height is None else {"ride_height": float(ride_height)}
    return replace(
        car,
        positions=positions.astype(np.float32),
        fields={**car.fields, "pressure": flow.pressure.astype(np.float32)},
        units={**car.units, "pressure": "Pa"},
        attrs={**car.attrs, **said},
    )


def with_influence(pair, **wind):
    """Two cars in a wind, and what each does to the other's pressure: what a model of one must read off the other.

    Between bodies of size a at a distance r it falls as a dipole's flow, with (a / r)^3: the second of two balls in
    line feels a wind slower by that part (Milne-Thomson, "Theoretical Hydrodynamics", section 15.30), which the tests
    hold it against.

    Parameters
    ----------
    pair : Car
        Of :func:`tandem`.
    **wind
        As for :func:`with_flow`.

    Returns
    -------
    Car
        With the fields ``pressure`` of both together, and ``influence``, the same less that of each car alone, in Pa.

    Raises
    ------
    BsavizError
        For a car that is no pair, and what :func:`with_flow` refuses.
    """
    if "which" not in pair.fields:
        raise BsavizError(f"car {pair.name!r} is no pair: it has no field 'which'; make one with tandem(first, second)")
    both = with_flow(pair, **wind)
    influence = both.pressure.copy()
    for which in (0, 1):
        own = pair.fields["which"] == which
        place = np.cumsum(own) - 1
        faces = place[both.faces[own[both.faces].all(axis=1)]]
        alone = Car(pair.name, both.positions[own], faces, units=both.units)
        influence[own] -= with_flow(alone, **{**wind, "ride_height": None}).pressure
    return replace(both, fields={**both.fields, "influence": influence}, units={**both.units, "influence": "Pa"})


def tandem(first, second, gap):
    """Two cars behind each other as one surface, to be given a flow by :func:`with_flow` or :func:`with_influence`.

    Parameters
    ----------
    first, second : Car
        The one ahead, and the one that follows; closed triangles, metres. Time and memory go with the cube and the
        square of all triangles: ``generate_car(seed, num_points=1500)`` makes coarse ones.
    gap : float
        Metres between the first one's rear and the second one's nose.

    Returns
    -------
    Car
        With the field ``which`` (0 ahead, 1 behind); x = 0 lies in the middle of the gap.
    """
    if not (np.isfinite(gap) and gap > 0):
        raise BsavizError(f"gap must be a finite number of metres above 0, got {gap!r}")
    for car in (first, second):
        if car.faces is None:
            raise BsavizError(f"car {car.name!r} is a cloud; a flow needs a closed surface of triangles")
    ahead = first.positions - [first.positions[:, 0].max() + gap / 2, 0, 0]
    behind = second.positions - [second.positions[:, 0].min() - gap / 2, 0, 0]
    return Car(
        name=f"{first.name} ahead of {second.name}",
        positions=np.concatenate([ahead, behind]).astype(np.float32),
        faces=np.concatenate([first.faces, second.faces + len(ahead)]),
        fields={"which": np.repeat([0, 1], [len(ahead), len(behind)])},
        units={"positions": first.units.get("positions", "m")},
        source=f"{first.source}; {second.source}",
        attrs={"frame": first.attrs.get("frame", "canonical"), "gap": float(gap)},
    )
