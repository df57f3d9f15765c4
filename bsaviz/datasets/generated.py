"""Generated cars: a parametric body and the potential flow round it, from a seed; 64 of them are packaged.

The air is inviscid (see `bsaviz.physics.panels`): pressures in front, over the roof and along the sides are those of
a car, but the flow never separates, so there is no wake and suction at tight edges is stronger than in real air.

The packaged file is written by ``python -m bsaviz.datasets.generated --count 64 --out data/packaged/cars.npz``.
"""

import argparse
import zlib
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import lru_cache
from zipfile import BadZipFile

import numpy as np
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir, packaged, whole_file
from bsaviz.datasets.car import Car
from bsaviz.datasets.generated_body import body_distance
from bsaviz.datasets.generated_mesh import even_half_mesh, mirrored
from bsaviz.datasets.generated_shape import draw_shape
from bsaviz.physics.panels import panel_flow

NUM_POINTS = 3586  # as a ShapeNet-Car surface has
SPEED = 20.0  # m/s
DENSITY = 1.184  # kg/m^3, air at 25 degrees C
TRAIN_INDICES = range(0, 48)  # of the packaged cars
TEST_INDICES = range(48, 64)

_VERSION = 1  # of the generator; part of the cache's file names
_STEP = 1e-4  # m: points lie on this lattice, so that 16-bit integers hold them exactly
_FEWEST, _MOST = 1500, 8192
_ARRAYS = ("seeds", "rims", "points", "faces", "pressure", "point_ends", "face_ends")  # of the file


def generate_car(seed, num_points=NUM_POINTS):
    """Make a car and its surface pressure.

    Parameters
    ----------
    seed : int
        Zero or more. Styles take turns with it (sedan, hatchback, SUV, coupe, estate, van), the rest is drawn from it.
        Equal seeds give equal bits on one machine with the same library versions. Elsewhere the body is the same and
        so is nearly every point; where rounding differs, a few points may sit elsewhere on the surface.
    num_points : int
        Even, 1500 to 8192. The time goes with its cube: seconds at 3586, a minute at 8192.

    Returns
    -------
    Car
        Watertight, outward triangles, symmetric in y, nose at -x, z up, ground at z = 0, metres. Field ``pressure`` in
        Pa against the undisturbed air, at a wind of 20 m/s along +x. ``attrs`` hold the seed, the style and every
        parameter of the shape.
    """
    half = _generate_half(seed, num_points)
    return _whole_car(seed, num_points, *half)


def load_generated(index):
    """One generated car at 3586 points: packaged for the first 64, made (seconds) and kept in the cache beyond.

    Parameters
    ----------
    index : int
        The car's seed.

    Returns
    -------
    Car
        Equal to ``generate_car(index)``.
    """
    return generated_cars([index], progress=False)[0]


def generated_cars(indices=None, *, workers=1, progress=True):
    """Several generated cars.

    Parameters
    ----------
    indices : iterable of int, optional
        Default: all that are packaged. ``TRAIN_INDICES`` and ``TEST_INDICES`` are the split that packaged models were
        trained and tested with: the first 48, the last 16.
    workers : int
        Processes that make those that are neither packaged nor in the cache.
    progress : bool
        Show a bar with the time left while they do.

    Returns
    -------
    list of Car
    """
    halves = dict(_packaged_halves())
    indices = sorted(halves) if indices is None else list(indices)
    for index in indices:
        draw_shape(index)  # complains about anything but a seed
    if missing := sorted(set(indices) - set(halves)):
        halves |= _cached_halves(missing)
    if missing := sorted(set(indices) - set(halves)):
        with tqdm(total=len(missing), desc="making cars", unit="car", disable=not progress) as bar:
            for index, half in _generated(missing, workers):
                _write(cache_dir() / "generated" / f"v{_VERSION}-{index}.npz", {index: half})
                halves[index] = half
                bar.update()
    return [_whole_car(index, NUM_POINTS, *halves[index]) for index in indices]


def _generated(seeds, workers):
    """(seed, half) of each, by several processes where more than one is asked for."""
    if workers == 1 or len(seeds) == 1:
        yield from ((seed, _generate_half(seed, NUM_POINTS)) for seed in seeds)
        return
    with ProcessPoolExecutor(min(workers, len(seeds))) as pool:
        yield from zip(seeds, pool.map(_generate_half, seeds, [NUM_POINTS] * len(seeds)))


def _generate_half(seed, num_points):
    """Points in steps of 0.1 mm (H, 3) int16 with y >= 0, faces (G, 3) uint16, pressures (H,) float32, rim's size."""
    shape = draw_shape(seed)
    if isinstance(num_points, bool) or not isinstance(num_points, int | np.integer) or num_points % 2:
        raise BsavizError(f"num_points must be an even integer (the body is symmetric), got {num_points!r}")
    if not _FEWEST <= num_points <= _MOST:
        raise BsavizError(
            f"num_points must be between {_FEWEST} (fewer lose the wheels) and {_MOST} (the flow is a dense solve), "
            f"got {num_points}; take Car.subsample for fewer"
        )
    distance = body_distance(shape, spacing=0.0175 * min(1.0, np.sqrt(NUM_POINTS / num_points)))
    points, faces, rim = even_half_mesh(distance, num_points, _wanted_spacing, seed)
    points[:, 0] -= shape.length / 2
    lattice = np.round(points / _STEP).astype(np.int16)
    flow = panel_flow(lattice * _STEP, faces, velocity=(SPEED, 0.0, 0.0), density=DENSITY, ground=0.0, half=True)
    return lattice, faces.astype(np.uint16), flow.pressure.astype(np.float32), rim


def _wanted_spacing(points, curvature):
    """Relative distance wanted between points: closer where the surface bends (1/m), wider under the floor."""
    bent = np.clip(1 / np.sqrt(1 + curvature / 4), 0.45, 1)
    return bent * np.where(points[:, 2] < 0.25, 1.2, 1.0)


def _whole_car(seed, num_points, lattice, faces, pressure, rim):
    points, faces = mirrored(lattice * _STEP, faces.astype(np.int64), rim)
    shape = draw_shape(seed)
    return Car(
        name=f"generated:{seed}",
        positions=points.astype(np.float32),
        faces=faces,
        fields={"pressure": np.concatenate([pressure, pressure[: len(pressure) - rim]])},
        units={"pressure": "Pa", "positions": "m"},
        source="bsaviz.datasets.generated: parametric body, potential flow by source panels",
        attrs={"frame": "canonical: x to the rear, z up, ground at z = 0", "seed": int(seed), "speed": SPEED,
               "density": DENSITY, "style": shape.style, **shape.numbers()},
    )  # fmt: skip


def _cached_halves(seeds):
    """Those of the cache: files of one car, or of many as :func:`write_cars` makes them."""
    wanted, found = set(seeds), {}
    folder = cache_dir() / "generated"
    single = [path for seed in seeds if (path := folder / f"v{_VERSION}-{seed}.npz").is_file()]
    for path in single:
        found |= _read(path)
    for path in sorted(folder.glob(f"v{_VERSION}-*.npz")):
        if wanted <= set(found):
            break
        if not path.stem.removeprefix(f"v{_VERSION}-").isdigit() and wanted & _seeds(path):
            found |= _read(path)
    return {seed: half for seed, half in found.items() if seed in wanted}


def _seeds(path):
    """Seeds of the cars in a file, without reading the rest of it; none of a file that cannot be read."""
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as file:
        return set(file["seeds"].tolist())
    return set()


@lru_cache(maxsize=1)
def _packaged_halves():
    path = packaged("cars.npz")
    if not path.is_file():
        raise BsavizError(
            f"the packaged cars are missing: {path}; make them in minutes with: "
            f"python -m bsaviz.datasets.generated --out {path}"
        )
    return _read(path)


def _read(path):
    """Halves by seed, as `_generate_half` makes them."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
        raise BsavizError(f"{path} is not a whole file of generated cars ({error}); remove it and try again") from error
    points = np.split(arrays["points"], arrays["point_ends"][:-1])
    faces = np.split(arrays["faces"], arrays["face_ends"][:-1])
    pressure = np.split(arrays["pressure"], arrays["point_ends"][:-1])
    halves = zip(points, faces, pressure, arrays["rims"].tolist())
    return dict(zip(arrays["seeds"].tolist(), halves))


def write_cars(path, seeds, *, workers=1, progress=False):
    """Generate the cars of these seeds at 3586 points into one compact file, written whole.

    Only half of each body is stored: points as multiples of 0.1 mm (int16), faces (uint16), pressures (float32). In the
    folder ``generated`` of the cache and named ``v1-NAME.npz``, it is found by :func:`generated_cars`.
    """
    seeds = list(seeds)
    made = tqdm(_generated(seeds, workers), total=len(seeds), desc="cars", unit="car", disable=not progress)
    _write(path, dict(made))


def _write(path, halves):
    seeds, halves = zip(*halves.items())
    points, faces, pressure, rims = zip(*halves)
    with whole_file(path) as temporary:
        np.savez_compressed(
            temporary, seeds=np.array(seeds), rims=np.array(rims), points=np.concatenate(points),
            faces=np.concatenate(faces), pressure=np.concatenate(pressure),
            point_ends=np.cumsum([len(part) for part in points]), face_ends=np.cumsum([len(part) for part in faces]),
        )  # fmt: skip


def main(arguments=None):
    """Command line: write the packaged file anew from its seeds."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.datasets.generated", description=main.__doc__)
    parser.add_argument("--count", type=int, default=64, help="how many cars: seeds 0 to COUNT - 1 (default 64)")
    parser.add_argument("--workers", type=int, default=1, help="processes that make them (default 1)")
    parser.add_argument("--out", default=str(packaged("cars.npz")), help="file to write (default: the packaged one)")
    options = parser.parse_args(arguments)
    for name in ("count", "workers"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(options, name)}")
    write_cars(options.out, range(options.count), workers=options.workers, progress=True)
    print(f"wrote {options.count} cars to {options.out}")


if __name__ == "__main__":
    main()
