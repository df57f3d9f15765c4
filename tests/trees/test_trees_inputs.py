"""Bad input: each public argument has one message that says what was expected, what came and what to do."""

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree
from bsaviz.trees.rotation import rotation_matrix

CLOUD = torch.rand(10, 3)
NAN, INF = CLOUD.clone(), CLOUD.double().numpy()
NAN[4, 1] = float("nan")
NAN[7, 0] = float("nan")
INF[2, 2] = np.inf


@pytest.mark.parametrize(("positions", "message"), [
    (torch.rand(10), r"shape \(P, 2\) or \(P, 3\), got \(10,\)"),
    (torch.rand(2, 10, 3), r"got \(2, 10, 3\); concatenate the samples"),
    (torch.rand(10, 4), r"got \(10, 4\)"),
    (torch.zeros(10, 3, dtype=torch.int64), "must be floating point, got torch.int64"),
    (torch.zeros(0, 3), "hold no point"),
    ("car.obj", r"must be a tensor or array of shape \(P, 2\) or \(P, 3\), got str"),
    (NAN, "2 of 10 points are NaN or infinite, the first at index 4"),
    (INF, "1 of 10 points are NaN or infinite, the first at index 2"),
])  # fmt: skip
def test_positions(positions, message):
    with pytest.raises(BsavizError, match=message):
        BallTree.build(positions)


@pytest.mark.parametrize(("batch", "message"), [
    (torch.zeros(9, dtype=torch.int64), r"each of the 10 points, got shape \(9,\)"),
    (torch.zeros(10), "integer sample index .* torch.float32"),
    (torch.zeros(10, dtype=torch.bool), "integer sample index .* torch.bool"),
    ("first", "tensor or array of integers, got str"),
    (torch.tensor([0, 0, 0, 1, 1, 0, 0, 1, 1, 1]), "sorted ascending from 0"),
    (torch.tensor([-1] * 5 + [0] * 5), "sorted ascending from 0"),
    (torch.tensor([0] * 5 + [2] * 5), "batch names 3 samples, but sample 1 has no point"),
    (torch.tensor([1] * 10), "batch names 2 samples, but sample 0 has no point"),
    (torch.tensor([0] * 9 + [10**12]), "batch names 1000000000001 samples, but some have no point"),
])  # fmt: skip
def test_batch(batch, message):
    with pytest.raises(BsavizError, match=message):
        BallTree.build(CLOUD, batch)


@pytest.mark.parametrize(("options", "message"), [
    ({"ball_size": 100, "block_size": 8}, "ball_size must be a multiple of block_size, got 100 and 8"),
    ({"ball_size": 0}, "ball_size must be a positive integer, got 0"),
    ({"ball_size": 64.0}, "ball_size must be a positive integer, got 64.0"),
    ({"block_size": -8}, "block_size must be a positive integer, got -8"),
    ({"block_size": True}, "block_size must be a positive integer, got True"),
    ({"padding": "none"}, "padding must be one of 'multiple', 'power_of_two', got 'none'"),
    ({"rotate_to": "leaf"}, "rotate_to must be one of 'block', 'ball', got 'leaf'"),
    ({"rotation_angle": "45"}, "rotation_angle must be a number of degrees or None, got '45'"),
    ({"rotation_angle": float("nan")}, "rotation_angle must be a number of degrees or None, got nan"),
    ({"device": "abacus"}, "cannot build a tree on device 'abacus'"),
])  # fmt: skip
def test_options(options, message):
    with pytest.raises(BsavizError, match=message):
        BallTree.build(CLOUD, **options)


@pytest.mark.parametrize(("changes", "message"), [
    ({"ball_size": 3, "block_size": 1}, "N a multiple of ball_size = 3"),
    ({"ball_size": 4, "block_size": 3}, "multiple of block_size"),
    ({"mask": [True, True, True]}, r"share one shape .* got \(1, 4\) and \(1, 3\)"),
    ({"mask": [True, True, False, False]}, "each of the 3 points must be in exactly one slot"),
    ({"mask": [True, True, True, True]}, "each of the 3 points must be in exactly one slot"),
    ({"order": [0, 1, 2, 3]}, "every slot must hold an index from 0 to 2"),
    ({"order": [0, 1, 2, -1]}, "every slot must hold an index from 0 to 2"),
    ({"positions": torch.rand(1, 3, 3)}, r"\(B, N\) = \(1, 4\), got \(1, 3, 3\)"),
    ({"rotation": [0, 1, 2, 2]}, "rotation must be a permutation of the 4 slots"),
    ({"rotation": [0, 1, 2]}, r"rotation must be a permutation of the 4 slots of each sample, got shape \(1, 3\)"),
])  # fmt: skip
def test_from_arrays(changes, message):
    arrays = {"order": [0, 1, 2, 2], "mask": [True, True, True, False], "positions": torch.rand(3, 3)}
    with pytest.raises(BsavizError, match=message):
        BallTree.from_arrays(**{**arrays, "ball_size": 4, "block_size": 2, **changes})


def test_rotation_matrix_needs_two_or_three_dimensions():
    with pytest.raises(BsavizError, match="2 or 3 dimensions, got 4"):
        rotation_matrix(45.0, 4)
