"""Gradients of selected attention, without atomics.

For the queries a program owns a few groups, as in the forward. For the keys it owns one block and walks the list of
those that chose it (see `inverse`) in order, so that the same input always sums in the same order.
"""

import math

import torch
import triton
import triton.language as tl

from .popular import read_by_groups, read_chunks
from .selection import constants
from .tiles import LOG2E, as_bytes, block_d, load_rows, precision, store_rows


@triton.jit
def _load(base, rows, limit, D: tl.constexpr, BLOCK_D: tl.constexpr, CHECK: tl.constexpr):
    """Rows of a (limit, D) matrix, for rows of any shape [..]: a tile [.., BLOCK_D], zeros outside."""
    row, col = tl.expand_dims(rows, -1), tl.arange(0, BLOCK_D)
    if CHECK:
        return tl.load(base + row * D + col, mask=(row < limit) & (col < D), other=0.0)
    elif D == BLOCK_D:
        return tl.load(base + row * D + col)
    else:
        return tl.load(base + row * D + col, mask=tl.zeros_like(row) + col < D, other=0.0)


@triton.jit
def _transposed(x, WAYS: tl.constexpr):
    if WAYS == 1:
        return tl.trans(x)
    else:
        return tl.trans(x, (0, 2, 1))


@triton.jit
def chosen_queries(tile, head, Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, Factor, DGate, DQCoarse, N, G, H,
                   scale, out_scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                   TOP_K: tl.constexpr, GROUPS: tl.constexpr, SLOTS: tl.constexpr, WAYS: tl.constexpr,
                   MASKED: tl.constexpr, BRANCH: tl.constexpr, ADD: tl.constexpr, POOLED: tl.constexpr,
                   PRECISION: tl.constexpr):
    """dQ, and each query's delta = sum(p * dp), which `chosen_keys` needs; no saved output is read.

    WAYS > 1: so many tiles of GROUPS groups side by side, one for each warp, in one more dimension. With several rounds
    of slots delta is not known in the first, so dQ is kept in two sums: sum(p dp k) - delta sum(p k). ADD: add to DQ.
    POOLED > 0: add the gradient of the mean-pooled coarse queries of blocks of that size. Factor: see `read_back`.
    """
    EXACT: tl.constexpr = Q.dtype.element_ty == tl.float32
    ROWS: tl.constexpr = GROUPS * GROUP
    KEYS: tl.constexpr = GROUPS * SLOTS * BLOCK
    if WAYS == 1:
        first_group = tile * GROUPS
        line = tl.arange(0, ROWS)
        col = tl.arange(0, KEYS)
        delta = tl.zeros([ROWS], tl.float32)
        dq = tl.zeros([ROWS, BLOCK_D], tl.float32)
    else:
        first_group = (tile * WAYS + tl.arange(0, WAYS)[:, None]) * GROUPS
        line = tl.arange(0, ROWS)[None, :]
        col = tl.arange(0, KEYS)[None, :]
        delta = tl.zeros([WAYS, ROWS], tl.float32)
        dq = tl.zeros([WAYS, ROWS, BLOCK_D], tl.float32)
    mass = delta
    pull = dq
    rows = first_group * GROUP + line
    inside = rows < N
    Q += head * N * D
    K += head * N * D
    V += head * N * D
    DQ += head * N * D
    if MASKED:
        Mask += (head // H) * N
        real = tl.load(Mask + rows, mask=inside, other=0) != 0
    q = _load(Q, rows, N, D, BLOCK_D, True)
    do = _load(DOut + head * N * D, rows, N, D, BLOCK_D, True)
    lse = tl.load(Lse + head * N + rows, mask=inside, other=float("-inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)
    group = first_group + col // (SLOTS * BLOCK)
    for slot in range(0, TOP_K, SLOTS):
        here = slot + col // BLOCK % SLOTS
        block = tl.load(Indices + (head * G + group) * TOP_K + here, mask=(here < TOP_K) & (group < G),
                        other=-1).to(tl.int32)
        points = block * BLOCK + col % BLOCK
        keep = block >= 0
        if MASKED:
            keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
        points = tl.where(keep, points, N if MASKED else 0)  # see `selection._forward`
        k = _load(K, points, N, D, BLOCK_D, MASKED)
        v = _load(V, points, N, D, BLOCK_D, MASKED)
        s = tl.dot(q, _transposed(k, WAYS), input_precision=PRECISION) * scale
        own = tl.expand_dims(line // GROUP, -1) == tl.expand_dims(tl.where(keep, col // (SLOTS * BLOCK), -1), -2)
        p = tl.where(own, tl.exp2(s - tl.expand_dims(lse, -1)), 0.0)
        dp = tl.dot(do, _transposed(v, WAYS), input_precision=PRECISION)
        delta += tl.sum(p * dp, -1)
        if EXACT:
            mass += tl.sum(p, -1)
        if SLOTS >= TOP_K:
            if EXACT:  # rounding leaves a large log-sum-exp off by more than the rest of the arithmetic is
                delta = delta / tl.where(mass > 0, mass, 1.0)
            dq = tl.dot((p * (dp - tl.expand_dims(delta, -1))).to(k.dtype), k, dq, input_precision=PRECISION)
        else:
            dq = tl.dot((p * dp).to(k.dtype), k, dq, input_precision=PRECISION)
            pull = tl.dot(p.to(k.dtype), k, pull, input_precision=PRECISION)
    if SLOTS < TOP_K:
        if EXACT:
            delta = delta / tl.where(mass > 0, mass, 1.0)
        dq -= tl.expand_dims(delta, -1) * pull
    if EXACT:
        share = 1.0 / tl.where(mass > 0, mass, 1.0)
        dq = dq * tl.expand_dims(share, -1)
    if BRANCH >= 0:  # delta, before the gate, is the gate's own gradient
        where = (head * N + rows) * 3 + BRANCH
        gate = tl.load(Gate + where, mask=inside, other=0.0).to(tl.float32)
        tl.store(DGate + where, delta.to(DGate.dtype.element_ty), mask=inside)
        dq = dq * tl.expand_dims(gate, -1)
        if EXACT:
            share = share * gate
    if EXACT:
        tl.store(Factor + head * N + rows, share, mask=inside)
    tl.store(Delta + head * N + rows, delta, mask=inside)
    dq = dq * out_scale
    if ADD:
        dq += _load(DQ, rows, N, D, BLOCK_D, True).to(tl.float32)
    if POOLED > 0:
        share = tl.zeros_like(delta) + 1.0 / POOLED
        if MASKED:  # the mean was over the real points of the block
            start = rows // POOLED * POOLED
            count = tl.zeros_like(delta)
            for point in range(POOLED):
                count += tl.where(tl.load(Mask + start + point, mask=inside, other=0) != 0, 1.0, 0.0)
            share = tl.where(real, 1.0 / tl.maximum(count, 1.0), 0.0)
        pooled = _load(DQCoarse + head * (N // POOLED) * D, rows // POOLED, N // POOLED, D, BLOCK_D, True)
        dq += tl.expand_dims(share, -1) * pooled.to(tl.float32)
    row, depth = tl.expand_dims(rows, -1), tl.arange(0, BLOCK_D)
    tl.store(DQ + row * D + depth, dq.to(DQ.dtype.element_ty), mask=(row < N) & (depth < D))


@triton.jit
def _chosen_queries(Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, Factor, DGate, DQCoarse, N, G, H, scale,
                    out_scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                    TOP_K: tl.constexpr, GROUPS: tl.constexpr, SLOTS: tl.constexpr, MASKED: tl.constexpr,
                    BRANCH: tl.constexpr, ADD: tl.constexpr, POOLED: tl.constexpr, PRECISION: tl.constexpr):
    chosen_queries(tl.program_id(0), tl.program_id(1).to(tl.int64), Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta,
                   Factor, DGate, DQCoarse, N, G, H, scale, out_scale, D, BLOCK_D, BLOCK, GROUP, TOP_K, GROUPS, SLOTS,
                   1, MASKED, BRANCH, ADD, POOLED, PRECISION)


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
def _keys_of_block(block, head, Q, K, V, DOut, Lse, Delta, Factor, Gate, Mask, Order, Bounds, Partial, DK, DV,
                   DKCoarse, DVCoarse, N, M, BH, H, slots, scale, out_scale,
                   D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                   TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
                   BRANCH: tl.constexpr, ADD: tl.constexpr, PIECES: tl.constexpr, PRECISION: tl.constexpr,
                   CHUNK: tl.constexpr):
    """ADD: add to DK, DV. PIECES: add the sum of so many coarse gradients, shared among the block's real points.

    CHUNK > 0: pieces of the list of so many slots are read already, see `popular`.
    """
    line = tl.arange(0, ROWS)  # the block's points, padded to what the matrix units take
    points = tl.where(line < BLOCK, block * BLOCK + line, N)
    base = head * N * D
    k = load_rows(K + base, points, N, D, BLOCK_D, True)
    v = load_rows(V + base, points, N, D, BLOCK_D, True)
    begin = tl.load(Bounds + head * (M + 1) + block)
    end = tl.load(Bounds + head * (M + 1) + block + 1)
    dk = tl.zeros([ROWS, BLOCK_D], tl.float32)
    dv = tl.zeros([ROWS, BLOCK_D], tl.float32)
    if CHUNK > 0:  # whole chunks of the list are done; what is left lies at its two ends
        origin = tl.load(Bounds + head * (M + 1))
        first = (begin - origin + CHUNK - 1) // CHUNK
        last = (end - origin) // CHUNK
        whole = last > first
        dk, dv = read_by_groups(k, v, dk, dv, begin, tl.where(whole, origin + first * CHUNK, end), head, Q, DOut, Lse,
                                Delta, Factor, Gate, Order, N, slots, scale, D, BLOCK_D, GROUP, TOP_K, ENTRIES, BRANCH,
                                PRECISION)
        if whole:
            dk, dv = read_chunks(dk, dv, first, last, head, Partial, slots, D, BLOCK_D, BLOCK, ROWS, CHUNK)
            dk, dv = read_by_groups(k, v, dk, dv, origin + last * CHUNK, end, head, Q, DOut, Lse, Delta, Factor, Gate,
                                    Order, N, slots, scale, D, BLOCK_D, GROUP, TOP_K, ENTRIES, BRANCH, PRECISION)
    else:
        dk, dv = read_by_groups(k, v, dk, dv, begin, end, head, Q, DOut, Lse, Delta, Factor, Gate, Order, N, slots,
                                scale, D, BLOCK_D, GROUP, TOP_K, ENTRIES, BRANCH, PRECISION)
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
def _chosen_keys(Q, K, V, DOut, Lse, Delta, Factor, Gate, Mask, Order, Bounds, Partial, DK, DV, DKCoarse, DVCoarse,
                 DSlopes, DSlope, N, M, BH, H, slots, slope_tiles, scale, out_scale,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                 TOP_K: tl.constexpr, ENTRIES: tl.constexpr, ROWS: tl.constexpr, MASKED: tl.constexpr,
                 BRANCH: tl.constexpr, ADD: tl.constexpr, PIECES: tl.constexpr, PRECISION: tl.constexpr,
                 CHUNK: tl.constexpr, DEPENDENT: tl.constexpr):
    """A program for each block; with a slope, one more a head, which sums its gradient."""
    if DEPENDENT:
        tl.extra.cuda.gdc_wait()
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    if block < M:
        _keys_of_block(block, head, Q, K, V, DOut, Lse, Delta, Factor, Gate, Mask, Order, Bounds, Partial, DK, DV,
                       DKCoarse, DVCoarse, N, M, BH, H, slots, scale, out_scale, D, BLOCK_D, BLOCK, GROUP, TOP_K,
                       ENTRIES, ROWS, MASKED, BRANCH, ADD, PIECES, PRECISION, CHUNK)
    elif DSlope is not None:
        if head < H:
            _sum_slopes(head, DSlopes, DSlope, BH, H, slope_tiles)


def key_constants(d, block, group, top_k, dtype, masked):
    """32 queries a round, since most blocks are chosen by few groups; 128 where every query chooses for itself."""
    if group == 1 and dtype != torch.float32 and block_d(d) <= 32 and block <= 32:
        return dict(D=d, BLOCK_D=block_d(d), BLOCK=block, GROUP=1, TOP_K=top_k, ENTRIES=128, ROWS=max(16, block),
                    MASKED=masked, PRECISION=precision(dtype), num_warps=4)
    crowd = {"maxnreg": 128} if dtype != torch.float32 and block_d(d) <= 32 and block <= 16 else {}
    rows, entries = max(16, block), max(1, 32 // group)
    held = 2 * rows * (block_d(d) + entries * group)  # numbers that a round keeps in registers
    warps = 1 if held <= 2048 else 2 if held <= 6144 else 4 if held <= 16384 else 8
    return dict(D=d, BLOCK_D=block_d(d), BLOCK=block, GROUP=group, TOP_K=top_k, ENTRIES=entries, ROWS=rows,
                MASKED=masked, PRECISION=precision(dtype), num_warps=max(4, warps) if dtype == torch.float32 else warps,
                **crowd)


def backward_q(dout, q, k, v, indices, point_mask, lse, block_size, group_size):
    """dq, and each query's delta and factor (None but in float32), which `backward_kv` needs."""
    B, H, N, d = q.shape
    dq = torch.empty_like(q)
    delta, factor = (torch.empty(B, H, N, dtype=torch.float32, device=q.device) for _ in range(2))
    factor = factor if q.dtype == torch.float32 else None
    common = constants(d, block_size, group_size, indices.shape[3], q.dtype, point_mask is not None, True)
    G = indices.shape[2]
    scale = 1 / math.sqrt(d)
    _chosen_queries[(triton.cdiv(G, common["GROUPS"]), B * H)](
        q, k, v, indices, as_bytes(point_mask), dout, lse, None, dq, delta, factor, None, None, N, G, H, scale * LOG2E,
        scale, BRANCH=-1, ADD=False, POOLED=0, **common)
    return dq, delta, factor


def backward_kv(dout, q, k, v, inverse, top_k, point_mask, lse, delta, factor, block_size, group_size):
    """dk, dv, with the `inverse_index` of the choice."""
    B, H, N, d = q.shape
    M = N // block_size
    order, bounds = inverse
    dk, dv = torch.empty_like(k), torch.empty_like(v)
    scale = 1 / math.sqrt(d)
    _chosen_keys[(M, B * H)](
        q, k, v, dout, lse, delta, factor, None, as_bytes(point_mask), order, bounds, None, dk, dv, None, None, None,
        None, N, M, B * H, H, N // group_size * top_k, 0, scale * LOG2E, scale, BRANCH=-1, ADD=False, PIECES=0,
        CHUNK=0, DEPENDENT=False, **key_constants(d, block_size, group_size, top_k, q.dtype, point_mask is not None))
    return dk, dv
