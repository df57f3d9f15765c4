"""Which groups chose each block: the inverse index of a selection, that is its slots sorted stably by block.

A counting sort without atomics. A program owns a bucket of blocks: it collects the slots that chose one of them, in
order, and then sorts those few by block.
"""

import torch
import triton
import triton.language as tl

BUCKET = 64  # blocks of a program
RUNS = 32  # runs of slots that it reads side by side
FEW = 32  # slots that it sorts at a time
MANY = 16384  # slots of a head from which on torch's sort beats one look at every slot for each bucket


@triton.jit
def invert_bucket(bucket, head, Indices, Rough, Order, Bounds, slots, M, BUCKET: tl.constexpr, RUNS: tl.constexpr,
                  FEW: tl.constexpr):
    """Order and Bounds, as `inverse_index` gives them, of BUCKET blocks of one head; Rough is room like Order's.

    The slots are cut into RUNS runs, of which the program reads 32 slots each at a time: a warp then counts its own
    runs, and no step waits for another warp.
    """
    first = bucket * BUCKET
    Indices += head.to(tl.int64) * slots
    length = (slots + RUNS * 32 - 1) // (RUNS * 32) * 32
    slot = (tl.arange(0, RUNS) * length)[:, None] + tl.arange(0, 32)[None, :]
    before = tl.zeros([RUNS, 32], tl.int32)
    inside = tl.zeros([RUNS, 32], tl.int32)
    for start in range(0, length, 32):
        here = slot + start
        block = tl.load(Indices + here, mask=here < slots, other=-1).to(tl.int32)
        before += tl.where((block >= 0) & (block < first), 1, 0)
        inside += tl.where((block >= first) & (block < first + BUCKET), 1, 0)
    origin = head.to(tl.int32) * slots
    begin = origin + tl.sum(tl.sum(before, 1), 0)
    found = tl.sum(inside, 1)
    total = tl.sum(found, 0)
    place = begin + tl.cumsum(found, 0) - found
    for start in range(0, length, 32):
        here = slot + start
        block = tl.load(Indices + here, mask=here < slots, other=-1).to(tl.int32)
        match = (block >= first) & (block < first + BUCKET)
        ones = tl.where(match, 1, 0)
        tl.store(Rough + place[:, None] + tl.cumsum(ones, 1) - 1, here, mask=match)
        place += tl.sum(ones, 1)
    tl.debug_barrier()  # what one thread collected, another reads
    blocks = first + tl.arange(0, BUCKET)
    count = tl.zeros([BUCKET], tl.int32)
    for start in range(0, total, FEW):
        here = start + tl.arange(0, FEW)
        chosen = tl.load(Rough + begin + here, mask=here < total, other=0)
        block = tl.load(Indices + chosen, mask=here < total, other=-1).to(tl.int32)
        count += tl.sum(tl.where(block[None, :] == blocks[:, None], 1, 0), 1)
    end = begin + tl.cumsum(count, 0)
    next_place = end - count
    bounds = Bounds + head * (M + 1) + blocks
    tl.store(bounds, next_place, mask=blocks < M)
    tl.store(bounds + 1, end, mask=blocks == M - 1)
    for start in range(0, total, FEW):
        here = start + tl.arange(0, FEW)
        chosen = tl.load(Rough + begin + here, mask=here < total, other=0)
        block = tl.load(Indices + chosen, mask=here < total, other=-1).to(tl.int32)
        match = block[None, :] == blocks[:, None]
        ones = tl.where(match, 1, 0)
        where = next_place[:, None] + tl.cumsum(ones, 1) - 1
        tl.store(Order + where, (origin + chosen)[None, :] + tl.zeros_like(ones), mask=match)
        next_place += tl.sum(ones, 1)


@triton.jit
def _invert(Indices, Rough, Order, Bounds, slots, M, BUCKET: tl.constexpr, RUNS: tl.constexpr, FEW: tl.constexpr):
    invert_bucket(tl.program_id(0), tl.program_id(1), Indices, Rough, Order, Bounds, slots, M, BUCKET, RUNS, FEW)


def inverse_index(indices, blocks):
    """order (B*H*G*k,) int32: slots sorted by block; bounds int32: where the slots of each block of each head begin.

    Missing slots (-1) are in no block's list. B * H * (G * k + blocks) fits 32 bits.
    """
    B, H, G, k = indices.shape
    slots = G * k
    if slots <= MANY:
        rough, order = (torch.empty(B * H * slots, dtype=torch.int32, device=indices.device) for _ in range(2))
        bounds = torch.empty(B * H * (blocks + 1), dtype=torch.int32, device=indices.device)
        _invert[(triton.cdiv(blocks, BUCKET), B * H)](indices, rough, order, bounds, slots, blocks, BUCKET=BUCKET,
                                                      RUNS=RUNS, FEW=FEW, num_warps=4)
        return order, bounds
    flat = indices.view(B * H, slots).to(torch.int32)
    first = torch.arange(0, B * H * (blocks + 1), blocks + 1, device=indices.device, dtype=torch.int32)
    key = torch.where(flat < 0, blocks, flat).add_(first[:, None]).view(-1)
    key, order = torch.sort(key, stable=True)
    order = order.to(torch.int32)
    edges = torch.arange(B * H * (blocks + 1) + 1, device=indices.device, dtype=torch.int32)
    return order, torch.searchsorted(key, edges, out_int32=True)
