"""Bead-spring polymers in an implicit solvent: Langevin dynamics of the Kremer-Grest model."""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError

STIFFNESS = 30.0  # of a bond, in units of the repulsion over the diameter squared
STRETCH = 1.5  # longest bond, in diameters
_SKIN = 0.5  # how much farther than the cut-off neighbours are listed
_APART = 1e5  # distance between the frames of different chains while neighbours are looked up
_BROKE = "a bond of the polymer broke; take a shorter step (0.005, say)"
_STRONGEST = 100.0  # force at which overlaps of the first conformation are pushed apart


@dataclass(frozen=True)
class Chains:
    """Beads of several polymers, one after the other.

    Attributes
    ----------
    types : (N,) int
        Kind of each bead: 0 and 1 in the backbone, 2 and 3 in side groups.
    bonds : (B, 2) int
        Pairs of beads.
    chain : (N,) int
        Which polymer each bead belongs to. Polymers do not see each other.
    diameters : (N,) float
    """

    types: np.ndarray
    bonds: np.ndarray
    chain: np.ndarray
    diameters: np.ndarray


UNITS = ((0,), (1,), (0, 2), (1, 2, 3))  # kinds of the beads of each repeat unit: backbone, then side group
DIAMETERS = (1.0, 1.0, 0.9, 1.1)  # of each kind of bead


def random_chains(count, units, seed):
    """Polymers of so many repeat units in a random sequence.

    Parameters
    ----------
    count, units : int
    seed : int or sequence of int

    Returns
    -------
    Chains
    """
    if count < 1 or units < 2:
        raise BsavizError(f"random_chains needs at least 1 chain of 2 units, got count={count} and units={units}")
    generator = np.random.default_rng(seed)
    types, bonds, chain = [], [], []
    for number in range(count):
        before = None
        for unit in generator.integers(len(UNITS), size=units):
            first = len(types)
            types += UNITS[unit]
            chain += [number] * len(UNITS[unit])
            bonds += [] if before is None else [(before, first)]
            bonds += [(bead - 1, bead) for bead in range(first + 1, len(types))]
            before = first
    types = np.array(types)
    return Chains(types, np.array(bonds), np.array(chain), np.array(DIAMETERS)[types])


def langevin(chains, *, frames, interval, warmup=50.0, step=0.01, temperature=1.0, friction=1.0, seed=0, progress=None):
    r"""Positions of the beads over time.

    Every bead has mass 1 and feels the repulsion of the others of its polymer (WCA, strength 1), finitely extensible
    bonds (FENE), friction and noise at temperature T (Kremer and Grest, J. Chem. Phys. 92, 5057, 1990):

    .. math:: \dot v = -\nabla U - \gamma v + \sqrt{2\gamma T}\,\xi

    integrated by the BAOAB splitting (Leimkuhler and Matthews, 2013). Lengths are in bead diameters, times in the
    units of the model.

    Parameters
    ----------
    chains : Chains
    frames : int
        Conformations to record.
    interval : float
        Time between two of them.
    warmup : float
        Time before the first.
    step : float
        Of the integrator.
    temperature, friction : float
    seed : int or sequence of int
    progress : callable, optional
        Called after every frame.

    Returns
    -------
    positions, velocities : (frames, N, 3) float64

    Raises
    ------
    BsavizError
        For settings out of range, and for a bond that broke (the step is too long).
    """
    for name, value in {"interval": interval, "step": step, "temperature": temperature, "friction": friction}.items():
        if not value > 0:
            raise BsavizError(f"langevin: {name} must be above 0, got {value!r}")
    if frames < 1 or warmup < 0:
        raise BsavizError(f"langevin: frames must be at least 1 and warmup at least 0, got {frames!r} and {warmup!r}")
    generator = np.random.default_rng(seed)
    forces = _Forces(chains)
    x = _first_conformation(chains, generator)
    v = generator.normal(0, np.sqrt(temperature), x.shape)
    kept = np.exp(-friction * step)
    noise = np.sqrt(temperature * (1 - kept**2))

    def advance(x, v, steps, strongest=None):
        force = forces(x, strongest)
        for _ in range(steps):
            v = v + step / 2 * force
            x = x + step / 2 * v
            v = kept * v + noise * generator.normal(size=v.shape)
            x = x + step / 2 * v
            force = forces(x, strongest)
            v = v + step / 2 * force
        return x, v

    soft = max(200, round(2 / step))
    x, v = advance(x, v, soft, _STRONGEST)
    x, v = advance(x, v, round(warmup / step))
    every = max(1, round(interval / step))
    positions, velocities = np.empty((2, frames, *x.shape))
    for frame in range(frames):
        positions[frame], velocities[frame] = x, v
        if progress is not None:
            progress()
        if frame + 1 < frames:
            x, v = advance(x, v, every)
    return positions, velocities


class _Forces:
    """Force on every bead: bonds and repulsion, the near pairs listed anew when beads have moved."""

    def __init__(self, chains):
        self.chains = chains
        self.listed_at = None
        self.bonds = self._pairs(chains.bonds)

    def __call__(self, x, strongest=None):
        """(N, 3); with `strongest` no pair pushes or pulls harder, so that overlaps cannot explode."""
        if not np.abs(x).max() < _APART / 4:
            raise BsavizError(_BROKE)
        if self.listed_at is None or np.abs(x - self.listed_at).max() > _SKIN / 4:
            self._list_neighbours(x)
        total = 0.0
        for (incidence, onto_beads, size), law in ((self.bonds, _bond_pull), (self.near, _repulsion)):
            apart = incidence @ x
            squared = np.einsum("pi,pi->p", apart, apart)
            scale = law(squared / size**2, strongest is not None) / size**2  # force over distance
            if strongest is not None:
                scale = np.clip(scale, -strongest, strongest)
            total = total + onto_beads @ (scale[:, None] * apart)
        return total

    def _list_neighbours(self, x):
        reach = 2 ** (1 / 6) * self.chains.diameters.max() + _SKIN
        spread = x + np.array([_APART, 0, 0]) * self.chains.chain[:, None]
        self.near = self._pairs(cKDTree(spread).query_pairs(reach, output_type="ndarray"))
        self.listed_at = x

    def _pairs(self, pairs):
        """Incidence matrix (P, N), +1 at the first and -1 at the second bead of each pair; the same transposed; and the
        pairs' diameters (P,)."""
        signs, rows = np.tile([1.0, -1.0], len(pairs)), np.arange(0, pairs.size + 1, 2)
        incidence = sparse.csr_array((signs, pairs.ravel(), rows), shape=(len(pairs), len(self.chains.types)))
        return incidence, incidence.T, self.chains.diameters[pairs].mean(axis=1)


def _bond_pull(squared, soft):
    """FENE force over distance at squared distances in diameters."""
    left = 1 - squared / STRETCH**2
    if not soft and (left <= 0).any():
        raise BsavizError(_BROKE)
    return -STIFFNESS / np.maximum(left, 1e-2)


def _repulsion(squared, soft):
    """WCA force over distance at squared distances in diameters."""
    inverse = 1 / np.maximum(squared, 1e-2 if soft else 1e-4)
    sixth = inverse**3
    return np.where(sixth > 0.5, 24 * (2 * sixth**2 - sixth) * inverse, 0.0)


def _first_conformation(chains, generator):
    """A random walk that does not turn back sharply; every polymer's middle is at the origin."""
    x = np.zeros((len(chains.types), 3))
    heading = np.zeros_like(x)
    directions = generator.normal(size=(len(x), 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    for first, second in chains.bonds:
        turn = heading[first] + directions[second]
        heading[second] = turn / np.linalg.norm(turn)
        x[second] = x[first] + 0.97 * heading[second]
    count = np.bincount(chains.chain)
    middle = np.stack([np.bincount(chains.chain, axis) / count for axis in x.T], axis=1)
    return x - middle[chains.chain]
