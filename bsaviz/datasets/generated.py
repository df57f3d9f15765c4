"""Generated cars: a parametric body and the potential flow round it, from a seed; 64 of them are packaged.

The air is inviscid (see `bsaviz.physics.panels`): pressures in front, over the roof and along the sides are those of
a car, but the flow never separates, so there is no wake and suction at tight edges is stronger than in real air.

The packaged file is written by ``python -m bsaviz.datasets.generated --count 64 --out data/packaged/cars.npz``.
"""

import argparse
import zlib
from functools import lru_cache
from zipfile import BadZipFile

import numpy as np

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
    draw_shape(index)  # complains about anything but a seed
    cars = _packaged_halves()
    return _whole_car(index, NUM_POINTS, *(cars[index] if index in cars else _cached_half(index)))


def generated_cars(indices=None):
    """Several generated cars.

    Parameters
    ----------
    indices : iterable of int, optional
        Default: all that are packaged. ``TRAIN_INDICES`` and ``TEST_INDICES`` are the split that packaged models were
        trained and tested with: the first 48, the last 16.

    Returns
    -------
    list of Car
    """
    return [load_generated(index) for index in (sorted(_packaged_halves()) if indices is None else indices)]


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


def _cached_half(index):
    path = cache_dir() / "generated" / f"v{_VERSION}-{index}.npz"
    if not path.is_file():
        write_cars(path, [index])
    return _read(path)[index]


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


def write_cars(path, seeds, progress=False):
    """Generate the cars of these seeds at 3586 points into one compact file, written whole.

    Only half of each body is stored: points as multiples of 0.1 mm (int16), faces (uint16), pressures (float32).
    """
    if progress:
        from tqdm import tqdm

        seeds = tqdm(list(seeds), desc="cars", unit="car")
    seeds, halves = zip(*[(seed, _generate_half(seed, NUM_POINTS)) for seed in seeds])
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
    parser.add_argument("--out", default=str(packaged("cars.npz")), help="file to write (default: the packaged one)")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count must be at least 1, got {options.count}")
    write_cars(options.out, range(options.count), progress=True)
    print(f"wrote {options.count} cars to {options.out}")


if __name__ == "__main__":
    main()
