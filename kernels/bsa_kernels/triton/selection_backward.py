"""Gradients of selected attention, without atomics.

For the queries a program owns a few groups, as in the forward. For the keys it owns one block and walks the list of
those that chose it (see `inverse`) in order, so that the same input always sums in the same order.
"""

import math

import torch
import triton
import triton.language as tl

from .selection import constants
from .tiles import LOG2E, as_bytes, block_d, load_rows, precision, store_rows


@triton.jit
def _load(base, rows, limit, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of a (limit, D) matrix, for rows of any shape [A, B]: a tile [A, B, BLOCK_D], zeros outside."""
    col = tl.arange(0, BLOCK_D)[None, None, :]
    return tl.load(base + rows[:, :, None] * D + col, mask=(rows < limit)[:, :, None] & (col < D), other=0.0)


@triton.jit
def chosen_queries(tile, head, Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, DGate, DQCoarse, N, G, H, scale,
                   out_scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                   TOP_K: tl.constexpr, GROUPS: tl.constexpr, SLOTS: tl.constexpr, WAYS: tl.constexpr,
                   MASKED: tl.constexpr, BRANCH: tl.constexpr, ADD: tl.constexpr, POOLED: tl.constexpr,
                   PRECISION: tl.constexpr):
    """dQ, and each query's delta = sum(p * dp), which `chosen_keys` needs; no saved output is read.

    WAYS tiles of GROUPS groups, side by side: one for each warp. With several rounds of slots delta is not known in
    the first, so dQ is kept in two sums: sum(p dp k) - delta sum(p k). ADD: add to DQ. POOLED > 0: add the gradient of
    the mean-pooled coarse queries of blocks of that size.
    """
    EXACT: tl.constexpr = Q.dtype.element_ty == tl.float32
    ROWS: tl.constexpr = GROUPS * GROUP
    KEYS: tl.constexpr = GROUPS * SLOTS * BLOCK
    first_group = (tile * WAYS + tl.arange(0, WAYS)[:, None]) * GROUPS
    line = tl.arange(0, ROWS)[None, :]
    col = tl.arange(0, KEYS)[None, :]
    rows = first_group * GROUP + line
    inside = rows < N
    Q += head * N * D
    K += head * N * D
    V += head * N * D
    DQ += head * N * D
    if MASKED:
        Mask += (head // H) * N
        real = tl.load(Mask + rows, mask=inside, other=0) != 0
    q = _load(Q, rows, N, D, BLOCK_D)
    do = _load(DOut + head * N * D, rows, N, D, BLOCK_D)
    lse = tl.load(Lse + head * N + rows, mask=inside, other=float("-inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)
    dq = tl.zeros([WAYS, ROWS, BLOCK_D], tl.float32)
    pull = tl.zeros([WAYS, ROWS, BLOCK_D], tl.float32)
    delta = tl.zeros([WAYS, ROWS], tl.float32)
    mass = tl.zeros([WAYS, ROWS], tl.float32)
    group = first_group + col // (SLOTS * BLOCK)
    for slot in range(0, TOP_K, SLOTS):
        here = slot + col // BLOCK % SLOTS
        block = tl.load(Indices + (head * G + group) * TOP_K + here, mask=(here < TOP_K) & (group < G),
                        other=-1).to(tl.int32)
        points = block * BLOCK + col % BLOCK
        keep = block >= 0
        if MASKED:
            keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
        points = tl.where(keep, points, N)
        k = _load(K, points, N, D, BLOCK_D)
        v = _load(V, points, N, D, BLOCK_D)
        s = tl.dot(q, tl.trans(k, (0, 2, 1)), input_precision=PRECISION) * scale
        own = (line // GROUP)[:, :, None] == tl.where(keep, col // (SLOTS * BLOCK), -1)[:, None, :]
        p = tl.where(own, tl.exp2(s - lse[:, :, None]), 0.0)
        dp = tl.dot(do, tl.trans(v, (0, 2, 1)), input_precision=PRECISION)
        delta += tl.sum(p * dp, 2)
        if EXACT:
            mass += tl.sum(p, 2)
        if SLOTS >= TOP_K:
            if EXACT:  # rounding leaves a large log-sum-exp off by more than the rest of the arithmetic is
                delta = delta / tl.where(mass > 0, mass, 1.0)
            dq = tl.dot((p * (dp - delta[:, :, None])).to(k.dtype), k, dq, input_precision=PRECISION)
        else:
            dq = tl.dot((p * dp).to(k.dtype), k, dq, input_precision=PRECISION)
            pull = tl.dot(p.to(k.dtype), k, pull, input_precision=PRECISION)
    if SLOTS < TOP_K:
        if EXACT:
            delta = delta / tl.where(mass > 0, mass, 1.0)
        dq -= delta[:, :, None] * pull
    if BRANCH >= 0:  # delta, before the gate, is the gate's own gradient
        where = (head * N + rows) * 3 + BRANCH
        gate = tl.load(Gate + where, mask=inside, other=0.0).to(tl.float32)
        tl.store(DGate + where, delta.to(DGate.dtype.element_ty), mask=inside)
        dq = dq * gate[:, :, None]
    tl.store(Delta + head * N + rows, delta, mask=inside)
    dq = dq * out_scale
    if ADD:
        dq += _load(DQ, rows, N, D, BLOCK_D).to(tl.float32)
    if POOLED > 0:
        share = tl.full([WAYS, ROWS], 1.0 / POOLED, tl.float32)
        if MASKED:  # the mean was over the real points of the block
            start = rows // POOLED * POOLED
            count = tl.zeros([WAYS, ROWS], tl.float32)
            for point in range(POOLED):
                count += tl.where(tl.load(Mask + start + point, mask=inside, other=0) != 0, 1.0, 0.0)
            share = tl.where(real, 1.0 / tl.maximum(count, 1.0), 0.0)
        coarse = DQCoarse + head * (N // POOLED) * D
        dq += share[:, :, None] * _load(coarse, rows // POOLED, N // POOLED, D, BLOCK_D).to(tl.float32)
    column = tl.arange(0, BLOCK_D)[None, None, :]
    tl.store(DQ + rows[:, :, None] * D + column, dq.to(DQ.dtype.element_ty), mask=inside[:, :, None] & (column < D))


@triton.jit
def _chosen_queries(Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, DGate, DQCoarse, N, G, H, scale, out_scale,
                    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                    TOP_K: tl.constexpr, GROUPS: tl.constexpr, SLOTS: tl.constexpr, MASKED: tl.constexpr,
                    BRANCH: tl.constexpr, ADD: tl.constexpr, POOLED: tl.constexpr, PRECISION: tl.constexpr):
    chosen_queries(tl.program_id(0), tl.program_id(1).to(tl.int64), Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta,
                   DGate, DQCoarse, N, G, H, scale, out_scale, D, BLOCK_D, BLOCK, GROUP, TOP_K, GROUPS, SLOTS, 1,
                   MASKED, BRANCH, ADD, POOLED, PRECISION)


@triton.jit
def _sum_slopes(head, DSlopes, DSlope, BH, H, tiles):
    """The slope's gradient of one head, which the balls' queries left in parts."""
    part = tl.arange(0, 256)
    total = tl.zeros([256], tl.float32)
    for of_head in range(head.to(tl.int32), BH, H):
        for start in range(0, tiles, 256):
            here = start + part
            total += tl.load(DSlopes + of_head * tiles + here, mask=here < tiles, other=0.0)
    tl.store(DSlope + head, tl.sum(total, 0).to(DSlope.dtype.element_ty))


@triton.jit
def _keys_of_block(block, head, Q, K, V, DOut, Lse, Delta, Gate, Mask, Order, Bounds, DK, DV, DKCoarse, DVCoarse,
                   N, M, BH, H, slots, scale, out_scale,
                   D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                   TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
                   BRANCH: tl.constexpr, ADD: tl.constexpr, PIECES: tl.constexpr, PRECISION: tl.constexpr):
    """ADD: add to DK, DV. PIECES: add the sum of so many coarse gradients, shared among the real points of the block."""
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
    if PIECES > 0:
        share = tl.where(real, 1.0, 0.0)
        share = share / tl.maximum(tl.sum(share, 0), 1.0)
        cols = tl.arange(0, BLOCK_D)
        for piece in tl.static_range(PIECES):
            coarse = ((piece * BH + head) * M + block) * D + cols
            if DKCoarse is not None:
                dk += share[:, None] * tl.load(DKCoarse + coarse, mask=cols < D, other=0.0).to(tl.float32)[None, :]
            if DVCoarse is not None:
                dv += share[:, None] * tl.load(DVCoarse + coarse, mask=cols < D, other=0.0).to(tl.float32)[None, :]
    store_rows(DK + base, points, dk, N, D, BLOCK_D)
    store_rows(DV + base, points, dv, N, D, BLOCK_D)


@triton.jit
def _chosen_keys(Q, K, V, DOut, Lse, Delta, Gate, Mask, Order, Bounds, DK, DV, DKCoarse, DVCoarse, DSlopes, DSlope,
                 N, M, BH, H, slots, slope_tiles, scale, out_scale,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                 TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
                 BRANCH: tl.constexpr, ADD: tl.constexpr, PIECES: tl.constexpr, PRECISION: tl.constexpr):
    """A program for each block; with a slope, one more a head, which sums its gradient."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    if block < M:
        _keys_of_block(block, head, Q, K, V, DOut, Lse, Delta, Gate, Mask, Order, Bounds, DK, DV, DKCoarse, DVCoarse,
                       N, M, BH, H, slots, scale, out_scale, D, BLOCK_D, BLOCK, GROUP, TOP_K, ENTRIES, ROWS, MASKED,
                       BRANCH, ADD, PIECES, PRECISION)
    elif DSlope is not None:
        if head < H:
            _sum_slopes(head, DSlopes, DSlope, BH, H, slope_tiles)


def key_constants(d, block, group, top_k, dtype, masked):
    """32 queries a round, since most blocks are chosen by few groups."""
    return dict(D=d, BLOCK_D=block_d(d), BLOCK=block, GROUP=group, TOP_K=top_k, ENTRIES=max(1, 32 // group),
                ROWS=max(16, block), MASKED=masked, PRECISION=precision(dtype),
                num_warps=4 if dtype == torch.float32 else 1 if block_d(d) <= 32 else 2)


def backward_q(dout, q, k, v, indices, point_mask, lse, block_size, group_size):
    """dq and delta."""
    B, H, N, d = q.shape
    dq = torch.empty_like(q)
    delta = torch.empty(B, H, N, dtype=torch.float32, device=q.device)
    common = constants(d, block_size, group_size, indices.shape[3], q.dtype, point_mask is not None)
    G = indices.shape[2]
    scale = 1 / math.sqrt(d)
    _chosen_queries[(triton.cdiv(G, common["GROUPS"]), B * H)](
        q, k, v, indices, as_bytes(point_mask), dout, lse, None, dq, delta, None, None, N, G, H, scale * LOG2E, scale,
        BRANCH=-1, ADD=False, POOLED=0, **common)
    return dq, delta


def backward_kv(dout, q, k, v, inverse, top_k, point_mask, lse, delta, block_size, group_size):
    """dk, dv, with the `inverse_index` of the choice."""
    B, H, N, d = q.shape
    M = N // block_size
    order, bounds = inverse
    dk, dv = torch.empty_like(k), torch.empty_like(v)
    scale = 1 / math.sqrt(d)
    _chosen_keys[(M, B * H)](
        q, k, v, dout, lse, delta, None, as_bytes(point_mask), order, bounds, dk, dv, None, None, None, None,
        N, M, B * H, H, N // group_size * top_k, 0, scale * LOG2E, scale, BRANCH=-1, ADD=False, PIECES=0,
        **key_constants(d, block_size, group_size, top_k, q.dtype, point_mask is not None))
    return dk, dv
