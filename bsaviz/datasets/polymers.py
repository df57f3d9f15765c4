"""Molecular dynamics: single polymer chains in implicit solvent, the next acceleration learnt from past velocities.

Data: Fu et al., "Simulate time-integrated coarse-grained molecular dynamics with multi-scale graph networks" (TMLR
2023), Zenodo record 6764836. Windows, normalisation and loss are those of Erwin's experiments (arXiv 2502.17019).

==================================================  =====================================================
``polymer_train|polymer_test/<name>/position.h5``   dataset ``position`` (frames, beads, 3), in angstrom
``.../bond.h5``                                     dataset ``bond_indices`` (bonds, 2)
``.../ptype.h5``                                    dataset ``particle_type`` (beads,), 0 to 3
``splits/train.txt, val.txt, test_class2.txt``      names of trajectories, one a line; the first two of
                                                    ``polymer_train``, the last of ``polymer_test``
==================================================  =====================================================

A sample is a window of 17 frames: 16 known positions and the next. With x_t the positions (the trajectory's mean taken
off), v_t = x_t - x_(t-1) and a = v_(t+1) - v_t, its points are x_16, its features the 15 velocities and the kind of
each bead, its target is a. (The published code has noise for the training positions, but never adds it: it compares the
path of the split file with the word "train".)
"""

import json
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file
from bsaviz.datasets.sample import Sample

WINDOW = 17  # frames of a sample, the last one to be predicted
KINDS = 4  # of beads
PARTS = {  # folder, split file, frames of a trajectory that are used (published)
    "train": ("polymer_train", "train.txt", 10000),
    "val": ("polymer_train", "val.txt", 10000),
    "test": ("polymer_test", "test_class2.txt", 1000),
}
SCALES = {  # published standard deviations, angstrom and frames
    "position": (21.4457, 31.7121, 25.5143),
    "velocity": (1.2809, 1.2735, 1.2792),
    "acceleration": (1.7428, 1.7295, 1.7390),
}
SCALES_FILE = "scales.json"  # of a stand-in, whose units are others
NUM_TRAIN, NUM_TEST = 2048, 256
INSIDE = ("", "polymer", "chain", "md")


def find(folder):
    """The folder itself or the one in it that holds the split files, or None."""
    has = lambda place: (place / "splits" / "train.txt").is_file()
    return next((folder / inside for inside in INSIDE if has(folder / inside)), None)


def read(root, part, count, seed=0, attrs=None):
    """Windows of the trajectories of one part of the published split.

    Parameters
    ----------
    root : path
        With ``splits`` and the folders of trajectories.
    part : {"train", "val", "test"}
    count : int
        How many windows, drawn at random from all there are (898 560 to train on in the public set: more than fit in
        memory); all of them if there are fewer.
    seed : int
        Of the draw.
    attrs : dict, optional
        Further entries for the samples' ``attrs``.

    Returns
    -------
    list of Sample
        Fields "acceleration", "velocity_history" (P, 45), "type" (P, 4) and "particle_type" (P,).

    Raises
    ------
    BsavizError
        For missing, damaged or malformed files, and trajectories of fewer than 17 frames.
    """
    root = Path(root)
    folder, split, most = PARTS[part]
    names = _split_names(root / "splits" / split)
    frames = [min(most, _num_frames(root / folder / name / "position.h5")) for name in names]
    per_trajectory = np.array(frames) - WINDOW + 1
    total = int(per_trajectory.sum())
    drawn = np.random.default_rng((seed, list(PARTS).index(part))).permutation(total)[:count]
    ends = np.cumsum(per_trajectory)
    scales = _scales(root)
    samples = {}
    for number, name in enumerate(names):
        starts = np.sort(drawn[(drawn < ends[number]) & (drawn >= ends[number] - per_trajectory[number])])
        if not len(starts):
            continue
        trajectory = read_trajectory(root / folder / name)
        for start in starts:
            frame = int(start - ends[number] + per_trajectory[number])
            samples[int(start)] = _window(trajectory, name, frame, scales, root / folder / name, attrs)
    return [samples[int(start)] for start in drawn]


def read_trajectory(folder):
    """Positions (frames, beads, 3) around their mean, bonds (B, 2) and kinds (beads,) of one trajectory's folder."""
    folder = Path(folder)
    positions = _load(folder / "position.h5", "position")
    bonds = _load(folder / "bond.h5", "bond_indices").astype(np.int64)
    kinds = _load(folder / "ptype.h5", "particle_type").astype(np.int64).reshape(-1)
    if positions.ndim != 3 or positions.shape[2] != 3:
        raise BsavizError(f"{folder / 'position.h5'}: position must be (frames, beads, 3), got {positions.shape}")
    beads = positions.shape[1]
    if len(kinds) != beads or kinds.min() < 0 or kinds.max() >= KINDS:
        raise BsavizError(
            f"{folder / 'ptype.h5'}: particle_type must hold {beads} numbers from 0 to {KINDS - 1}, one a bead of "
            f"position.h5; got {len(kinds)} from {kinds.min()} to {kinds.max()}"
        )
    if bonds.ndim != 2 or bonds.shape[1] != 2 or bonds.min() < 0 or bonds.max() >= beads:
        raise BsavizError(
            f"{folder / 'bond.h5'}: bond_indices must be pairs of beads 0 to {beads - 1}, got {bonds.shape} "
            f"from {bonds.min()} to {bonds.max()}"
        )
    return positions - positions.mean(axis=(0, 1), dtype=np.float64), bonds, kinds


def write_trajectory(folder, positions, bonds, kinds):
    """Write one trajectory in the set's layout."""
    import h5py

    for file, name, values in (("position.h5", "position", np.asarray(positions, np.float32)),
                               ("ptype.h5", "particle_type", kinds), ("bond.h5", "bond_indices", bonds)):  # fmt: skip
        with whole_file(Path(folder) / file) as temporary, h5py.File(temporary, "w") as store:
            store.create_dataset(name, data=values)


def _window(trajectory, name, frame, scales, folder, attrs):
    positions, bonds, kinds = trajectory
    velocities = np.diff(positions[frame : frame + WINDOW], axis=0)  # 16: 15 known, then the one to predict
    history = velocities[:-1] / scales["velocity"]
    return Sample(
        name=f"{name}:{frame}",
        positions=positions[frame + WINDOW - 2] / scales["position"],
        fields={
            "acceleration": velocities[-1] - velocities[-2],
            "velocity_history": history.transpose(1, 0, 2).reshape(len(kinds), -1),
            "type": np.eye(KINDS, dtype=np.float32)[kinds],
            "particle_type": kinds,
        },
        target_name="acceleration",
        feature_names=("velocity_history", "type"),
        edges=np.concatenate([bonds, bonds[:, ::-1]]).T,
        loss="nll",
        target_mean=(0.0, 0.0, 0.0),
        target_std=scales["acceleration"],
        position_std=scales["position"],
        units={"acceleration": f"{scales['unit']}/frame^2", "velocity_history": "1", "positions": scales["unit"]},
        source=str(folder),
        attrs={"dataset": "single-chain polymers, Zenodo 6764836", "generated": False, "frame": frame, **(attrs or {})},
    )


def _split_names(path):
    if not path.is_file():
        raise BsavizError(
            f"there is no split file {path}; put the published one there, from "
            f"https://github.com/kyonofx/mlcgmd/tree/main/graphwm/splits/chain"
        )
    names = path.read_text().split()
    if not names:
        raise BsavizError(f"the split file {path} is empty; it should name a trajectory a line")
    return sorted(names)


def _num_frames(path):
    import h5py

    try:
        with h5py.File(path, "r") as store:
            frames = len(store["position"])
    except (OSError, KeyError, TypeError) as error:
        raise _unreadable(path, "position", error) from error
    if frames < WINDOW:
        raise BsavizError(f"{path} holds {frames} frames; a sample needs {WINDOW}")
    return frames


def _load(path, name):
    import h5py

    try:
        with h5py.File(path, "r") as store:
            return store[name][()]
    except (OSError, KeyError, TypeError) as error:
        raise _unreadable(path, name, error) from error


def _unreadable(path, name, error):
    if not path.is_file():
        return BsavizError(
            f"there is no file {path}; the folder of a trajectory needs position.h5, bond.h5 and ptype.h5, and every "
            "trajectory of the split file needs its folder"
        )
    return BsavizError(f"cannot read the dataset {name!r} of {path} ({error}); copy or download the whole file again")


def _scales(root):
    path = root / SCALES_FILE
    if not path.is_file():
        return {**SCALES, "unit": "angstrom"}
    return json.loads(path.read_text())
