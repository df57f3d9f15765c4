"""Gradient of the keys and values of selected attention, without atomics.

An inverse index lists, for every block, the groups that chose it: a stable sort of the slots by block. A program owns
one block, walks its list in order and sums; the same input therefore always sums in the same order.
"""

import math

import torch
import triton
import triton.language as tl

from .tiles import LOG2E, as_bytes, block_d, load_rows, precision, store_rows

FEW = 8192  # slots of a head up to which counting beats sorting, which takes a dozen launches


@triton.jit
def _invert(Indices, Order, Bounds, slots, M, BLOCKS: tl.constexpr, SLOTS: tl.constexpr):
    """Stable counting sort of one head's slots, for BLOCKS of its blocks: count, then write each slot to its place."""
    head = tl.program_id(1)
    first = tl.program_id(0) * BLOCKS
    blocks = first + tl.arange(0, BLOCKS)
    before = tl.zeros([SLOTS], tl.int32)
    count = tl.zeros([BLOCKS], tl.int32)
    for start in range(0, slots, SLOTS):
        slot = start + tl.arange(0, SLOTS)
        index = tl.load(Indices + head.to(tl.int64) * slots + slot, mask=slot < slots, other=-1).to(tl.int32)
        before += tl.where((index >= 0) & (index < first), 1, 0)
        count += tl.sum(tl.where(index[None, :] == blocks[:, None], 1, 0), 1)
    end = head * slots + tl.sum(before, 0) + tl.cumsum(count, 0)
    here = end - count
    bounds = Bounds + head * (M + 1) + blocks
    tl.store(bounds, here, mask=blocks < M)
    tl.store(bounds + 1, end, mask=blocks == M - 1)
    for start in range(0, slots, SLOTS):
        slot = start + tl.arange(0, SLOTS)
        index = tl.load(Indices + head.to(tl.int64) * slots + slot, mask=slot < slots, other=-1).to(tl.int32)
        match = index[None, :] == blocks[:, None]
        ones = tl.where(match, 1, 0)
        place = here[:, None] + tl.cumsum(ones, 1) - 1
        tl.store(Order + place, (head * slots + slot)[None, :] + tl.zeros_like(ones), mask=match)
        here += tl.sum(ones, 1)


def inverse_index(indices, blocks):
    """order (B*H*G*k,) int32: slots sorted by block; bounds int32: where the slots of each block of each head begin.

    Missing slots (-1) are beyond every block's list. B * H * (G * k + blocks) fits 32 bits.
    """
    B, H, G, k = indices.shape
    slots = G * k
    if slots <= FEW:
        order = torch.empty(B * H * slots, dtype=torch.int32, device=indices.device)
        bounds = torch.empty(B * H * (blocks + 1), dtype=torch.int32, device=indices.device)
        grid = triton.cdiv(blocks, 16), B * H
        _invert[grid](indices, order, bounds, slots, blocks, BLOCKS=16, SLOTS=256, num_warps=4)
        return order, bounds
    flat = indices.view(B * H, slots).to(torch.int32)
    first = torch.arange(0, B * H * (blocks + 1), blocks + 1, device=indices.device, dtype=torch.int32)
    key = torch.where(flat < 0, blocks, flat).add_(first[:, None]).view(-1)
    key, order = torch.sort(key, stable=True)
    order = order.to(torch.int32)
    edges = torch.arange(B * H * (blocks + 1) + 1, device=indices.device, dtype=torch.int32)
    return order, torch.searchsorted(key, edges, out_int32=True)


@triton.jit
def _backward_kv(Q, K, V, DOut, Lse, Delta, Gate, Mask, Order, Bounds, DK, DV, DKCoarse, DVCoarse,
                 N, M, H, slots, scale, out_scale,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                 TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
                 BRANCH: tl.constexpr, ADD: tl.constexpr, POOLED: tl.constexpr, PRECISION: tl.constexpr):
    """ADD: add to DK, DV. POOLED: add the coarse gradients, shared evenly among the real points of the block."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    line = tl.arange(0, ROWS)  # the block's points, padded to what the matrix units take
    points = tl.where(line < BLOCK, block * BLOCK + line, N)
    base = head * N * D
    k = load_rows(K + base, points, N, D, BLOCK_D, True)
    v = load_rows(V + base, points, N, D, BLOCK_D, True)
    begin = tl.load(Bounds + head * (M + 1) + block)
    end = tl.load(Bounds + head * (M + 1) + block + 1)
    dk = tl.zeros([ROWS, BLOCK_D], tl.float32)
    dv = tl.zeros([ROWS, BLOCK_D], tl.float32)
    col = tl.arange(0, ENTRIES * GROUP)
    for entry in range(begin, end, ENTRIES):
        here = entry + col // GROUP
        slot = tl.load(Order + here, mask=here < end, other=-1)
        group = (slot - head.to(tl.int32) * slots) // TOP_K
        rows = tl.where(here < end, group * GROUP + col % GROUP, N).to(tl.int32)
        q = load_rows(Q + base, rows, N, D, BLOCK_D, True)
        do = load_rows(DOut + base, rows, N, D, BLOCK_D, True)
        inside = rows < N
        lse = tl.load(Lse + head * N + rows, mask=inside, other=float("-inf"))
        lse = tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)
        delta = tl.load(Delta + head * N + rows, mask=inside, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        p = tl.exp2(s - lse[None, :])
        if BRANCH >= 0:
            gate = tl.load(Gate + (head * N + rows) * 3 + BRANCH, mask=inside, other=0.0).to(tl.float32)
            p = p * gate[None, :]
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    dk = dk * out_scale
    real = points < N
    if MASKED:
        real = real & (tl.load(Mask + (head // H) * N + points, mask=real, other=0) != 0)
        dk = tl.where(real[:, None], dk, 0.0)
        dv = tl.where(real[:, None], dv, 0.0)
    if ADD:
        dk += load_rows(DK + base, points, N, D, BLOCK_D, True).to(tl.float32)
        dv += load_rows(DV + base, points, N, D, BLOCK_D, True).to(tl.float32)
    if POOLED:
        share = tl.where(real, 1.0, 0.0)
        share = share / tl.maximum(tl.sum(share, 0), 1.0)
        cols = tl.arange(0, BLOCK_D)
        coarse = (head * M + block) * D + cols
        dk += share[:, None] * tl.load(DKCoarse + coarse, mask=cols < D, other=0.0).to(tl.float32)[None, :]
        dv += share[:, None] * tl.load(DVCoarse + coarse, mask=cols < D, other=0.0).to(tl.float32)[None, :]
    store_rows(DK + base, points, dk, N, D, BLOCK_D)
    store_rows(DV + base, points, dv, N, D, BLOCK_D)


def config(d, group, dtype):
    """Slots of a round and warps: 32 queries a round, since most blocks are chosen by few groups."""
    return max(1, 32 // group), 1 if block_d(d) <= 32 and dtype != torch.float32 else 2


def backward_kv(dout, q, k, v, inverse, top_k, point_mask, lse, delta, block_size, group_size, gate=None, branch=-1,
                dk=None, dv=None, dk_coarse=None, dv_coarse=None):
    """dk, dv, with the `inverse_index` of the choice.

    Added in place to those given, together with the gradients of the mean-pooled coarse keys and values.
    """
    B, H, N, d = q.shape
    M = N // block_size
    order, bounds = inverse
    add = dk is not None
    if not add:
        dk, dv = torch.empty_like(k), torch.empty_like(v)
    entries, warps = config(d, group_size, q.dtype)
    scale = 1 / math.sqrt(d)
    _backward_kv[(M, B * H)](
        q, k, v, dout, lse, delta, gate, as_bytes(point_mask), order, bounds, dk, dv, dk_coarse, dv_coarse,
        N, M, H, N // group_size * top_k, scale * LOG2E, scale,
        D=d, BLOCK_D=block_d(d), BLOCK=block_size, GROUP=group_size, TOP_K=top_k, ENTRIES=entries,
        ROWS=max(16, block_size), MASKED=point_mask is not None, BRANCH=branch, ADD=add,
        POOLED=dk_coarse is not None, PRECISION=precision(q.dtype), num_warps=warps)
    return dk, dv
