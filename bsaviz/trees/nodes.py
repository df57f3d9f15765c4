"""Balls and blocks of a tree: where they lie and how wide they are."""

from typing import NamedTuple

import torch


class Nodes(NamedTuple):
    """The nodes of one size of a tree, n = N // size of them in each sample.

    Attributes
    ----------
    centers : (B, n, D)
        Mean position of the node's real points (of its padding where it has none).
    radii : (B, n)
        Largest distance from the centre to one of its real points, in units of the positions; 0 for an empty node.
    counts : (B, n) int64
        Real points.
    """

    centers: torch.Tensor
    radii: torch.Tensor
    counts: torch.Tensor


def nodes_of(positions, mask, size):
    """Nodes of `size` consecutive slots of positions (B, N, D) and mask (B, N); size divides N."""
    batch, slots, dim = positions.shape
    points = positions.reshape(batch, slots // size, size, dim)
    real = mask.reshape(batch, slots // size, size)
    counts = real.sum(dim=-1)
    weight = (real | (counts == 0)[..., None]).to(points.dtype)[..., None]
    # relative to a point of the node, so that a small ball far from the origin keeps its digits
    origin = points[:, :, :1]
    centers = origin + ((points - origin) * weight).sum(dim=2, keepdim=True) / weight.sum(dim=2, keepdim=True)
    radii = ((points - centers).norm(dim=-1) * real).amax(dim=-1)
    return Nodes(centers[:, :, 0], radii, counts)
