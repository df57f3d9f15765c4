"""The coarse levels of a tree: runs of consecutive slots pooled into one, level after level."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import numpy as np
import torch

from bsa_kernels.tree import leaf_order
from bsaviz.trees.layout import Layout
from bsaviz.trees.partition import partition
from bsaviz.trees.rotation import rotate

_ROTATIONS = WeakKeyDictionary()  # of a tree that is used again, as in training


def coarsen(positions, mask, stride):
    """One level up: every `stride` consecutive slots become one, at the mean of the real ones among them.

    Parameters
    ----------
    positions : Tensor (B, N, D)
    mask : Tensor (B, N) bool or None
        True for real slots; None where all are.
    stride : int
        Divides N.

    Returns
    -------
    positions : Tensor (B, N / stride, D)
    mask : Tensor (B, N / stride) bool or None
        True where any slot was real.
    """
    runs = positions.unflatten(1, (-1, stride))
    if mask is None:
        return runs.mean(2), None
    real = mask.unflatten(1, (-1, stride))
    some = real.any(2)
    counted = (real | ~some[..., None])[..., None]  # a run without a real slot keeps a finite place
    return (runs * counted).sum(2) / counted.sum(2), some


def with_rotation(tree, angle, ball_size, *, published=False):
    """The same tree with a rotated one: its points turned by `angle` degrees and partitioned down to its balls."""
    owned = _owned(tree.mask, ball_size)
    rotation = _rotation(tree.positions, None if published else tree.mask, owned, ball_size, angle)
    return replace(tree, rotation=rotation, angle=float(angle))


def coarse_rotations(tree, strides, ball_sizes, *, published=False):
    """Rotated order of each coarse level of a tree that has a rotated one.

    The centres of a level are turned by the tree's angle and partitioned down to the balls of that level (Erwin, arXiv
    2502.17019, section 3.2). Computed once for a tree.

    Parameters
    ----------
    tree : BallTree
    strides : sequence of int
        Slots pooled into one between a level and the next.
    ball_sizes : sequence of int
        Slots of a ball at each coarse level: as many as strides.
    published : bool
        Partition padding like points, as the published code does, instead of leaving it where it is.

    Returns
    -------
    tuple of Tensor (B, N_i) int64
        For each coarse level: its slot in the main order for each slot of the rotated order.
    """
    known = _ROTATIONS.setdefault(tree, {})
    key = (tuple(strides), tuple(ball_sizes), published)
    if key not in known:
        known[key] = tuple(_coarse_rotations(tree, *key))
    return known[key]


def _coarse_rotations(tree, strides, ball_sizes, published):
    positions, mask = tree.positions, None if published else tree.mask
    total = 1
    for stride, ball_size in zip(strides, ball_sizes):
        positions, mask = coarsen(positions, mask, stride)
        total *= stride
        yield _rotation(positions, mask, _owned(tree.mask, total * ball_size) // total, ball_size, tree.angle)


def _owned(mask, size):
    """Slots of each sample up to its last real one, in whole runs of `size`."""
    place = torch.arange(1, mask.shape[1] + 1, device=mask.device)
    last = (mask * place).amax(1).cpu().numpy()
    return -(-last // size) * size


def _rotation(positions, mask, owned, ball_size, angle):
    if mask is None:
        place = torch.arange(positions.shape[1], device=positions.device)
        mask = place < torch.as_tensor(owned, device=positions.device)[:, None]
    slots = mask.flatten().nonzero()[:, 0]
    columns = positions.detach().flatten(0, 1)[slots].T.contiguous()
    by = _by_numpy if columns.device.type == "cpu" else _by_kernels
    places = by(columns, angle, mask.sum(1).tolist(), owned, ball_size)
    rotation = torch.arange(mask.numel(), device=slots.device)
    rotation[slots] = slots[places]
    return rotation.view(mask.shape) % mask.shape[1]


def _by_numpy(columns, angle, points, owned, ball_size):
    """Leaf order of turned points, of which each sample has so many, down to the balls."""
    layout = Layout(np.array(points), owned, ball_size, ball_size)
    return torch.from_numpy(partition(rotate(list(columns.numpy()), angle), layout, ball_size))


def _by_kernels(columns, angle, points, owned, ball_size):
    """The same on the device of the columns."""
    turned = torch.stack(rotate(list(columns), angle)) + 0.0  # makes -0 its equal, 0
    return leaf_order(turned, points, owned.tolist(), ball_size=ball_size, block_size=ball_size, stop=ball_size).long()
