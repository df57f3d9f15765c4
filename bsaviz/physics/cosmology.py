"""A flat universe of cold matter and a cosmological constant in linear theory: growth, and the power spectrum."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.integrate import quad
from scipy.special import hyp2f1

from bsaviz._checks import BsavizError

HUBBLE = 100.0  # km/s for each Mpc/h
CRITICAL_DENSITY = 2.775e11  # (Msun/h) / (Mpc/h)^3, today
_CMB = 2.7255 / 2.7  # temperature of the background over 2.7 K


@dataclass(frozen=True)
class Cosmology:
    """Parameters of the universe; the defaults are near the middle of the Quijote simulations'.

    Parameters
    ----------
    Omega_m, Omega_b : float
        Matter, and the baryons in it, in units of the critical density.
    h : float
        Hubble's constant over 100 km/s/Mpc.
    n_s : float
        Spectral index.
    sigma_8 : float
        Root mean square of the linear density contrast in spheres of 8 Mpc/h today.
    """

    Omega_m: float = 0.3
    Omega_b: float = 0.05
    h: float = 0.7
    n_s: float = 0.96
    sigma_8: float = 0.8

    def __post_init__(self):
        if not 0 < self.Omega_b < self.Omega_m <= 1 or not self.h > 0 or not self.sigma_8 > 0:
            raise BsavizError(f"Cosmology needs 0 < Omega_b < Omega_m <= 1, h > 0 and sigma_8 > 0, got {self}")

    @property
    def matter_density(self):
        """Mean density of matter, (Msun/h) / (Mpc/h)^3, comoving."""
        return CRITICAL_DENSITY * self.Omega_m

    def expansion(self, a):
        """Hubble rate at scale factor `a` over that of today."""
        return np.sqrt(self.Omega_m / np.asarray(a, float) ** 3 + 1 - self.Omega_m)

    def growth(self, a):
        """Linear growth factor D(a), 1 today: a 2F1(1/3, 1; 11/6; -a^3 (1 - Omega_m) / Omega_m), normalised."""
        return self._growth(a) / self._growth(1.0)

    def growth_rate(self, a):
        """d ln D / d ln a: Omega_m(a) (5/2 a/D - 3/2), D normalised to a at early times."""
        a = np.asarray(a, float)
        matter = self.Omega_m / a**3 / self.expansion(a) ** 2
        return matter * (2.5 * a / self._growth(a) - 1.5)

    def _growth(self, a):
        a = np.asarray(a, float)
        return a * hyp2f1(1 / 3, 1, 11 / 6, -(a**3) * (1 - self.Omega_m) / self.Omega_m)

    def power(self, k):
        """Linear power spectrum of matter today, (Mpc/h)^3, at wave numbers `k` in h/Mpc; 0 at k = 0.

        Transfer function without acoustic oscillations of Eisenstein and Hu, ApJ 496, 605 (1998), eqs. 26 and 28-31.
        """
        return self._amplitude * self._shape(np.asarray(k, float))

    def _shape(self, k):
        safe = np.where(k > 0, k, 1.0)
        return np.where(k > 0, safe**self.n_s * self._transfer(safe) ** 2, 0.0)

    def _transfer(self, k):
        matter, baryons = self.Omega_m * self.h**2, self.Omega_b * self.h**2
        share = self.Omega_b / self.Omega_m
        sound = 44.5 * np.log(9.83 / matter) / np.sqrt(1 + 10 * baryons**0.75)  # Mpc
        alpha = 1 - 0.328 * np.log(431 * matter) * share + 0.38 * np.log(22.3 * matter) * share**2
        shape = self.Omega_m * self.h * (alpha + (1 - alpha) / (1 + (0.43 * k * self.h * sound) ** 4))
        q = k * _CMB**2 / shape
        log = np.log(2 * np.e + 1.8 * q)
        return log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q**2)

    @cached_property
    def _amplitude(self):
        return (self.sigma_8 / self._spread(8.0, self._shape)) ** 2

    def sigma(self, radius):
        """Root mean square of the linear density contrast in spheres of `radius` Mpc/h today."""
        return self._spread(radius, self.power)

    def _spread(self, radius, power):
        integrand = lambda log_k: np.exp(3 * log_k) * power(np.exp(log_k)) * top_hat(np.exp(log_k) * radius) ** 2
        return np.sqrt(quad(integrand, np.log(1e-5), np.log(50 / radius), limit=400)[0] / (2 * np.pi**2))


def top_hat(x):
    """Fourier transform of a sphere of radius R at x = kR: 3 (sin x - x cos x) / x^3."""
    x = np.asarray(x, float)
    safe = np.where(x > 1e-2, x, 1.0)
    return np.where(x > 1e-2, 3 * (np.sin(safe) - safe * np.cos(safe)) / safe**3, 1 - x**2 / 10)
