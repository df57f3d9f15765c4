"""Which groups chose each block: the inverse index of a selection, that is its slots sorted stably by block.

A counting sort without atomics. A program owns a bucket of blocks: it collects the slots that chose one of them, in
order, and then sorts those few by block.
"""

import torch
import triton
import triton.language as tl

from .counting import by_counting, pays

MANY = 16384  # slots of a head from which on another sort beats one look at every slot for each bucket
MANY_OF_FEW = 2048  # the same where the blocks are few, and each has a long list


@triton.jit
def _collect(first, Indices, Rough, origin, slots, BUCKET: tl.constexpr, RUNS: tl.constexpr):
    """Writes the slots that chose the blocks first .. first + BUCKET to Rough, in order: where, and how many.

    The slots are cut into RUNS runs, of which the program reads 32 slots each at a time: a warp then counts its own
    runs, and no step waits for another warp.
    """
    length = (slots + RUNS * 32 - 1) // (RUNS * 32) * 32
    slot = (tl.arange(0, RUNS) * length)[:, None] + tl.arange(0, 32)[None, :]
    before = tl.zeros([RUNS, 32], tl.int32)
    inside = tl.zeros([RUNS, 32], tl.int32)
    for start in range(0, length, 32):
        here = slot + start
        block = tl.load(Indices + here, mask=here < slots, other=-1).to(tl.int32)
        before += tl.where((block >= 0) & (block < first), 1, 0)
        inside += tl.where((block >= first) & (block < first + BUCKET), 1, 0)
    begin = origin + tl.sum(tl.sum(before, 1), 0)
    found = tl.sum(inside, 1)
    place = begin + tl.cumsum(found, 0) - found
    for start in range(0, length, 32):
        here = slot + start
        block = tl.load(Indices + here, mask=here < slots, other=-1).to(tl.int32)
        match = (block >= first) & (block < first + BUCKET)
        ones = tl.where(match, 1, 0)
        tl.store(Rough + place[:, None] + tl.cumsum(ones, 1) - 1, here, mask=match)
        place += tl.sum(ones, 1)
    return begin, tl.sum(found, 0)


@triton.jit
def invert_bucket(bucket, head, Indices, Rough, Order, Bounds, slots, M, BUCKET: tl.constexpr, RUNS: tl.constexpr,
                  FEW: tl.constexpr):
    """Order and Bounds, as `inverse_index` gives them, of BUCKET blocks of one head.

    Rough is room like Order's for the slots collected first; without it all slots are sorted through.
    """
    first = bucket * BUCKET
    Indices += head.to(tl.int64) * slots
    origin = head.to(tl.int32) * slots
    begin = origin
    total = slots
    if Rough is not None:
        begin, total = _collect(first, Indices, Rough, origin, slots, BUCKET, RUNS)
        tl.debug_barrier()  # what one thread collected, another reads
    blocks = first + tl.arange(0, BUCKET)
    before = tl.zeros([FEW], tl.int32)
    count = tl.zeros([BUCKET], tl.int32)
    for start in range(0, total, FEW):
        slot = start + tl.arange(0, FEW)
        inside = slot < total
        if Rough is not None:
            slot = tl.load(Rough + begin + slot, mask=inside, other=0)
        block = tl.load(Indices + slot, mask=inside, other=-1).to(tl.int32)
        before += tl.where((block >= 0) & (block < first), 1, 0)
        count += tl.sum(tl.where(block[None, :] == blocks[:, None], 1, 0), 1)
    end = begin + tl.sum(before, 0) + tl.cumsum(count, 0)
    place = end - count
    bounds = Bounds + head * (M + 1) + blocks
    tl.store(bounds, place, mask=blocks < M)
    tl.store(bounds + 1, end, mask=blocks == M - 1)
    for start in range(0, total, FEW):
        slot = start + tl.arange(0, FEW)
        inside = slot < total
        if Rough is not None:
            slot = tl.load(Rough + begin + slot, mask=inside, other=0)
        block = tl.load(Indices + slot, mask=inside, other=-1).to(tl.int32)
        match = block[None, :] == blocks[:, None]
        ones = tl.where(match, 1, 0)
        where = place[:, None] + tl.cumsum(ones, 1) - 1
        tl.store(Order + where, (origin + slot)[None, :] + tl.zeros_like(ones), mask=match)
        place += tl.sum(ones, 1)


@triton.jit
def _invert(Indices, Rough, Order, Bounds, slots, M, BUCKET: tl.constexpr, RUNS: tl.constexpr, FEW: tl.constexpr):
    invert_bucket(tl.program_id(0), tl.program_id(1), Indices, Rough, Order, Bounds, slots, M, BUCKET, RUNS, FEW)


def sizes(slots):
    """Blocks of a program, runs that it reads side by side, slots that it sorts at a time; and whether it collects."""
    collect = slots > 1024
    return dict(BUCKET=64, RUNS=32, FEW=32) if collect else dict(BUCKET=16, RUNS=32, FEW=128), collect


def waits(groups, top_k, blocks):
    """Whether the index is made by launches of its own, before those of a plan."""
    return groups * top_k > (MANY_OF_FEW if pays(top_k, blocks) else MANY)


def inverse_index(indices, blocks):
    """order (B*H*G*k,) int32: slots sorted by block; bounds int32: where the slots of each block of each head begin.

    Missing slots (-1) are in no block's list. B * H * (G * k + blocks) fits 32 bits.
    """
    B, H, G, k = indices.shape
    slots = G * k
    if slots > MANY_OF_FEW and pays(k, blocks):
        return by_counting(indices, blocks)
    if slots <= MANY:
        rough, order = (torch.empty(B * H * slots, dtype=torch.int32, device=indices.device) for _ in range(2))
        bounds = torch.empty(B * H * (blocks + 1), dtype=torch.int32, device=indices.device)
        how, collect = sizes(slots)
        _invert[(triton.cdiv(blocks, how["BUCKET"]), B * H)](
            indices, rough if collect else None, order, bounds, slots, blocks, num_warps=4, **how)
        return order, bounds
    flat = indices.view(B * H, slots).to(torch.int32)
    first = torch.arange(0, B * H * (blocks + 1), blocks + 1, device=indices.device, dtype=torch.int32)
    key = torch.where(flat < 0, blocks, flat).add_(first[:, None]).view(-1)
    key, order = torch.sort(key, stable=True)
    order = order.to(torch.int32)
    edges = torch.arange(B * H * (blocks + 1) + 1, device=indices.device, dtype=torch.int32)
    return order, torch.searchsorted(key, edges, out_int32=True)
