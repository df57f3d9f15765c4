"""Splitting every node at the median of its widest axis, all nodes of a level at once.

The points are sorted once along each axis. A node is then a stretch of those lists, its extent along an axis is read
off the list's two ends, and a split is a stable partition of each list: no level sorts anything. Equals are ordered by
index, so the tree is unique: however it is computed, on whatever device, it comes out the same.
"""

import numpy as np
import torch


def partition(positions, layout, stop):
    """Leaf order of the points.

    Parameters
    ----------
    positions : (P, D) tensor, float32 or float64
        Points of all samples, one sample after the other.
    layout : Layout
        Its samples have the sizes of these.
    stop : int
        Slots of a node that is not split further; inside such a node points keep their order.

    Returns
    -------
    (P,) int64 tensor
        Index of the point at each place of the leaf order, on the device of `positions`.
    """
    lists = sort_axes(positions, layout.points)
    if positions.device.type == "cpu":
        return torch.from_numpy(partition_numpy(positions.numpy(), lists.numpy(), layout, stop))
    return partition_torch(positions, lists, layout, stop)


def sort_axes(positions, points):
    """Indices of the points sorted along each axis inside each sample, ties by index: (D, P) int64."""
    values = (positions + 0.0).T.contiguous()  # + 0.0 turns -0.0 into 0.0, its equal
    if values.dtype == torch.float32:
        bits = values.view(torch.int32)
        order = _sorted_by(bits ^ ((bits >> 31) & 0x7FFFFFFF))
    else:
        order = values.sort(dim=1, stable=True).indices
    if len(points) > 1:
        sample = torch.repeat_interleave(torch.as_tensor(points, device=order.device), output_size=order.shape[1])
        order = order.gather(1, _sorted_by(sample[order]))
    return order


def _sorted_by(keys):
    """Stable argsort of the rows of an integer tensor that fits int32: key and index packed into one int64.

    numpy's vectorised sort of plain integers is some ten times faster than any stable sort of floats.
    """
    packed = (keys.to(torch.int64) << 32) | torch.arange(keys.shape[-1], device=keys.device)
    if packed.device.type == "cpu":
        packed.numpy().sort(axis=-1)
    else:
        packed = packed.sort(dim=-1).values
    return packed & 0xFFFFFFFF


def partition_numpy(positions, lists, layout, stop):
    """`partition` on the CPU. `lists` (D, P) int64 is used up."""
    axes, size = lists.shape
    values = np.ascontiguousarray(positions.T)
    rows = np.arange(axes)[:, None]
    other = np.empty_like(lists)
    goes_left = np.empty(size, dtype=bool)
    levels = layout.levels(stop)
    while True:
        try:
            level = next(levels)
        except StopIteration as leaves:
            return _leaf_order_numpy(lists[0], *leaves.value)
        low, high = values[rows, lists[:, level.starts]], values[rows, lists[:, level.starts + level.counts - 1]]
        widest = (high - low).argmax(axis=0)
        # the left points of a node are the first of its stretch in the list of its widest axis
        left_end = level.left.cumsum()
        from_left = np.arange(left_end[-1]) + np.repeat(level.starts - left_end + level.left, level.left)
        goes_left[:] = False
        goes_left[lists.ravel().take(from_left + np.repeat(widest * size, level.left))] = True
        for axis in range(axes):
            side = goes_left.take(lists[axis])
            lists[axis].take(np.flatnonzero(side), out=other[axis, : left_end[-1]], mode="clip")
            np.logical_not(side, out=side)
            lists[axis].take(np.flatnonzero(side), out=other[axis, left_end[-1] :], mode="clip")
        lists, other = other, lists


def _leaf_order_numpy(points, starts, counts, places):
    """Stretches moved to their places in the leaf order, the points inside each in ascending order."""
    packed = (np.repeat(places, counts) << 32) | points
    packed.sort()
    return packed & 0xFFFFFFFF


def partition_torch(positions, lists, layout, stop):
    """`partition` on any device, without waiting for the device between levels."""
    device, size = positions.device, lists.shape[1]
    values = positions.T.contiguous()
    place = torch.arange(size, device=device)
    goes_left = torch.empty(size, dtype=torch.bool, device=device)
    levels = layout.levels(stop)
    while True:
        try:
            level = next(levels)
        except StopIteration as leaves:
            _, counts, places = (torch.from_numpy(a).to(device) for a in leaves.value)
            places = torch.repeat_interleave(places, counts, output_size=size)
            return ((places << 32) | lists[0]).sort().values & 0xFFFFFFFF
        starts, counts, left = (torch.from_numpy(a).to(device) for a in level)
        low, high = values.gather(1, lists[:, starts]), values.gather(1, lists[:, starts + counts - 1])
        widest = _first_largest(high - low)
        node = torch.repeat_interleave(counts, output_size=size)
        goes_left[lists.view(-1)[widest[node] * size + place]] = place < (starts + left)[node]
        side = goes_left[lists]
        rank = side.cumsum(dim=1)
        target = torch.where(side, rank - 1, place - rank + rank[:, -1:])
        lists = torch.empty_like(lists).scatter_(1, target, lists)


def _first_largest(extent):
    """Row of the largest entry of each column, the first of equals (argmax leaves open which)."""
    row = torch.arange(len(extent), device=extent.device)[:, None]
    return torch.where(extent == extent.amax(dim=0), row, len(extent)).amin(dim=0)
