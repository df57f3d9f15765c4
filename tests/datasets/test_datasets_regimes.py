"""Charges and heat on cars: the knob goes from local to global, and the field is the physics' own."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, load_car, with_heat, with_potential
from bsaviz.physics import surface_potential


@pytest.fixture(scope="module")
def car():
    return load_car("generated:0")


def test_potential_is_that_of_the_charge_in_car_lengths(car):
    out = with_potential(car, screening_length=0.2, seed=1)
    positions, areas = car.positions / car.length, car.point_areas / car.length**2
    again = surface_potential(positions, areas, out.fields["charge"], screening_length=0.2)
    np.testing.assert_allclose(out.fields["potential"], again, rtol=1e-4, atol=1e-6)
    assert out.fields["charge"].std() == pytest.approx(1, rel=1e-3)
    assert out.attrs["screening_length"] == 0.2


def test_the_shorter_the_screening_the_more_local(car):
    following = [
        np.corrcoef(*(with_potential(car, screening_length=length).fields[n] for n in ("charge", "potential")))[0, 1]
        for length in (0.005, 0.05, 1.0)
    ]
    assert following[0] > 0.99 > following[1] > 0.95 > following[2]


def test_every_car_and_seed_has_its_own_charge(car):
    other = load_car("generated:1")
    charge = lambda car, seed: with_potential(car, screening_length=0.01, seed=seed).fields["charge"]
    assert not np.allclose(charge(car, 0), charge(car, 1))
    assert not np.allclose(charge(car, 0)[:100], charge(other, 0)[:100])
    np.testing.assert_array_equal(charge(car, 0), charge(car, 0))


def test_heat_smooths_and_keeps_the_mean(car):
    out = with_heat(car, spread=0.05)
    before, after = out.fields["temperature"], out.fields["heat"]
    assert after.std() < before.std()
    areas = car.point_areas
    assert (areas @ after) / areas.sum() == pytest.approx((areas @ before) / areas.sum(), abs=1e-3)


def test_errors_say_what_was_expected(car):
    with pytest.raises(BsavizError, match="seed must be a whole number of at least 0, got -1"):
        with_potential(car, seed=-1)
    with pytest.raises(BsavizError, match="spread must be a finite length above 0"):
        with_heat(car, spread=0)
    with pytest.raises(BsavizError, match="'bare' is a cloud; heat needs a closed surface"):
        with_heat(Car("bare", car.positions))
    with pytest.raises(BsavizError, match="not both"):
        with_potential(car, screening_length=1, wavelength=1)
