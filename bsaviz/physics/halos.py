"""Dark-matter halos of a periodic box: peaks of a Gaussian field, moved by the Zel'dovich approximation."""

from dataclasses import dataclass

import numpy as np
from scipy import fft
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError
from bsaviz.physics.cosmology import HUBBLE, top_hat

COLLAPSE = 1.686  # linear density contrast at which a sphere collapses
RADII = tuple(16 * 0.86**i for i in range(10))  # Mpc/h, Lagrangian radii of halos that are looked for: 16 to 4.1
MOVED = 8.0  # Mpc/h, radius of the sphere whose mean displacement moves a halo


@dataclass(frozen=True)
class Halos:
    """A catalogue, heaviest first.

    Attributes
    ----------
    positions : (N, 3) float64
        Mpc/h, comoving, in the box.
    velocities : (N, 3) float64
        Peculiar velocities, km/s.
    masses : (N,) float64
        Msun/h: matter of the sphere that collapses.
    """

    positions: np.ndarray
    velocities: np.ndarray
    masses: np.ndarray


class LinearField:
    """A Gaussian random density contrast with a given power spectrum, on the grid of a periodic box.

    Parameters
    ----------
    cosmology : Cosmology
    box : float
        Side, Mpc/h.
    cells : int
        Along a side.
    seed : int or sequence of int
        Equal seeds give equal fields.
    """

    def __init__(self, cosmology, box=1000.0, cells=160, seed=0):
        if not box > 0 or cells < 4:
            raise BsavizError(f"a field needs a box above 0 and at least 4 cells a side, got {box!r} and {cells!r}")
        self.cosmology, self.box, self.cells = cosmology, float(box), int(cells)
        noise = np.random.default_rng(seed).standard_normal((cells,) * 3, dtype=np.float32)
        axis, half = fft.fftfreq(cells), fft.rfftfreq(cells)
        self._axes = [2 * np.pi * cells / box * part.astype(np.float32) for part in (axis, axis, half)]
        self.k = np.sqrt(sum(np.square(part) for part in np.ix_(*self._axes)))
        wave_numbers = np.linspace(0, self.k.max(), 4096)
        power = np.interp(self.k, wave_numbers, self.cosmology.power(wave_numbers))
        self.modes = fft.rfftn(noise) * np.sqrt(power * cells**3 / box**3).astype(np.float32)

    def smoothed(self, radius=0.0):
        """Density contrast today (cells, cells, cells), its mean over spheres of `radius` Mpc/h."""
        return self._field(self.modes * self._window(radius))

    def displacement(self, radius=0.0):
        """Zel'dovich displacement today (3, cells, cells, cells), Mpc/h: div = -density contrast."""
        with np.errstate(invalid="ignore", divide="ignore"):
            potential = np.where(self.k > 0, 1j * self.modes * self._window(radius) / self.k**2, 0)
        # The Nyquist frequency has no direction: its gradient is left out, so that the field stays real.
        kept = [np.where(np.abs(part) < np.pi * self.cells / self.box * (1 - 1e-6), part, 0) for part in self._axes]
        shapes = [(-1, 1, 1), (1, -1, 1), (1, 1, -1)]
        return np.stack([self._field(potential * part.reshape(shape)) for part, shape in zip(kept, shapes)])

    def _window(self, radius):
        if radius == 0:
            return np.float32(1)
        x = np.linspace(0, float(self.k.max()) * radius, 4096)
        return np.interp(self.k * radius, x, top_hat(x)).astype(np.float32)

    def _field(self, modes):
        return fft.irfftn(modes.astype(np.complex64), s=(self.cells,) * 3)


def zeldovich_velocity(displacement, cosmology, a=1.0):
    """Peculiar velocity, km/s, of what today's linear displacement (Mpc/h) moves: a H(a) dD/dlna times it."""
    rate = a * HUBBLE * cosmology.expansion(a) * cosmology.growth_rate(a) * cosmology.growth(a)
    return rate * displacement


def find_halos(field, count, radii=RADII):
    """The heaviest halos today.

    Where the linear density contrast, averaged over a sphere, exceeds 1.686, that sphere has collapsed. Peaks are
    looked for from large spheres to small ones; one inside a larger sphere already found belongs to it (the peak-patch
    picture: Bond and Myers, ApJS 103, 1, 1996). Each halo moves as the matter round it (Zel'dovich, 1970).

    Parameters
    ----------
    field : LinearField
    count : int
        How many are wanted.
    radii : sequence of float
        Radii to look at, Mpc/h, descending.

    Returns
    -------
    Halos

    Raises
    ------
    BsavizError
        When the box does not hold so many.
    """
    places, sizes = np.empty((0, 3)), np.empty(0)
    before, before_radius = None, None
    for radius in radii:
        density = field.smoothed(radius)
        cells, heights = _peaks(density)
        found = _sub_cell(density, cells) * (field.box / field.cells) % field.box
        keep = _not_inside(found, heights, radius, places, sizes, field.box)
        found, cells, heights = found[keep], cells[keep], heights[keep]
        exact = np.full(len(found), radius)
        if before is not None:
            exact = _crossing(heights, before[tuple(cells.T)], radius, before_radius)
        places, sizes = np.concatenate([places, found]), np.concatenate([sizes, exact])
        before, before_radius = density, radius
        if len(places) >= 1.2 * count:
            break
    if len(places) < count:
        raise BsavizError(
            f"the box of {field.box:g} Mpc/h holds {len(places)} halos with Lagrangian radii above {radii[-1]:.3g} "
            f"Mpc/h, {count} were asked for; take a larger box or fewer halos"
        )
    heaviest = np.argsort(-sizes, kind="stable")[:count]
    places, sizes = places[heaviest], sizes[heaviest]
    grid = places.T / field.box * field.cells
    moved = np.stack([map_coordinates(part, grid, order=1, mode="grid-wrap") for part in field.displacement(MOVED)], 1)
    masses = field.cosmology.matter_density * 4 / 3 * np.pi * sizes**3
    return Halos((places + moved) % field.box, zeldovich_velocity(moved, field.cosmology), masses)


def _peaks(density):
    """Cells (N, 3) above the threshold that are higher than their 26 neighbours, highest first, and their heights."""
    cells = np.argwhere(density > COLLAPSE)
    heights = density[tuple(cells.T)]
    for step in np.ndindex(3, 3, 3):
        if step == (1, 1, 1) or not len(cells):
            continue
        higher = heights > density[tuple(((cells + np.array(step) - 1) % len(density)).T)]
        cells, heights = cells[higher], heights[higher]
    order = np.argsort(-heights, kind="stable")
    return cells[order], heights[order]


def _sub_cell(density, cells):
    """Places of the peaks in units of cells: the top of a parabola through each peak and its neighbours."""
    places = cells.astype(float)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        below, here, above = (density[tuple(((cells + shift * step) % len(density)).T)].astype(float)
                              for shift in (-1, 0, 1))  # fmt: skip
        places[:, axis] += (above - below) / (2 * (2 * here - above - below))
    return places


def _not_inside(found, heights, radius, places, sizes, box):
    """Which of the peaks, highest first, lie in no halo found before and in no higher peak's sphere."""
    keep = np.ones(len(found), bool)
    if len(places) and len(found):
        tree = cKDTree(places, boxsize=box)
        near = tree.query_ball_point(found, sizes.max())
        for peak, halos in enumerate(near):
            if halos:
                apart = np.abs(places[halos] - found[peak])
                apart = np.linalg.norm(np.minimum(apart, box - apart), axis=1)
                keep[peak] = (apart >= sizes[halos]).all()
    if len(found) > 1:
        pairs = cKDTree(found, boxsize=box).query_pairs(radius, output_type="ndarray")
        for high, low in pairs[np.lexsort(pairs.T[::-1])] if len(pairs) else ():
            if keep[high]:
                keep[low] = False
    return keep


def _crossing(heights, heights_before, radius, radius_before):
    """Radius between two at which the mean contrast falls to the threshold, by linear interpolation."""
    share = np.clip((heights - COLLAPSE) / np.maximum(heights - heights_before, 1e-6), 0, 1)
    return radius + share * (radius_before - radius)


def linear_power(density, box, bins=24):
    """Power spectrum of a density contrast on a grid.

    Returns
    -------
    k : (bins,) h/Mpc
        Mean wave number of each bin, evenly spaced up to the Nyquist frequency.
    power : (bins,) (Mpc/h)^3
    modes : (bins,) int
        How many were averaged.
    """
    cells = len(density)
    modes = fft.rfftn(density)
    axis, half = fft.fftfreq(cells), fft.rfftfreq(cells)
    k = 2 * np.pi * cells / box * np.sqrt(sum(np.square(part) for part in np.ix_(axis, axis, half)))
    # Modes with 0 < kz < Nyquist stand for two, themselves and their conjugates.
    weight = np.broadcast_to(np.where((half > 0) & (half < 0.5), 2.0, 1.0), k.shape).ravel()
    edges = np.linspace(0, np.pi * cells / box, bins + 1)
    place = np.digitize(k.ravel(), edges) - 1
    inside = (place < bins) & (k.ravel() > 0)
    place, weight = place[inside], weight[inside]
    sums = lambda values: np.bincount(place, weight * values[inside], minlength=bins)
    total = sums(np.ones(k.size))
    with np.errstate(invalid="ignore", divide="ignore"):
        power = sums(np.abs(modes.ravel()) ** 2) / total * box**3 / cells**6
        return sums(k.ravel()) / total, power, total.astype(int)
