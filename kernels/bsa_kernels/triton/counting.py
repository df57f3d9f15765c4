"""The inverse index of a long selection by counting: how many groups of a chunk chose each block, the running sum of
that, and each group to its place. No atomics; `inverse` says what it gives, and when.
"""

import torch
import triton
import triton.language as tl

CHUNK = 128  # groups that are counted together


@triton.jit
def _chosen(Indices, rows, inside, first, TOP_K: tl.constexpr, CHUNK: tl.constexpr):
    """1 where a group (row) chose one of the 32 blocks from `first` on (column), else 0. It does so once at most."""
    bits = tl.zeros([CHUNK], tl.int32)
    for slot in range(TOP_K):
        bit = tl.load(Indices + rows * TOP_K + slot, mask=inside, other=-1).to(tl.int32) - first
        bits |= tl.where((bit >= 0) & (bit < 32), 1 << (bit & 31), 0)
    return (bits[:, None] >> tl.arange(0, 32)[None, :]) & 1


@triton.jit
def _count(Indices, Counts, G, M, chunks, TOP_K: tl.constexpr, CHUNK: tl.constexpr):
    """Counts (B*H, M, chunks)."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    blocks = tl.program_id(2) * 32 + tl.arange(0, 32)
    chosen = _chosen(Indices + head * G * TOP_K, rows, rows < G, tl.program_id(2) * 32, TOP_K, CHUNK)
    tl.store(Counts + (head * M + blocks) * chunks + tl.program_id(0), tl.sum(chosen, 0), mask=blocks < M)


@triton.jit
def _place(Indices, Ends, Order, Bounds, G, M, chunks, TOP_K: tl.constexpr, CHUNK: tl.constexpr):
    """Order and Bounds, from the running sum of Counts."""
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    blocks = tl.program_id(2) * 32 + tl.arange(0, 32)
    chosen = _chosen(Indices + head * G * TOP_K, rows, rows < G, tl.program_id(2) * 32, TOP_K, CHUNK)
    real = blocks < M
    end = tl.load(Ends + (head * M + blocks) * chunks + tl.program_id(0), mask=real, other=0)
    start = end - tl.sum(chosen, 0)
    slot = ((head * G + rows) * TOP_K).to(tl.int32)[:, None] + tl.zeros_like(chosen)
    tl.store(Order + start[None, :] + tl.cumsum(chosen, 0) - 1, slot, mask=(chosen > 0) & real[None, :])
    bounds = Bounds + head * (M + 1) + blocks
    tl.store(bounds, start, mask=real & (tl.program_id(0) == 0))
    tl.store(bounds + 1, end, mask=(blocks == M - 1) & (tl.program_id(0) == chunks - 1))


def pays(top_k, blocks):
    """Whether there are fewer counts than slots."""
    return blocks <= CHUNK * top_k


def by_counting(indices, blocks):
    """As `inverse.inverse_index`; a slot of the order names its group, and not which of the group's slots it was."""
    B, H, G, top_k = indices.shape
    chunks = triton.cdiv(G, CHUNK)
    grid = chunks, B * H, triton.cdiv(blocks, 32)
    how = dict(TOP_K=top_k, CHUNK=CHUNK, num_warps=4)
    counts = torch.empty(B * H * blocks * chunks, dtype=torch.int32, device=indices.device)
    _count[grid](indices, counts, G, blocks, chunks, **how)
    ends = torch.cumsum(counts, 0, dtype=torch.int32)
    order = torch.empty(B * H * G * top_k, dtype=torch.int32, device=indices.device)
    bounds = torch.empty(B * H * (blocks + 1), dtype=torch.int32, device=indices.device)
    _place[grid](indices, ends, order, bounds, G, blocks, chunks, **how)
    return order, bounds
