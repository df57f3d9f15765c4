"""Cars whose field is local, global or a wave, by one knob: what separates what the branches carry."""

from dataclasses import replace

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.physics import heat_flow, surface_potential

_BLOBS = 12
_BLOB_SIZE = 0.06  # of the car's length


def with_potential(car, *, screening_length=None, wavelength=None, seed=0):
    """The car with a random charge on its surface and the potential that the charge makes.

    Lengths are in car lengths, so that one knob means the same on every car. A short screening length makes the
    potential a matter of the neighbourhood, none makes every point feel every other.

    Parameters
    ----------
    car : Car
    screening_length, wavelength : float, optional
        See :func:`bsaviz.physics.surface_potential`; in car lengths.
    seed : int
        Of the charge; each car draws its own.

    Returns
    -------
    Car
        With the fields ``charge`` (what a model is given) and ``potential`` (what it learns), of a charge of standard
        deviation 1 on a car of length 1.
    """
    charge = _random_field(car, seed)
    knob = {"screening_length": screening_length, "wavelength": wavelength}
    potential = surface_potential(car.positions / car.length, car.point_areas / car.length**2, charge, **knob)
    fields = {**car.fields, "charge": charge.astype(np.float32), "potential": potential.astype(np.float32)}
    said = {name: value for name, value in knob.items() if value is not None}
    units = {**car.units, "charge": "1", "potential": "1"}
    return replace(car, fields=fields, units=units, attrs={**car.attrs, **said})


def with_heat(car, *, spread=0.1, seed=0):
    """The car with a random temperature, and what becomes of it when heat has spread on its surface.

    Parameters
    ----------
    car : Car
        With a closed surface of triangles.
    spread : float
        How far heat has come, the root of diffusivity times time, in car lengths.
    seed : int

    Returns
    -------
    Car
        With the fields ``temperature`` (before) and ``heat`` (after).
    """
    if not (np.isfinite(spread) and spread > 0):
        raise BsavizError(f"spread must be a finite length above 0, in car lengths, got {spread!r}")
    if car.faces is None:
        raise BsavizError(f"car {car.name!r} is a cloud; heat needs a closed surface of triangles")
    start = _random_field(car, seed)
    after = heat_flow(car.positions / car.length, car.faces, start, spread**2)
    fields = {**car.fields, "temperature": start.astype(np.float32), "heat": after.astype(np.float32)}
    units = {**car.units, "temperature": "1", "heat": "1"}
    return replace(car, fields=fields, units=units, attrs={**car.attrs, "spread": spread})


def _random_field(car, seed):
    """Blobs of either sign at random points, of mean 0 and standard deviation 1."""
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BsavizError(f"seed must be a whole number of at least 0, got {seed!r}")
    name = np.frombuffer(car.name.encode(), np.uint8)
    rng = np.random.default_rng((seed, *name.tolist()))
    middles = car.positions[rng.integers(len(car.positions), size=_BLOBS)]
    apart = np.linalg.norm(car.positions[:, None] - middles, axis=-1) / (_BLOB_SIZE * car.length)
    values = np.exp(-(apart**2) / 2) @ rng.normal(size=_BLOBS)
    values -= values.mean()
    return values / max(values.std(), 1e-12)
