"""Training and test cars by one word: packaged or made, with the pressure of a flow or another field to learn."""

import argparse
import os
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir, whole_file
from bsaviz.datasets.beacons import beacon_clouds
from bsaviz.datasets.regimes import with_heat, with_potential

PHYSICS_CARS = (200, 40)  # training and test cars of a set of :data:`REGIMES` where the name gives no numbers
BEACON_CLOUDS = (2048, 64)
BEACONS = dict(clusters=8, points_per_cluster=16)
_VERSION = 1  # of the regimes; part of the cache's file names


class Regime(NamedTuple):
    """A field to learn on generated cars.

    Attributes
    ----------
    knob : str or None
        Argument of `make` that the name's number is.
    given, target : str
        Fields: what a model is given, and what it learns.
    make : callable
        Car to car with these fields.
    """

    knob: str | None
    given: str
    target: str
    make: Callable


REGIMES = {
    "screened": Regime("screening_length", "charge", "potential", with_potential),
    "laplace": Regime(None, "charge", "potential", with_potential),
    "helmholtz": Regime("wavelength", "charge", "potential", with_potential),
    "heat": Regime("spread", "temperature", "heat", with_heat),
}


def training_cars(name="generated", *, workers=1, progress=True):
    """The training and the test cars of a set.

    Parameters
    ----------
    name : str or path
        ======================== =======================================================================================
        ``"generated"``           the packaged cars, 48 to train on and 16 to test on
        ``"generated:200"``       that many generated cars, the last fifth for testing
        ``"generated:700+189"``   the first 700 generated cars to train on, the next 189 to test on
        ``"screened:0.1"``        generated cars with a charge and its screened potential, see
                                  :func:`~bsaviz.datasets.with_potential`; the number is the screening length
        ``"laplace"``             the same without screening
        ``"helmholtz:0.5"``       the same for waves of this length
        ``"heat:0.05"``           a temperature and what becomes of it, see :func:`~bsaviz.datasets.with_heat`
        ``"beacons"``             clouds of 8 clusters of 16 points with known causes, see
                                  :func:`~bsaviz.datasets.beacon_clouds`
        ``"shapenet"``            ShapeNet-Car where ``$BSAVIZ_SHAPENET`` or the cache holds it, or the path of its
                                  folder, with the published split
        ======================== =======================================================================================

        ``"screened:0.1@100+20"`` (and so on) is of so many training and test cars. Lengths are in car lengths.
    workers : int
        Processes that make cars and fields that neither the package nor the cache has.
    progress : bool
        Show a bar with the time left while they do. What was made is kept in the cache.

    Returns
    -------
    train, test : sequence of Car

    Raises
    ------
    BsavizError
        For a name that is none of these.
    """
    from bsaviz.datasets.generated import TEST_INDICES, TRAIN_INDICES, generated_cars
    from bsaviz.datasets.shapenet import ShapeNetCar

    text = str(name)
    if text == "generated":
        return generated_cars(TRAIN_INDICES), generated_cars(TEST_INDICES)
    if text == "shapenet" or (text and Path(text).is_dir()):
        root = None if text == "shapenet" else name
        return ShapeNetCar(root, "train"), ShapeNetCar(root, "test")
    make = partial(generated_cars, workers=workers, progress=progress)
    kind = text.partition(":")[0]
    if kind == "generated":
        train, test = _counts(text)
        cars = make(range(train + test))
        return cars[:train], cars[train:]
    kind, knob, counts = _parts(text)
    if kind == "beacons":
        return beacon_clouds(*(counts or BEACON_CLOUDS), **BEACONS)
    train, test = counts or PHYSICS_CARS
    cars = _with_regime(make(range(train + test)), kind, knob, workers, progress)
    return cars[:train], cars[train:]


def fields_of(name):
    """(target, features) that a set of :func:`training_cars` is for; (None, ()) of one with a pressure."""
    kind = re.split("[:@]", str(name))[0]
    if kind == "beacons":
        return "value", ("partner", "beacon")
    return (REGIMES[kind].target, (REGIMES[kind].given,)) if kind in REGIMES else (None, ())


def knob_of(name):
    """{argument: value} that a set of :data:`REGIMES` is made with, e.g. ``{"wavelength": 0.5}``; {} of another set."""
    if re.split("[:@]", str(name))[0] not in REGIMES:
        return {}
    kind, knob, _ = _parts(str(name))
    return {} if knob is None else {REGIMES[kind].knob: knob}


def _counts(text):
    """Training and test cars of ``generated:200`` and ``generated:160+40``."""
    found = re.fullmatch(r"generated:(\d+)(?:\+(\d+))?", text)
    first, second = (found[1], found[2]) if found else ("0", None)
    train, test = int(first), 0 if second is None else int(second)
    if second is None and train >= 2:
        test = max(1, train // 5)
        train -= test
    if train < 1 or test < 1:
        raise BsavizError(
            f"cars {text!r}: expected a count of at least 2 as in 'generated:200', or those to train and to test on as "
            "in 'generated:700+189'"
        )
    return train, test


def _parts(text):
    """Kind, knob and counts of ``screened:0.1@100+20``."""
    found = re.fullmatch(r"([a-z]+)(?::([0-9.]+))?(?:@(\d+)\+(\d+))?", text)
    kind = found[1] if found else None
    if kind not in (*REGIMES, "beacons"):
        raise BsavizError(
            f"unknown set of cars {text!r}; give 'generated', 'generated:COUNT', 'generated:TRAIN+TEST', "
            f"{', '.join(map(repr, REGIMES))} (with ':NUMBER' where it has a length), 'beacons', 'shapenet' or a "
            "ShapeNet-Car folder"
        )
    needs = kind in REGIMES and REGIMES[kind].knob is not None
    if needs != (found[2] is not None) or (needs and not _is_length(found[2])):
        wanted = f"a length above 0, as in '{kind}:0.1'" if needs else "no number after a colon"
        raise BsavizError(f"cars {text!r}: expected {wanted}")
    counts = None if found[3] is None else (int(found[3]), int(found[4]))
    if counts is not None and min(counts) < 1:
        raise BsavizError(f"cars {text!r}: expected at least one car to train and one to test on, as in '@100+20'")
    return kind, None if found[2] is None else float(found[2]), counts


def _is_length(text):
    try:
        return float(text) > 0
    except ValueError:
        return False


def _with_regime(cars, kind, knob, workers, progress):
    """The cars with the fields of a regime, from the cache as far as it has them."""
    regime = REGIMES[kind]
    path = cache_dir() / "regimes" / f"v{_VERSION}-{kind}{'' if knob is None else f'-{knob:g}'}.npz"
    known = {}
    if path.is_file():
        with np.load(path, allow_pickle=False) as file:
            known = dict(file)
    missing = [car for car in cars if f"{car.name}/{regime.target}" not in known]
    if missing:
        work = partial(_fields, kind=kind, knob=knob)
        name = kind if knob is None else f"{kind} {knob:g}"
        made = tqdm(_spread(work, missing, workers), total=len(missing), desc=name, unit="car", disable=not progress)
        for car, values in zip(missing, made):
            known |= {f"{car.name}/{key}": value for key, value in values.items()}
        with whole_file(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **known)
    names = (regime.given, regime.target)
    units = dict.fromkeys(names, "1")
    said = {} if knob is None else {regime.knob: knob}
    taken = lambda car: {key: known[f"{car.name}/{key}"] for key in names}
    return [
        replace(car, fields={**car.fields, **taken(car)}, units={**car.units, **units}, attrs={**car.attrs, **said})
        for car in cars
    ]


def _spread(work, things, workers):
    """`work` of each thing, in order; by several processes where more than one is asked for."""
    if workers == 1:
        yield from map(work, things)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, things, chunksize=4)


def _fields(car, *, kind, knob):
    """What a regime puts on a car: the field that is given, and the one to learn."""
    regime = REGIMES[kind]
    made = regime.make(car, **({} if knob is None else {regime.knob: knob}))
    return {name: made.fields[name] for name in (regime.given, regime.target)}


def main(arguments=None):
    """Command line: make sets of cars before they are needed, with several processes."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.datasets.named", description=main.__doc__)
    parser.add_argument("names", nargs="+", help="as for training_cars, e.g. generated:700+189 screened:0.1")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
    options = parser.parse_args(arguments)
    for name in options.names:
        train, test = training_cars(name, workers=max(1, options.workers))
        print(f"{name}: {len(train)} to train and {len(test)} to test on")


if __name__ == "__main__":
    main()
