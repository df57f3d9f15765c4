"""Cosmology: velocities of dark-matter halos from their positions.

Data: Balla et al., "A cosmic-scale benchmark for symmetry-preserving data processing" (arXiv 2410.20516), Zenodo record
11479419: the 5000 heaviest halos of each Quijote simulation, a box of 1000 Mpc/h. Split sizes (2048, 512, 512),
normalisation and loss (mean squared error of the normalised velocity) are those of Erwin's experiments (arXiv
2502.17019).

Files ``halos_train_1.tfrecord`` ..., ``halos_val_1.tfrecord``, ``halos_test_1.tfrecord``. A record holds one
simulation: a serialised float32 tensor (5000,) under each of ``x, y, z`` (Mpc/h), ``v_x, v_y, v_z`` (km/s), ``M200c``
(Msun/h) and others, and a scalar under each cosmological parameter.
"""

import re
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets._tfrecord import read_record, record_places, write_records
from bsaviz.datasets.sample import Sample

POSITION_MEAN = (499.91877075908684, 500.0947802559321, 499.964508664328)  # published, Mpc/h
POSITION_STD = (288.71092533309235, 288.7525818573022, 288.70234893905575)
VELOCITY_MEAN = (-0.0512854365234889, -0.01263126442198149, -0.06458034372345466)  # km/s
VELOCITY_STD = (344.0231468131901, 343.9333673335964, 344.071876710777)
PARAMETERS = ("Omega_m", "Omega_b", "h", "n_s", "sigma_8")
SIZES = {"train": 2048, "val": 512, "test": 512}
BOX = 1000.0  # Mpc/h
INSIDE = ("", "quijote_records", "quijote_tfrecords", "cosmology")
_COLUMNS = ("x", "y", "z", "v_x", "v_y", "v_z")


def find(folder):
    """The folder itself or the one in it that holds the training records, or None."""
    return next((folder / inside for inside in INSIDE if any((folder / inside).glob("halos*train*.tfrecord"))), None)


def read(root, part, count=None, attrs=None):
    """The first samples of one part of the published split.

    Parameters
    ----------
    root : path
        With the files.
    part : {"train", "val", "test"}
    count : int, optional
        How many. Default: 2048, 512 or 512, or as many as there are.
    attrs : dict, optional
        Further entries for the samples' ``attrs``.

    Returns
    -------
    list of Sample
        Fields "velocity", and "mass" where the files have it; cosmological parameters in ``attrs``. Halos are in the
        order of the file.

    Raises
    ------
    BsavizError
        For missing or damaged files, columns of different lengths, and more samples asked for than there are.
    """
    root = Path(root)
    number = lambda path: [int(digits) for digits in re.findall(r"\d+", path.name)]
    paths = sorted(root.glob(f"halos*{part}*.tfrecord"), key=lambda path: (number(path), path.name))
    if not paths:
        raise BsavizError(f"{root} has no file halos*{part}*.tfrecord; copy or download the whole set")
    wanted = SIZES[part] if count is None else count
    prefix = "generated-" if attrs and attrs.get("generated") else ""
    samples = []
    for path in paths:
        for start, length in record_places(path)[: wanted - len(samples)]:
            samples.append(_sample(path, int(start), int(length), f"{prefix}halos-{part}:{len(samples)}", attrs))
        if len(samples) >= wanted:
            break
    if count is not None and len(samples) < count:
        raise BsavizError(f"{root} holds {len(samples)} samples to {part}, {count} were asked for; ask for fewer")
    return samples


def _sample(path, start, length, name, attrs):
    record = read_record(path, start, length, _COLUMNS, optional=("M200c", *PARAMETERS))
    sizes = {name: record[name].shape for name in _COLUMNS}
    if len(set(sizes.values())) > 1 or len(sizes["x"]) != 1:
        raise BsavizError(f"{path}: the columns of a record must have one number a halo, got shapes {sizes}")
    columns = np.stack([record[name] for name in _COLUMNS], axis=1).astype(np.float64)
    fields = {"velocity": columns[:, 3:]}
    if "M200c" in record:
        fields["mass"] = record["M200c"]
    parameters = {name: float(record[name]) for name in PARAMETERS if name in record}
    return Sample(
        name=name,
        positions=(columns[:, :3] - POSITION_MEAN) / POSITION_STD,
        fields=fields,
        target_name="velocity",
        loss="mse",
        target_mean=VELOCITY_MEAN,
        target_std=VELOCITY_STD,
        position_mean=POSITION_MEAN,
        position_std=POSITION_STD,
        units={"velocity": "km/s", "mass": "Msun/h", "positions": "Mpc/h"},
        source=str(path),
        attrs={"dataset": "Quijote halos, arXiv 2410.20516", "generated": False, "box": BOX, **parameters,
               **(attrs or {})},  # fmt: skip
    )


def write(path, catalogues):
    """Write catalogues in the set's layout.

    Parameters
    ----------
    path : path
        A name as the set's files have it, ``halos_train_1.tfrecord``.
    catalogues : iterable of dict
        Columns (N,) and scalars by the names above.
    """
    write_records(path, catalogues)
