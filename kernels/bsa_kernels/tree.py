"""The ball tree of a point cloud: the leaf order that the operators read, and that of a second, rotated tree.

A sample of `P` points owns `n` slots, a multiple of the ball size. Slots [s, t) hold the points [P s // n, P t // n) of
the leaf order: padding is spread evenly. A node is split along its widest axis (the first of equals), so that its left
child gets the points with the lowest coordinates, ties by index: the tree is unique, whatever computes it.
"""

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from bsa_kernels import backends
from bsa_kernels.register import operator
from bsa_kernels.tree_slots import first_places, left_slots


class BallTreeOrder(NamedTuple):
    """The slots of a batch of ball trees.

    Attributes
    ----------
    order : Tensor (B, N) int64
        Index of the input point in each slot. A padding slot holds a neighbour of the same sample.
    mask : Tensor (B, N) bool
        True in the slots of real points; each point is in one of them.
    rotation : Tensor (B, N) int64, or None
        Slot of the main tree for each slot of the rotated tree.
    """

    order: Tensor
    mask: Tensor
    rotation: Tensor | None


def build_ball_tree(
    positions, points=None, *, ball_size=256, block_size=8, slots=None, rotation=None, rotate_to="block", backend="auto"
):
    """Ball trees of a batch of clouds (Erwin, arXiv 2502.17019), on the device of the positions.

    Parameters
    ----------
    positions : Tensor (P, D), D = 2 or 3
        Points of all samples, one sample after the other; float32 or float64, finite.
    points : sequence of int, optional
        Points of each sample; they sum to P. None = one sample.
    ball_size, block_size : int
        Slots of a ball and a block; the first is a multiple of the second. Nodes are split between balls, then between
        blocks, then down to single slots.
    slots : sequence of int, optional
        Slots of each sample, a multiple of `ball_size`; default the next one.
    rotation : D x D numbers, optional
        The rotated tree is that of ``positions @ rotation``.
    rotate_to : {"block", "ball"}
        How far the rotated tree is split: real points down to the block, or (as published) all slots with the
        duplicates in them down to the ball. Inside, the main tree's order remains.
    backend : {"auto", "triton", "torch"}
        "auto" is Triton on a CUDA device where it can run the call, else torch. The tree is the same.

    Returns
    -------
    BallTreeOrder

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; the message says what was expected and what to do.
    """
    points = [len(positions)] if points is None else [int(count) for count in points]
    _check(positions, points, ball_size, block_size, rotate_to, backend)
    slots = [-(-count // ball_size) * ball_size for count in points] if slots is None else [int(n) for n in slots]
    _check_slots(slots, points, ball_size)
    matrix = _flat(rotation, positions.shape[1])
    order, mask, rotated = _build(
        positions.detach(), points, slots, ball_size, block_size, matrix, rotate_to == "ball", backend
    )
    return BallTreeOrder(order, mask, rotated if matrix else None)


@operator("bsa_kernels::build_ball_tree")
def _build(
    positions: Tensor, points: list[int], slots: list[int], ball_size: int, block_size: int, matrix: list[float],
    to_ball: bool, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    columns = positions.T.contiguous() + 0.0  # makes -0 its equal, 0
    split = functools.partial(leaf_order, ball_size=ball_size, block_size=block_size, backend=backend)
    place, mask, own = _slots(tuple(points), tuple(slots), positions.device)
    leaves = split(columns, points, slots, stop=1)
    order = leaves[place].long()
    if not matrix:
        return order, mask.clone(), order.new_empty(0)
    held, shares, stop = leaves, points, block_size
    if to_ball:
        _, _, own = _slots(tuple(slots), tuple(slots), positions.device)
        held, shares, stop = order.view(-1)[own], slots, ball_size
    places = split(_turned(columns, held, matrix), shares, slots, stop=stop)
    rotation = torch.arange(order.numel(), device=order.device)
    rotation[own] = own[places]
    return order, mask.clone(), rotation.view(order.shape) % order.shape[1]


@torch.library.register_fake("bsa_kernels::build_ball_tree")
def _(positions, points, slots, ball_size, block_size, matrix, to_ball, backend):
    empty = lambda dtype, *shape: positions.new_empty(shape, dtype=dtype)
    shape = len(points), max(slots)
    return empty(torch.int64, *shape), empty(torch.bool, *shape), empty(torch.int64, *(shape if matrix else (0,)))


def leaf_order(columns, points, slots, *, ball_size, block_size, stop, backend="auto"):
    """Index of the point at each place of the leaf order, (P,) integers.

    Parameters
    ----------
    columns : Tensor (D, P)
        Coordinates along each axis, without a -0.
    points, slots : sequence of int
        Of each sample.
    ball_size, block_size : int
    stop : int
        Slots of a node that is not split further; inside it points keep their order.
    backend : {"auto", "triton", "torch"}
    """
    if backend == "triton" or (backend == "auto" and columns.is_cuda):
        reason = backends.no_triton()
        if reason is None:
            from bsa_kernels.triton import partition

            reason = partition.unsupported(columns, stop)
        if reason is None:
            return partition.leaf_order(columns, points, slots, ball_size, block_size, stop)
        if backend == "triton":
            raise ValueError(
                f"backend='triton' cannot run build_ball_tree here: {reason}; "
                "use backend='torch', or backend='auto' to take Triton only where it can run"
            )
    return _leaf_order(columns, points, slots, ball_size, block_size, stop)


def _leaf_order(columns, points, slots, ball_size, block_size, stop):
    """The definition: in every level, each node's points are sorted along its widest axis."""
    device, total = columns.device, columns.shape[1]
    index = torch.arange(total, device=device)
    rank = columns.sort(dim=1, stable=True).indices.argsort(dim=1)
    largest = max(slots)
    points, slots = torch.tensor(points, device=device), torch.tensor(slots, device=device)
    sample = torch.repeat_interleave(points, output_size=total)
    # Of the sample and the node at every place:
    place0, points, slots = (x[sample] for x in (points.cumsum(0) - points, points, slots))
    first, size = torch.zeros_like(index), slots
    point = index
    while largest > stop:
        half = torch.where(size > stop, left_slots(size, ball_size, block_size), size)
        start, middle = (first_places(slot, place0, points, slots) for slot in (first, first + half))
        widest = _widest(columns[:, point], start)
        point = point[(start * total + rank[widest, point]).argsort()]
        right = index >= middle
        first, size = torch.where(right, first + half, first), torch.where(right, size - half, half)
        largest = int(left_slots(torch.tensor(largest), ball_size, block_size))
    start = first_places(first, place0, points, slots)
    return point[(start * total + point).argsort()]


def _widest(values, node):
    """Axis of largest extent of the node of every place, the first of equals; values (D, P), node (P,)."""
    node = node.expand_as(values)
    edge = lambda reduce: torch.empty_like(values).scatter_reduce_(1, node, values, reduce, include_self=False)
    extent = edge("amax") - edge("amin")
    axis = torch.arange(len(values), device=values.device)[:, None]
    return torch.where(extent == extent.amax(0), axis, len(values)).amin(0)[node[0]]


@functools.lru_cache(maxsize=4)  # a training step comes back with the sizes of the one before
def _slots(points, slots, device):
    """What is in every slot, whatever the positions.

    Returns
    -------
    place : Tensor (B, N) int64
        Place in the leaf order of the point that a slot holds. An empty even slot repeats the next point and an odd one
        the one before, so that a pair of slots with one real point holds it twice, as in the published trees.
    mask : Tensor (B, N) bool
        True in the slots of real points.
    own : Tensor (P,) int64
        Flat index of the slot of each point of the leaf order.
    """
    count, owned = (torch.tensor(x, device=device)[:, None] for x in (points, slots))
    slot = torch.arange(max(slots), device=device)
    before, after = count * slot // owned, count * (slot + 1) // owned
    real = after > before
    place = torch.where(real | (slot % 2 == 0), before, before - 1)
    place = torch.minimum(place, count - 1).clamp_(min=0) + (count.cumsum(0) - count)
    mask = real & (slot < owned)
    return place, mask, mask.view(-1).nonzero()[:, 0]


@functools.lru_cache(maxsize=8)  # copying to a device waits for it
def _on_device(values, device, dtype):
    return torch.tensor(values, device=device, dtype=dtype)


def _turned(columns, held, matrix):
    """Columns of the rotated points; products and sums one by one, for a matrix product may round otherwise."""
    dims = len(columns)
    matrix = _on_device(tuple(matrix), columns.device, columns.dtype).view(dims, dims, 1)
    products = columns[:, None, held] * matrix
    return functools.reduce(torch.add, products) + 0.0


def _flat(rotation, dims):
    if rotation is None:
        return []
    rows = [[float(x) for x in row] for row in rotation]
    if [len(row) for row in rows] != [dims] * dims:
        raise ValueError(f"rotation must be {dims} x {dims} numbers, as positions have {dims} coordinates, got {rows}")
    return sum(rows, [])


def _check(positions, points, ball_size, block_size, rotate_to, backend):
    if not isinstance(positions, Tensor) or positions.dim() != 2 or positions.shape[1] not in (2, 3):
        came = tuple(positions.shape) if isinstance(positions, Tensor) else type(positions).__name__
        raise ValueError(f"positions must be a tensor (P, 2) or (P, 3), got {came}")
    if positions.dtype not in (torch.float32, torch.float64):
        raise TypeError(
            f"positions must be float32 or float64, got {positions.dtype}; convert them, e.g. with .float()"
        )
    if not points or min(points) < 1 or sum(points) != len(positions):
        raise ValueError(
            f"points must be the points of each sample, at least 1, and sum to the {len(positions)} positions, got "
            f"{points}"
        )
    for name, size in (("ball_size", ball_size), ("block_size", block_size)):
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive integer, got {size!r}")
    if ball_size % block_size:
        raise ValueError(f"ball_size must be a multiple of block_size, got {ball_size} and {block_size}; let them nest")
    for name, value, known in (("rotate_to", rotate_to, ("block", "ball")), ("backend", backend, backends.NAMES)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")


def _check_slots(slots, points, ball_size):
    fits = len(slots) == len(points) and all(n >= count and n % ball_size == 0 for n, count in zip(slots, points))
    if not fits:
        raise ValueError(
            f"slots must be a multiple of ball_size={ball_size} for each sample, no fewer than its points, got {slots} "
            f"for {points} points"
        )
