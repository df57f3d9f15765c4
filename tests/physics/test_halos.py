"""Linear theory, Gaussian fields and the halos made from them."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.interpolate import RegularGridInterpolator

from bsaviz._checks import BsavizError
from bsaviz.physics.cosmology import HUBBLE, Cosmology, top_hat
from bsaviz.physics.halos import RADII, LinearField, find_halos, linear_power, zeldovich_velocity

UNIVERSE = Cosmology()


@pytest.fixture(scope="module")
def field():
    return LinearField(UNIVERSE, box=600.0, cells=64, seed=4)


@pytest.fixture(scope="module")
def halos(field):
    return find_halos(field, 400)


def displacements(halos):
    """What moved each halo, Mpc/h: its velocity over the rate of linear theory."""
    return halos.velocities / zeldovich_velocity(1.0, UNIVERSE)


def interpolated(field, values, places):
    axis = np.arange(field.cells + 1) * field.box / field.cells
    return RegularGridInterpolator((axis,) * 3, np.pad(values, [(0, 1)] * 3, mode="wrap"))(places)


def test_growth_is_the_integral_of_linear_theory():
    """D(a) is proportional to H(a) times the integral of da / (a H)^3 (Heath, 1977)."""
    growing = lambda a: UNIVERSE.expansion(a) * quad(lambda x: 1 / (x * UNIVERSE.expansion(x)) ** 3, 0, a)[0]
    for a in (0.1, 0.3, 0.7, 1.0):
        assert UNIVERSE.growth(a) == pytest.approx(growing(a) / growing(1.0), rel=1e-6)


def test_growth_without_a_cosmological_constant_is_the_scale_factor():
    flat = Cosmology(Omega_m=1.0, Omega_b=0.05)
    a = np.array([0.2, 0.5, 1.0])
    np.testing.assert_allclose(flat.growth(a), a, rtol=1e-12)
    np.testing.assert_allclose(flat.growth_rate(a), 1, rtol=1e-12)


def test_the_growth_rate_is_the_slope_of_growth():
    for a in (0.2, 0.6, 1.0):
        slope = (np.log(UNIVERSE.growth(a * 1.001)) - np.log(UNIVERSE.growth(a / 1.001))) / (2 * np.log(1.001))
        assert UNIVERSE.growth_rate(a) == pytest.approx(slope, rel=1e-5)
    assert UNIVERSE.growth_rate(1.0) == pytest.approx(0.3**0.55, rel=0.01)  # Linder (2005)


def test_the_power_spectrum_is_normalised_and_bends():
    assert UNIVERSE.sigma(8.0) == pytest.approx(0.8, rel=1e-3)
    k = np.geomspace(1e-4, 10, 400)
    power = UNIVERSE.power(k)
    slope = np.gradient(np.log(power), np.log(k))
    assert slope[0] == pytest.approx(UNIVERSE.n_s, abs=0.02)  # as it was laid down
    assert slope[-1] < -2.4  # towards k^(n-4) with a logarithm
    assert 0.01 < k[power.argmax()] < 0.03  # horizon at equality
    assert UNIVERSE.power(0.0) == 0


def test_the_fields_power_is_the_one_asked_for(field):
    k, power, modes = linear_power(field.smoothed(), field.box)
    ratio = power / UNIVERSE.power(k)
    error = np.sqrt(2 / modes)  # of a mean over Gaussian modes, of which half are independent
    inside = modes > 200
    assert (np.abs(ratio - 1)[inside] < 4 * error[inside] + 0.01).all()
    assert np.abs(ratio[inside].mean() - 1) < 0.02


def test_the_divergence_of_the_displacement_is_minus_the_density(field):
    radius = 60.0  # so smooth that central differences are good
    shift, density = field.displacement(radius), field.smoothed(radius)
    spacing = field.box / field.cells
    slope = lambda axis: (np.roll(shift[axis], -1, axis) - np.roll(shift[axis], 1, axis)) / (2 * spacing)
    divergence = sum(slope(axis) for axis in range(3))
    assert np.abs(divergence + density).max() < 0.05 * np.abs(density).max()


def test_velocity_is_the_rate_of_displacement():
    """v = a dx/dt with x = q + D(a) Psi and da/dt = a H: by central differences in a."""
    psi = np.array([3.0, -5.0, 8.0])
    for a in (0.5, 1.0):
        step = 1e-4
        slope = (UNIVERSE.growth(a + step) - UNIVERSE.growth(a - step)) / (2 * step) * psi
        rate = a * slope * a * HUBBLE * UNIVERSE.expansion(a)
        np.testing.assert_allclose(zeldovich_velocity(psi, UNIVERSE, a), rate, rtol=1e-6)


def test_halos_are_peaks_of_the_density(field, halos):
    assert halos.positions.shape == halos.velocities.shape == (400, 3)
    assert ((halos.positions >= 0) & (halos.positions < field.box)).all()
    assert (np.diff(halos.masses) <= 0).all()
    radii = (3 * halos.masses / (4 * np.pi * UNIVERSE.matter_density)) ** (1 / 3)
    assert radii.max() <= RADII[0]
    start = (halos.positions - displacements(halos)) % field.box
    assert interpolated(field, field.smoothed(8.0), start).mean() > 1.5  # the field's own spread is 0.8


def test_halos_move_with_the_matter_round_them(field, halos):
    start = (halos.positions - displacements(halos)) % field.box
    there = np.stack([interpolated(field, part, start) for part in field.displacement(8.0)], axis=1)
    np.testing.assert_allclose(displacements(halos), there, atol=1e-3)


def test_halos_do_not_overlap(field, halos):
    start = (halos.positions - displacements(halos)) % field.box
    radii = (3 * halos.masses / (4 * np.pi * UNIVERSE.matter_density)) ** (1 / 3)
    apart = np.abs(start[:, None] - start)
    apart = np.linalg.norm(np.minimum(apart, field.box - apart), axis=-1) + 1e9 * np.eye(len(start))
    # The radius is refined after overlaps are looked for, by at most one step of the list.
    assert (apart > 0.8 * np.minimum.outer(radii, radii)).all()


def test_displacements_have_the_spread_of_linear_theory():
    """One component: a third of the sum over the modes of P W^2 / k^2 over the volume; mean over boxes."""
    fields = [LinearField(UNIVERSE, box=600.0, cells=32, seed=seed) for seed in range(24)]
    measured = np.mean([one.displacement(20.0).var() for one in fields])
    axis = 2 * np.pi / 600 * np.fft.fftfreq(32, 1 / 32)
    k = np.sqrt(sum(np.square(part) for part in np.ix_(axis, axis, axis)))
    k = k[(k > 0)]
    expected = (UNIVERSE.power(k) * (top_hat(20 * k) / k) ** 2).sum() / 600**3 / 3
    assert measured == pytest.approx(expected, rel=0.1)


def test_equal_seeds_give_equal_halos(field, halos):
    again = find_halos(LinearField(UNIVERSE, box=600.0, cells=64, seed=4), 400)
    assert np.array_equal(again.positions, halos.positions)
    other = LinearField(UNIVERSE, box=600.0, cells=64, seed=5)
    assert not np.array_equal(other.modes, field.modes)


def test_a_box_too_small_says_so():
    with pytest.raises(BsavizError, match=r"holds \d+ halos with Lagrangian radii above 4.12 Mpc/h, 5000 were asked"):
        find_halos(LinearField(UNIVERSE, box=60.0, cells=16), 5000)


def test_bad_settings_are_refused():
    with pytest.raises(BsavizError, match=r"Cosmology needs 0 < Omega_b < Omega_m <= 1, .*Omega_m=0.01"):
        Cosmology(Omega_m=0.01)
    with pytest.raises(BsavizError, match="a field needs a box above 0 and at least 4 cells a side, got 0 and 8"):
        LinearField(UNIVERSE, box=0, cells=8)
