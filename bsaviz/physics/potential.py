r"""Potentials of charges on a surface: electrostatic, screened, and waves, by one sum over the points.

.. math:: u(x_i) = \int_S G(|x_i - y|) \rho(y) \, dA(y), \qquad G(r) = \frac{e^{-\kappa r}}{4 \pi r}

- :math:`\kappa = 0`: Laplace (electrostatics), every point feels every other;
- :math:`\kappa = 1 / \lambda` with a screening length :math:`\lambda`: screened Poisson (Yukawa, Debye-Hueckel), the
  smaller :math:`\lambda`, the more local;
- :math:`\kappa = -2 \pi i / \ell` with a wavelength :math:`\ell`: Helmholtz, of which the real part is returned.

On a sphere of radius R with constant density the potential at the surface is, for any :math:`\kappa`,
:math:`\rho (1 - e^{-2 \kappa R}) / (2 \kappa)`: what the tests hold it against.
"""

import numpy as np

from bsaviz._checks import BsavizError

_ROWS = 512  # targets taken together; the largest array is (_ROWS, P)


def surface_potential(positions, areas, density, *, screening_length=None, wavelength=None):
    """Potential at every point of a surface from the charge on all of it.

    Each point stands for a disc of its area. From the others it is seen as a charge in its middle; its own potential
    is that of the disc in closed form, so that nothing is singular and the error falls with the spacing of the points.

    Parameters
    ----------
    positions : (P, 3) array
    areas : (P,) array
        Surface each point stands for, in the square of the positions' unit.
    density : (P,) array
        Charge for each unit of area.
    screening_length : float, optional
        Length over which charges are screened, in the positions' unit. None: not at all.
    wavelength : float, optional
        Wavelength of the Helmholtz equation, in the positions' unit; not together with a screening length.

    Returns
    -------
    (P,) float64

    Raises
    ------
    BsavizError
        For arrays of wrong shapes or with NaN, areas or lengths that are not above 0, and both lengths at once.
    """
    positions, areas, density = (np.asarray(x, float) for x in (positions, areas, density))
    decay = _decay(screening_length, wavelength)
    _check(positions, areas, density)
    charge = areas * density
    own = density * _disc(np.sqrt(areas / np.pi), decay)
    potential = np.empty(len(positions))
    square = (positions**2).sum(1)
    for start in range(0, len(positions), _ROWS):
        rows = slice(start, start + _ROWS)
        apart = square[rows, None] + square - 2 * positions[rows] @ positions.T
        own_place = apart <= 1e-14 * square.max()  # itself, and a double point
        distance = np.sqrt(np.where(own_place, 1, apart))
        potential[rows] = np.where(own_place, 0, _green(distance, decay)) @ charge
    return potential + own


def _green(distance, decay):
    """Real part of G at these distances: a wave's is a cosine, which is quicker than a complex exponential."""
    shape = np.cos(decay.imag * distance) if isinstance(decay, complex) else np.exp(-decay * distance)
    return shape / (4 * np.pi * distance)


def _disc(radius, decay):
    """Potential in the middle of discs of density 1."""
    if decay == 0:
        return radius / 2
    return ((1 - np.exp(-decay * radius)) / (2 * decay)).real


def _decay(screening_length, wavelength):
    if screening_length is not None and wavelength is not None:
        raise BsavizError("give a screening_length or a wavelength, not both")
    for name, length in (("screening_length", screening_length), ("wavelength", wavelength)):
        if length is not None and not (np.isfinite(length) and length > 0):
            raise BsavizError(f"{name} must be a finite length above 0, or None, got {length!r}")
    if wavelength is not None:
        return -2j * np.pi / wavelength
    return 0.0 if screening_length is None else 1 / screening_length


def _check(positions, areas, density):
    if positions.ndim != 2 or positions.shape[1] != 3 or len(positions) == 0:
        raise BsavizError(f"positions must have shape (P, 3) with P > 0, got {positions.shape}")
    for name, values in (("areas", areas), ("density", density)):
        if values.shape != (len(positions),):
            raise BsavizError(f"{name} must have one value a point, shape ({len(positions)},), got {values.shape}")
    for name, values in (("positions", positions), ("areas", areas), ("density", density)):
        if not np.isfinite(values).all():
            raise BsavizError(f"{name} must be finite; remove or repair the NaN and infinite values")
    if areas.min() <= 0:
        raise BsavizError(f"areas must be above 0, but {(areas <= 0).sum()} are not; drop points without surface")
