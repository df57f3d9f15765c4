"""Bead-spring polymers: temperature, bonds, diffusion, determinism."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.physics.polymers import Chains, langevin, random_chains


@pytest.fixture(scope="module")
def many():
    """Sixteen short chains, long enough to measure averages."""
    chains = random_chains(16, 6, seed=3)
    return chains, *langevin(chains, frames=120, interval=0.5, warmup=5, seed=1)


def test_every_direction_has_its_share_of_the_heat(many):
    chains, positions, velocities = many
    heat = (velocities[20:] ** 2).mean(axis=(0, 1))
    np.testing.assert_allclose(heat, 1.0, atol=0.05)
    for kind in range(4):
        assert (velocities[20:, chains.types == kind] ** 2).mean() == pytest.approx(1, abs=0.08)


def test_bonds_have_the_length_of_the_model(many):
    chains, positions, _ = many
    ends = positions[20:, chains.bonds]
    sizes = chains.diameters[chains.bonds].mean(axis=1)
    lengths = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1) / sizes
    # Of one free bond, exp(-U) r^2 dr with U = FENE + WCA; neighbours push it a little.
    r = np.linspace(0.7, 1.499, 4000)
    energy = -15 * 1.5**2 * np.log(1 - (r / 1.5) ** 2) + np.where(r < 2 ** (1 / 6), 4 * (r**-12 - r**-6) + 1, 0)
    weight = np.exp(-energy) * r**2
    expected = (weight * r).sum() / weight.sum()
    assert lengths.mean() == pytest.approx(expected, abs=0.01)
    assert lengths.max() < 1.5


def test_a_bead_of_its_own_obeys_langevins_equation():
    """Mean square displacement of free beads: 6 T / gamma (t - (1 - exp(-gamma t)) / gamma).

    All start in one place: that they spread freely shows that polymers do not see each other.
    """
    free = Chains(np.zeros(600, int), np.empty((0, 2), int), np.arange(600), np.ones(600))
    positions, _ = langevin(free, frames=5, interval=1.0, warmup=0, friction=2.0, temperature=0.5, seed=5)
    moved = ((positions - positions[0]) ** 2).sum(axis=-1).mean(axis=1)
    time = np.arange(5)
    np.testing.assert_allclose(moved, 6 * 0.5 / 2 * (time - (1 - np.exp(-2 * time)) / 2), rtol=0.1, atol=1e-9)


def test_the_centre_of_a_chain_diffuses_as_one_heavy_bead(many):
    """Internal forces cancel: <|dR|^2> = 6 T / (N gamma) (t - (1 - exp(-gamma t)) / gamma), whatever the bonds do."""
    chains, positions, _ = many
    size = np.bincount(chains.chain)
    centres = np.stack([positions[:, chains.chain == chain].mean(axis=1) for chain in range(16)], axis=1)
    lag = 8
    moved = ((centres[lag:] - centres[:-lag]) ** 2).sum(axis=-1).mean(axis=0) * size
    time = lag * 0.5
    assert moved.mean() == pytest.approx(6 * (time - 1 + np.exp(-time)), rel=0.2)


def test_equal_seeds_give_equal_bits():
    chains = random_chains(2, 4, seed=7)
    run = lambda seed: langevin(chains, frames=3, interval=0.5, warmup=1, seed=seed)[0]
    assert np.array_equal(run(1), run(1))
    assert not np.array_equal(run(1), run(2))
    assert np.array_equal(random_chains(2, 4, 7).types, chains.types)


def test_chains_hang_together():
    chains = random_chains(3, 10, seed=1)
    assert len(chains.bonds) == len(chains.types) - 3  # trees
    assert (chains.chain[chains.bonds[:, 0]] == chains.chain[chains.bonds[:, 1]]).all()
    assert set(chains.types.tolist()) <= {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"step": 0}, "langevin: step must be above 0, got 0"),
        ({"temperature": -1}, "langevin: temperature must be above 0"),
        ({"frames": 0}, "langevin: frames must be at least 1 and warmup at least 0, got 0 and 1"),
        ({"step": 0.2, "warmup": 50, "temperature": 5}, "a bond of the polymer broke; take a shorter step"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(BsavizError, match=message):
        langevin(random_chains(1, 4, 0), **({"frames": 2, "interval": 1, "warmup": 1} | settings))


def test_a_chain_needs_two_units():
    with pytest.raises(BsavizError, match="at least 1 chain of 2 units, got count=1 and units=1"):
        random_chains(1, 1, 0)
