"""Generated stand-ins for the public sets: small, of the same files, from the same physics, made on this machine.

They are for looking at models and for learning to use the sets where the public files cannot be had. Errors measured on
them say nothing about the public sets. Every sample of one has ``attrs["generated"] = True``.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir
from bsaviz.datasets import cosmology, elasticity, polymers
from bsaviz.physics.cosmology import Cosmology
from bsaviz.physics.halos import LinearField, find_halos
from bsaviz.physics.plane_stress import plane_stress, plate_with_hole
from bsaviz.physics.polymers import langevin, random_chains

SIZES = {"elasticity": (40, 8), "md": (256, 64), "cosmology": (8, 3)}  # samples to train and to test on
WHAT = {
    "elasticity": "generated stand-in: linear plane-stress elasticity round a random hole, by finite elements",
    "md": "generated stand-in: bead-spring polymers by Langevin dynamics",
    "cosmology": "generated stand-in: peaks of a Gaussian field, moved by the Zel'dovich approximation",
}
_VERSION = 1  # of the generators; part of the folders' names
_LABEL = "generated.json"

# Elasticity: the hole's prior of arXiv 2207.05209, r = 0.2 + 0.2 / (1 + exp(s)), s Gaussian with covariance
# 4^2 (3^2 - Laplace)^-1 on the circle, here without its waves shorter than an eighth of the rim.
_RAYS, _RINGS, _KEPT_RINGS, _WAVES = 108, 16, 9, 8
_TRACTION = 100.0
# Molecular dynamics: chains of 64 repeat units (about 112 beads), a frame every 2 units of time.
_CHAINS, _UNITS, _FRAMES, _INTERVAL, _WARMUP = {"train": 6, "val": 1, "test": 2}, 64, 76, 2.0, 20.0
# Cosmology: parameters over the ranges of the Quijote simulations.
_RANGES = {"Omega_m": (0.1, 0.5), "Omega_b": (0.03, 0.07), "h": (0.5, 0.9), "n_s": (0.8, 1.2), "sigma_8": (0.6, 1.0)}
_HALOS, _CELLS = 5000, 128


def stand_in(name, num_train=None, num_test=None, seed=0, progress=True):
    """The folder of a stand-in, made on first use (seconds) and kept in the cache.

    Parameters
    ----------
    name : {"elasticity", "md", "cosmology"}
    num_train, num_test : int, optional
        How many samples (default: ``SIZES``). The molecular-dynamics trajectories are the same for every number: it is
        windows that are drawn from them.
    seed : int
        Equal seeds give equal files on one machine with the same library versions.
    progress : bool
        Show a bar.

    Returns
    -------
    Path
        A folder in the layout of the public set.
    """
    if name not in SIZES:
        raise BsavizError(f"there is no stand-in for {name!r}; there are {', '.join(SIZES)}")
    counts = [count or default for count, default in zip((num_train, num_test), SIZES[name])]
    made_of = f"{counts[0]}-{counts[1]}-" if name != "md" else ""
    folder = cache_dir() / "generated" / f"{name}-v{_VERSION}-{made_of}seed{seed}"
    if not folder.is_dir():
        make = {"elasticity": _make_elasticity, "md": _make_md, "cosmology": _make_cosmology}[name]
        _make_whole(folder, lambda place, bar: make(place, *counts, seed, bar), name, progress)
    return folder


def label(folder):
    """What the samples of a folder carry in their ``attrs``: whether, and how, they were generated."""
    path = Path(folder) / _LABEL
    return json.loads(path.read_text()) if path.is_file() else {}


def _make_whole(folder, make, name, progress):
    """Make the folder beside its place and rename it, so that a folder that is there is whole."""
    from tqdm.auto import tqdm

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    except OSError as error:
        reason = error.strerror or error
        raise BsavizError(f"cannot write {folder}: {reason}; set BSAVIZ_CACHE to another folder") from error
    try:
        with tqdm(desc=f"making the generated stand-in of {name}", disable=not progress) as bar:
            make(temporary, bar)
        (temporary / _LABEL).write_text(json.dumps({"generated": True, "dataset": WHAT[name]}))
        if not folder.is_dir():  # another process may have been faster
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _make_elasticity(place, num_train, num_test, seed, bar):
    count = bar.total = num_train + num_test
    points, stress = np.empty((_RAYS * _KEPT_RINGS, 2, count)), np.empty((_RAYS * _KEPT_RINGS, count))
    for index in range(count):
        points[..., index], stress[:, index] = unit_cell((seed, index))
        bar.update()
    elasticity.write(place, points, stress)


def unit_cell(seed):
    """A square with a random hole, clamped at the bottom, pulled at the top: 972 points and their von Mises stress.

    The published material (Rivlin-Saunders rubber, 1.9e5) hardly strains under the published traction of 100, so its
    linear limit is solved: incompressible, in plane stress.

    Returns
    -------
    points : (972, 2) float64
    stress : (972,) float64
        In units of which the traction is 100.
    """
    generator = np.random.default_rng(seed)
    waves = np.arange(_WAVES + 1)
    spread = 4 / np.sqrt(waves**2 + 9) / np.sqrt(np.where(waves == 0, 2 * np.pi, np.pi))
    cosines, sines = spread * generator.normal(size=(2, len(waves)))
    sines[0] = 0

    def radius(theta):
        s = np.cos(np.outer(theta, waves)) @ cosines + np.sin(np.outer(theta, waves)) @ sines
        return 0.2 + 0.2 / (1 + np.exp(s))

    points, quads = plate_with_hole(radius, _RAYS, _RINGS)
    solution = plane_stress(points, quads, held=lambda x: x[1] < 1e-9, pulled=lambda x: x[1] > 1 - 1e-9,
                            traction=(0.0, _TRACTION), poisson=0.5)  # fmt: skip
    kept = np.arange(len(points)).reshape(_RAYS, _RINGS + 1)[:, :: _RINGS // (_KEPT_RINGS - 1)].ravel()
    return points[kept], solution.von_mises[kept]


def _make_md(place, num_train, num_test, seed, bar):
    total = sum(_CHAINS.values())
    chains = random_chains(total, _UNITS, (seed, 0))
    bar.total = _FRAMES
    positions, _ = langevin(chains, frames=_FRAMES, interval=_INTERVAL, warmup=_WARMUP, seed=(seed, 1),
                            progress=bar.update)  # fmt: skip
    parts = [part for part, count in _CHAINS.items() for _ in range(count)]
    names = {part: [] for part in _CHAINS}
    training = []
    for number, part in enumerate(parts):
        beads = np.flatnonzero(chains.chain == number)
        bonds = chains.bonds[np.isin(chains.bonds[:, 0], beads)] - beads[0]
        name = f"generated{number:02d}"
        names[part].append(name)
        folder = place / polymers.PARTS[part][0] / name
        polymers.write_trajectory(folder, positions[:, beads], bonds, chains.types[beads])
        if part == "train":
            training.append(positions[:, beads] - positions[:, beads].mean(axis=(0, 1)))
    (place / "splits").mkdir()
    for part, which in names.items():
        (place / "splits" / polymers.PARTS[part][1]).write_text("\n".join(which))
    spread = lambda order: np.concatenate(
        [np.diff(one, order, axis=0).reshape(-1, 3) for one in training]).std(axis=0).tolist()  # fmt: skip
    scales = {"position": spread(0), "velocity": spread(1), "acceleration": spread(2), "unit": "bead diameter"}
    (place / polymers.SCALES_FILE).write_text(json.dumps(scales))


def _make_cosmology(place, num_train, num_test, seed, bar):
    counts = {"train": num_train, "val": num_test, "test": num_test}
    bar.total = sum(counts.values())
    for number, (part, count) in enumerate(counts.items()):
        catalogues = (_catalogue((seed, number, index), bar) for index in range(count))
        cosmology.write(place / f"halos_{part}_1.tfrecord", catalogues)


def _catalogue(seed, bar):
    draw = np.random.default_rng((*seed, 1)).uniform
    parameters = {name: draw(*limits) for name, limits in _RANGES.items()}
    halos = find_halos(LinearField(Cosmology(**parameters), cosmology.BOX, _CELLS, (*seed, 0)), _HALOS)
    bar.update()
    columns = {axis: halos.positions[:, i] for i, axis in enumerate("xyz")}
    columns |= {f"v_{axis}": halos.velocities[:, i] for i, axis in enumerate("xyz")}
    return {**columns, "M200c": halos.masses, **parameters}
