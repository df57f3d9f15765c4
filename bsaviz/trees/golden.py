"""Our trees held against published ones: the mean radius of their balls."""

import zipfile
from typing import NamedTuple

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees.balltree import BallTree

SLACK = 1.02


class TreeRow(NamedTuple):
    """One comparison: the mean radius of the balls of `size` slots in a cloud, and whether ours is within 2 %."""

    cloud: str
    size: int
    ours: float
    published: float
    ok: bool


def check_tree_file(path):
    """Build our tree of every cloud of a reference file and compare mean ball radii.

    A radius here is the largest distance from the mean of *all* slots of a ball, duplicated padding included, as in the
    published trees; ours are padded to a power of two likewise.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with ``<cloud>/pos`` (P, D) and ``<cloud>/mean_radius_<size>`` for each size.

    Returns
    -------
    list of TreeRow

    Raises
    ------
    BsavizError
        When the file is missing, not an ``.npz``, or holds no such cloud.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files if not name.startswith("config")}
    except FileNotFoundError as error:
        raise BsavizError(f"no tree file at {path}; give the path of a .npz file of reference trees") from error
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise BsavizError(f"{path} is not a readable .npz file ({error}); fetch it again") from error
    rows = []
    for cloud, radii in sorted(_published_radii(arrays, path).items()):
        sizes = {"ball_size": max(radii), "block_size": min(radii)}
        tree = BallTree.build(arrays[f"{cloud}/pos"], padding="power_of_two", **sizes)
        for size, published in sorted(radii.items()):
            ours = float(mean_radius(tree.positions.double(), size))
            rows.append(TreeRow(cloud, size, ours, published, ours <= SLACK * published))
    if not rows:
        raise BsavizError(f"{path} holds no reference tree; expected arrays <cloud>/pos and <cloud>/mean_radius_<size>")
    return rows


def _published_radii(arrays, path):
    """Mean radius by size, for each cloud of the file."""
    clouds = {}
    for name in arrays:
        cloud, found, size = name.rpartition("/mean_radius_")
        if not found:
            continue
        if not size.isdigit() or arrays[name].size != 1:
            raise BsavizError(f"{path}: {name} should be one number called {cloud}/mean_radius_<size>")
        if f"{cloud}/pos" not in arrays:
            raise BsavizError(f"{path} has {name} but no {cloud}/pos, the points it is of; fetch it again")
        clouds.setdefault(cloud, {})[int(size)] = float(arrays[name].item())
    return clouds


def mean_radius(positions, size):
    """Mean over balls of `size` slots of the largest distance from the ball's mean slot; positions (B, N, D)."""
    balls = positions.unflatten(1, (-1, size))
    return torch.linalg.vector_norm(balls - balls.mean(dim=2, keepdim=True), dim=-1).amax(dim=-1).mean()
