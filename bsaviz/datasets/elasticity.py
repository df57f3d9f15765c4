"""Elasticity: stress in a unit cell with a hole, pulled at the top (Geo-FNO's set).

Li, Huang, Liu and Anandkumar, "Fourier neural operator with learned deformations for PDEs on general geometries"
(arXiv 2207.05209): a square of hyper-elastic rubber, clamped at the bottom and pulled by 100 at the top, round a hole
of random shape; 2000 samples of 972 points. Files, split (first 1000, last 200) and loss (relative L2 error) are those
of its benchmark.

======================================  ==================
``Random_UnitCell_XY_10.npy``           (972, 2, n) points
``Random_UnitCell_sigma_10.npy``        (972, n) stress
======================================  ==================
"""

from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file
from bsaviz.datasets.clouds import load_numpy
from bsaviz.datasets.sample import Sample

XY_FILE, STRESS_FILE = "Random_UnitCell_XY_10.npy", "Random_UnitCell_sigma_10.npy"
INSIDE = ("", "elasticity/Meshes", "Meshes", "elasticity", "fno/elasticity/Meshes")
NUM_TRAIN, NUM_TEST = 1000, 200
_PAPER = "Geo-FNO elasticity, arXiv 2207.05209"


def find(folder):
    """The folder itself or the one in it that holds both files, or None."""
    has = lambda place: (place / XY_FILE).is_file() and (place / STRESS_FILE).is_file()
    return next((folder / inside for inside in INSIDE if has(folder / inside)), None)


def read(root, num_train=None, num_test=None, attrs=None):
    """The training and the test samples of a folder.

    Parameters
    ----------
    root : path
        With the two files.
    num_train, num_test : int, optional
        First samples to train on and last ones to test on. Default: 1000 and 200 of 1200 or more; of a smaller file the
        last sixth is for testing.
    attrs : dict, optional
        Further entries for the samples' ``attrs``.

    Returns
    -------
    train, test : list of Sample
        Field "stress". Positions are as in the file (published), the stress is normalised by its mean and standard
        deviation over the training samples.

    Raises
    ------
    BsavizError
        For files whose shapes do not fit, a damaged file, and more samples asked for than there are.
    """
    root = Path(root)
    points, stress = load_numpy(root / XY_FILE), load_numpy(root / STRESS_FILE)
    _check_shapes(root, points, stress)
    count = stress.shape[1]
    whole = count >= NUM_TRAIN + NUM_TEST
    num_test = num_test if num_test is not None else NUM_TEST if whole else max(1, count // 6)
    num_train = num_train if num_train is not None else NUM_TRAIN if whole else count - num_test
    if min(num_train, num_test) < 1 or num_train + num_test > count:
        raise BsavizError(
            f"{root / STRESS_FILE} holds {count} samples; {num_train} to train on and {num_test} to test on were asked "
            "for. Ask for at least one of each and for no more than there are"
        )

    prefix = "generated-" if attrs and attrs.get("generated") else ""

    def sample(index):
        return Sample(
            name=f"{prefix}elasticity:{index}",
            positions=points[..., index],
            fields={"stress": stress[:, index]},
            target_name="stress",
            loss="relative_l2",
            units={"stress": "unit of the traction, which is 100", "positions": "side of the cell"},
            source=f"{root / STRESS_FILE}, column {index}",
            attrs={"dataset": _PAPER, "generated": False, "index": index, **(attrs or {})},
        )

    return [sample(i) for i in range(num_train)], [sample(i) for i in range(count - num_test, count)]


def _check_shapes(root, points, stress):
    for path, array, wanted in ((root / XY_FILE, points, 3), (root / STRESS_FILE, stress, 2)):
        if not isinstance(array, np.ndarray) or array.ndim != wanted or array.dtype.kind not in "fiu":
            came = array.shape if isinstance(array, np.ndarray) else "several arrays"
            shape = "(points, 2, samples)" if wanted == 3 else "(points, samples)"
            raise BsavizError(f"{path} must hold numbers of shape {shape}, got {came}; download it again")
    if points.shape != (len(stress), 2, stress.shape[1]):
        raise BsavizError(
            f"{root}: {XY_FILE} has shape {points.shape} and {STRESS_FILE} {stress.shape}; they must be (points, 2, "
            "samples) and (points, samples) of the same points and samples: are they of the same download?"
        )


def write(root, points, stress):
    """Write samples in the set's layout: points (P, 2, n) and stress (P, n)."""
    for name, array in ((XY_FILE, points), (STRESS_FILE, stress)):
        with whole_file(Path(root) / name) as temporary, open(temporary, "wb") as file:
            np.save(file, array)
