"""Splitting every node at the median of its widest axis, all nodes of a level at once.

The points are sorted once along each axis. A node is then a stretch of those lists, its extent along an axis is read
off the list's two ends, and a split is a stable partition of each list: no level sorts anything. Equals are ordered by
index, so the tree is unique: `bsa_kernels.build_ball_tree`, which serves other devices, makes the same. On a CPU this
is the faster one: numpy's sort and its selection by a mask are vectorised, and no step waits for a pool of threads.
"""

import numpy as np


@np.errstate(over="ignore")  # an extent past the largest float is infinite, and so the widest
def partition(columns, layout, stop=None):
    """Leaf order of the points.

    Parameters
    ----------
    columns : D arrays of shape (P,), float32 or float64
        The points' coordinates along each axis, one sample after the other.
    layout : Layout
        Its samples have the sizes of these.
    stop : int, optional
        Slots of a node that is not split further; inside it points keep their order. Default: down to single slots.

    Returns
    -------
    (P,) int64 array
        Index of the point at each place of the leaf order.
    """
    values = [np.ascontiguousarray(column) + column.dtype.type(0) for column in columns]  # + 0 makes -0 its equal, 0
    lists = np.stack([_sorted_inside_samples(column, layout.points) for column in values])
    moved = np.empty_like(lists)
    size = lists.shape[1]
    goes_left = np.empty(size, dtype=bool)
    levels, leaves = layout.splits(stop or 2)
    for depth, (starts, counts, left) in enumerate(levels, start=1):
        widest = np.zeros(len(starts), dtype=np.int64)
        largest = _extent(values[0], lists[0], starts, counts)
        for axis in range(1, len(values)):
            extent = _extent(values[axis], lists[axis], starts, counts)
            widest[extent > largest] = axis
            np.maximum(largest, extent, out=largest)
        # the left points of a node come first in its stretch of the list of its widest axis
        left_end = left.cumsum()
        total = left_end[-1]
        from_left = np.repeat(widest * size + starts - left_end + left, left)
        from_left += np.arange(total)
        goes_left[:] = False
        goes_left[lists.ravel().take(from_left)] = True
        # after the last level no extent is read any more, and one list will do
        for old, new in zip(lists if depth < len(levels) else lists[:1], moved):
            side = goes_left.take(old)
            old.take(np.flatnonzero(side), out=new[:total], mode="clip")
            old.take(np.flatnonzero(~side), out=new[total:], mode="clip")
        lists, moved = moved, lists
    packed = (np.repeat(leaves.places, leaves.counts) << 32) | lists[0]
    packed.sort()
    order = packed & 0xFFFFFFFF
    return order if stop else _pairs_along_widest(order, values, leaves.places[leaves.counts == 2])


def _extent(values, points, starts, counts):
    """Extent of each node along an axis: last minus first of its stretch of that axis's list."""
    return values.take(points.take(starts + counts - 1)) - values.take(points.take(starts))


def _pairs_along_widest(order, values, places):
    """The last split, of nodes with two points: there the extent is a difference and no list is needed."""
    first, second = order[places], order[places + 1]
    along = values[0][second] - values[0][first]
    for column in values[1:]:
        difference = column[second] - column[first]
        along = np.where(abs(difference) > abs(along), difference, along)
    order[places], order[places + 1] = np.where(along < 0, second, first), np.where(along < 0, first, second)
    return order


def _sorted_inside_samples(values, points):
    """Indices that sort `values` inside each sample, ties by index."""
    if values.dtype == np.float32:
        order = _argsort(_ordered_bits(values.view(np.int32)))
    else:
        order = np.argsort(values, kind="stable")
    if len(points) > 1:
        order = order[_argsort(np.repeat(np.arange(len(points)), points)[order])]
    return order


def _ordered_bits(bits):
    """Bits of float32 numbers as int32 numbers of the same order."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _argsort(keys):
    """Stable argsort of integers that fit int32: key and index are packed into one integer.

    numpy sorts plain integers some ten times faster than it sorts stably.
    """
    packed = keys.astype(np.int64) << 32
    packed |= np.arange(len(keys))
    packed.sort()
    return packed & 0xFFFFFFFF
