"""The inverse index of a long selection by counting: how many groups of a chunk chose each block, the running sum of
that, and each slot to its place. No atomics; `inverse` says what it gives, and when.
"""

import torch
import triton
import triton.language as tl

CHUNK = 64  # groups that are counted together
BLOCKS = 64  # blocks of a program


@triton.jit
def _chosen(Indices, rows, inside, blocks, TOP_K: tl.constexpr, CHUNK: tl.constexpr, BLOCKS: tl.constexpr):
    """1 + the slot in which a group (row) chose a block (column), once at most; 0 where it did not."""
    chosen = tl.zeros([CHUNK, BLOCKS], tl.int32)
    for slot in range(TOP_K):
        block = tl.load(Indices + rows * TOP_K + slot, mask=inside, other=-1).to(tl.int32)
        chosen += tl.where(block[:, None] == blocks[None, :], slot + 1, 0)
    return chosen


@triton.jit
def _count(Indices, Counts, G, M, chunks, TOP_K: tl.constexpr, CHUNK: tl.constexpr, BLOCKS: tl.constexpr):
    """Counts (B*H, M, chunks)."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    blocks = tl.program_id(2) * BLOCKS + tl.arange(0, BLOCKS)
    chosen = _chosen(Indices + head * G * TOP_K, rows, rows < G, blocks, TOP_K, CHUNK, BLOCKS)
    tl.store(Counts + (head * M + blocks) * chunks + tl.program_id(0), tl.sum(tl.where(chosen > 0, 1, 0), 0),
             mask=blocks < M)


@triton.jit
def _place(Indices, Ends, Order, Bounds, G, M, chunks, TOP_K: tl.constexpr, CHUNK: tl.constexpr,
           BLOCKS: tl.constexpr):
    """Order and Bounds, from the running sum of Counts."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    blocks = tl.program_id(2) * BLOCKS + tl.arange(0, BLOCKS)
    chosen = _chosen(Indices + head * G * TOP_K, rows, rows < G, blocks, TOP_K, CHUNK, BLOCKS)
    real = blocks < M
    ones = tl.where(chosen > 0, 1, 0)
    end = tl.load(Ends + (head * M + blocks) * chunks + tl.program_id(0), mask=real, other=0)
    start = end - tl.sum(ones, 0)
    slot = ((head * G + rows) * TOP_K).to(tl.int32)[:, None] + chosen - 1
    tl.store(Order + start[None, :] + tl.cumsum(ones, 0) - 1, slot, mask=(chosen > 0) & real[None, :])
    bounds = Bounds + head * (M + 1) + blocks
    tl.store(bounds, start, mask=real & (tl.program_id(0) == 0))
    tl.store(bounds + 1, end, mask=(blocks == M - 1) & (tl.program_id(0) == chunks - 1))


def pays(top_k, blocks):
    """Whether there are fewer counts than slots."""
    return blocks <= CHUNK * top_k


def by_counting(indices, blocks):
    """As `inverse.inverse_index`."""
    B, H, G, top_k = indices.shape
    chunks = triton.cdiv(G, CHUNK)
    grid = chunks, B * H, triton.cdiv(blocks, BLOCKS)
    how = dict(TOP_K=top_k, CHUNK=CHUNK, BLOCKS=BLOCKS, num_warps=4)
    counts = torch.empty(B * H * blocks * chunks, dtype=torch.int32, device=indices.device)
    _count[grid](indices, counts, G, blocks, chunks, **how)
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    order = torch.empty(B * H * G * top_k, dtype=torch.int32, device=indices.device)
    bounds = torch.empty(B * H * (blocks + 1), dtype=torch.int32, device=indices.device)
    _place[grid](indices, ends, order, bounds, G, blocks, chunks, **how)
    return order, bounds
