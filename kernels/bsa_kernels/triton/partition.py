"""Leaf order of a ball tree. The points are sorted along each axis once; no level sorts them again.

A node is a stretch of those D lists, the same in each, and its extent along an axis is read off the ends of that list.
Splitting a node is a stable partition of its stretches. Large nodes are split by the whole device, one level after the
other: mark the points that go left, count them in every tile, move. Nodes of up to MOST slots are finished by one
program each, which does the same with a barrier for a launch.
"""

import functools
import os

import torch
import triton
import triton.language as tl

from ..tree_slots import first_places, left_slots

MOST = 1024
TILE = 1024
NEVER = tl.constexpr(2**31 - 1)


@triton.jit
def _mark(Values, Lists, Side, Tiles, tiles, P, D: tl.constexpr, TILE: tl.constexpr):
    """Side[point] = 1 where the point goes left: it is among the first `left` of its node along the widest axis."""
    tile = Tiles + tl.program_id(0)
    start, count = tl.load(tile), tl.load(tile + tiles)
    left, offset = tl.load(tile + 2 * tiles), tl.load(tile + 3 * tiles)
    widest = 0
    largest = tl.load(Values + tl.load(Lists + start + count - 1)) - tl.load(Values + tl.load(Lists + start))
    for axis in tl.static_range(1, D):
        low = tl.load(Values + axis * P + tl.load(Lists + axis * P + start))
        high = tl.load(Values + axis * P + tl.load(Lists + axis * P + start + count - 1))
        widest = tl.where(high - low > largest, axis, widest)
        largest = tl.maximum(largest, high - low)
    place = offset + tl.arange(0, TILE)
    point = tl.load(Lists + widest * P + start + place, mask=place < count, other=0)
    tl.store(Side + point, (place < left).to(tl.int8), mask=place < count)


@triton.jit
def _count(Lists, Side, Counts, Tiles, tiles, P, TILE: tl.constexpr):
    """Points of every tile of every list that go left."""
    tile, axis = tl.program_id(0), tl.program_id(1)
    start, count, offset = (tl.load(Tiles + tile), tl.load(Tiles + tiles + tile), tl.load(Tiles + 3 * tiles + tile))
    place = offset + tl.arange(0, TILE)
    point = tl.load(Lists + axis * P + start + place, mask=place < count, other=0)
    side = tl.load(Side + point, mask=place < count, other=0).to(tl.int32)
    tl.store(Counts + axis * tiles + tile, tl.sum(side, 0))


@triton.jit
def _move(Lists, Moved, Side, Counts, Tiles, tiles, P, TILE: tl.constexpr):
    """Moved: each stretch of Lists with the points that go left in front, in the order in which they were."""
    tile, axis = tl.program_id(0), tl.program_id(1)
    start, count = tl.load(Tiles + tile), tl.load(Tiles + tiles + tile)
    left, offset = tl.load(Tiles + 2 * tiles + tile), tl.load(Tiles + 3 * tiles + tile)
    before = 0
    for first in range(tl.load(Tiles + 4 * tiles + tile), tile, TILE):
        earlier = first + tl.arange(0, TILE)
        before += tl.sum(tl.load(Counts + axis * tiles + earlier, mask=earlier < tile, other=0), 0)
    line = tl.arange(0, TILE)
    place = offset + line
    point = tl.load(Lists + axis * P + start + place, mask=place < count, other=0)
    side = tl.load(Side + point, mask=place < count, other=0).to(tl.int32)
    rank = tl.cumsum(side, 0)
    target = tl.where(side != 0, before + rank - 1, left + offset - before + line - rank)
    tl.store(Moved + axis * P + start + target, point, mask=place < count)


@triton.jit
def _finish(Values, Lists, Side, Nodes, Leaves, nodes, P, stop, levels, D: tl.constexpr, BALL: tl.constexpr,
            BLOCK: tl.constexpr, TILE: tl.constexpr):
    """One node, split until no part has more than `stop` slots; inside those the points are put in order of index.

    Lists and Side are worked on where they lie: no other program has to do with these points. Places and nodes are
    kept relative to the first place of the program's node.
    """
    node = Nodes + tl.program_id(0)
    first, size = tl.load(node), tl.load(node + nodes)
    place0, points = tl.load(node + 2 * nodes).to(tl.int64), tl.load(node + 3 * nodes).to(tl.int64)
    slots = tl.load(node + 4 * nodes).to(tl.int64)
    begin = place0 + points * first // slots
    total = (place0 + points * (first + size) // slots - begin).to(tl.int32)
    Lists += begin
    line = tl.arange(0, TILE)
    inside = line < total
    # Of the node at every place: its slots, and its stretch of the lists.
    first, size = tl.full([TILE], 0, tl.int32) + first, tl.full([TILE], 0, tl.int32) + size
    start, behind = tl.full([TILE], 0, tl.int32), tl.full([TILE], 0, tl.int32) + total
    for _ in range(levels):
        unit = tl.where(size > BALL, BALL, tl.where(size > BLOCK, BLOCK, 1))
        half = tl.where(size > stop, (size // unit + 1) // 2 * unit, size)
        middle = (place0 + points * (first + half) // slots - begin).to(tl.int32)
        widest = tl.full([TILE], 0, tl.int32)
        for axis in tl.static_range(D):
            low = tl.load(Lists + axis * P + start, mask=inside, other=0)
            high = tl.load(Lists + axis * P + behind - 1, mask=inside, other=0)
            extent = tl.load(Values + axis * P + high) - tl.load(Values + axis * P + low)
            if axis == 0:
                largest = extent
            else:
                widest = tl.where(extent > largest, axis, widest)
                largest = tl.maximum(largest, extent)
        is_left = (inside & (line < middle)).to(tl.int32)
        point = tl.load(Lists + widest * P + line, mask=inside, other=0)
        tl.store(Side + point, is_left.to(tl.int8), mask=inside)
        before = tl.gather(tl.cumsum(is_left, 0) - is_left, start, 0)  # of the earlier nodes
        tl.debug_barrier()
        for axis in tl.static_range(D):
            point = tl.load(Lists + axis * P + line, mask=inside, other=0)
            side = tl.load(Side + point, mask=inside, other=0).to(tl.int32)
            rank = tl.cumsum(side, 0) - side - before
            target = tl.where(side != 0, start + rank, middle + line - start - rank)
            tl.debug_barrier()
            tl.store(Lists + axis * P + target, point, mask=inside)
        tl.debug_barrier()
        right = line >= middle
        first, size = tl.where(right, first + half, first), tl.where(right, size - half, half)
        start, behind = tl.where(right, middle, start), tl.where(right, behind, middle)
    point = tl.load(Lists + line, mask=inside, other=0)
    rank = tl.full([TILE], 0, tl.int32)
    for other in range(stop):
        mate = tl.load(Lists + start + other, mask=inside & (start + other < behind), other=NEVER)
        rank += (mate < point).to(tl.int32)
    tl.store(Leaves + begin + start + rank, point, mask=inside)


@functools.lru_cache(maxsize=64)
def _plan(points, slots, ball, block, stop, device):
    """What depends on counts alone, as tensors on `device`.

    Tiles (5, tiles) of each level of large nodes: start, count and left points of the node, offset in it, its first
    tile. Nodes (5, nodes) below them: first slot, slots, and the first place, points and slots of the sample. Last, how
    often the largest of these has to be split.
    """
    points, slots = torch.tensor(points), torch.tensor(slots)
    place0 = points.cumsum(0) - points
    sample, first, size = torch.arange(len(points)), torch.zeros_like(points), slots
    levels = []
    while bool((size > MOST).any()):
        half = torch.where(size > MOST, left_slots(size, ball, block), size)
        edges = torch.stack([first, first + half, first + size])
        start, middle, behind = first_places(edges, place0[sample], points[sample], slots[sample])
        levels.append(_tiles(start, behind - start, middle - start).to(device))
        first = torch.stack([first, first + half], 1).flatten()
        size = torch.stack([half, size - half], 1).flatten()
        there = size > 0
        sample, first, size = sample.repeat_interleave(2)[there], first[there], size[there]
    nodes = torch.stack([first, size, place0[sample], points[sample], slots[sample]]).int().to(device)
    largest, splits = size.max(), 0
    while largest > stop:
        largest, splits = left_slots(largest, ball, block), splits + 1
    return levels, nodes, splits


def _tiles(start, count, left):
    number = -(-count // TILE)
    node = torch.arange(len(count)).repeat_interleave(number)
    first = (number.cumsum(0) - number)[node]
    offset = (torch.arange(len(node)) - first) * TILE
    return torch.stack([start[node], count[node], left[node], offset, first]).int()


def unsupported(columns, stop):
    """Why this cannot run, or None."""
    if not columns.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the kernels run on CUDA devices, and positions are on {columns.device}"
    if stop > MOST:
        return f"the kernels stop at nodes of up to {MOST} slots, not {stop}"
    if columns.numel() >= 2**31:
        return f"the kernels take fewer than 2**31 coordinates, not {columns.numel()}"


def leaf_order(columns, points, slots, ball_size, block_size, stop):
    """Index (P,) int32 of the point at each place; see `bsa_kernels.tree.leaf_order`."""
    dims, total = columns.shape
    levels, nodes, splits = _plan(tuple(points), tuple(slots), ball_size, block_size, stop, columns.device)
    lists = _sorted(columns, points)
    moved = torch.empty_like(lists)
    side = torch.empty(total, dtype=torch.int8, device=columns.device)
    most = max((tiles.shape[1] for tiles in levels), default=0)
    counts = torch.empty(dims * most, dtype=torch.int32, device=columns.device)
    for tiles in levels:
        number = tiles.shape[1]
        _mark[(number,)](columns, lists, side, tiles, number, total, D=dims, TILE=TILE)
        _count[(number, dims)](lists, side, counts, tiles, number, total, TILE=TILE)
        _move[(number, dims)](lists, moved, side, counts, tiles, number, total, TILE=TILE)
        lists, moved = moved, lists
    leaves = torch.empty(total, dtype=torch.int32, device=columns.device)
    _finish[(nodes.shape[1],)](
        columns, lists, side, nodes, leaves, nodes.shape[1], total, stop, splits, D=dims, BALL=ball_size,
        BLOCK=block_size, TILE=MOST, num_warps=8)
    return leaves


def _sorted(columns, points):
    """Points of each sample sorted along each axis, ties by index, (D, P) int32."""
    lists = columns.sort(dim=1, stable=True).indices
    if len(points) > 1:
        counts = torch.tensor(points, device=columns.device)
        sample = torch.arange(len(points), device=columns.device).repeat_interleave(counts, output_size=lists.shape[1])
        lists = lists.gather(1, sample[lists].sort(dim=1, stable=True).indices)
    return lists.int()
