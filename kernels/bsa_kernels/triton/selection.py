"""Attention of every group to its selected blocks. Forward and the queries' gradient.

A program owns a tile of groups and the keys of all their slots: S = (queries of the tile) x (keys gathered for the
tile), of which only a query's own group's keys count. With the published sizes (8 queries, 4 blocks of 8) a tile of
two groups is 16 x 64, which one warp's matrix instructions take whole.
"""

import math

import torch
import triton
import triton.language as tl

from .tiles import LOG2E, as_bytes, block_d, load_rows, precision, store_rows


@triton.jit
def gathered_rows(Indices, first_group, slot, G, TOP_K: tl.constexpr, BLOCK: tl.constexpr, GROUPS: tl.constexpr,
                  SLOTS: tl.constexpr):
    """Point and group of every key of a tile: slots slot .. slot+SLOTS of GROUPS groups. Point -1: missing."""
    col = tl.arange(0, GROUPS * SLOTS * BLOCK)
    group = col // (SLOTS * BLOCK)
    here = slot + col // BLOCK % SLOTS
    block = tl.load(Indices + (first_group + group) * TOP_K + here, mask=(here < TOP_K) & (first_group + group < G),
                    other=-1).to(tl.int32)
    return tl.where(block >= 0, block * BLOCK + col % BLOCK, -1), group


@triton.jit
def _forward(Q, K, V, Indices, Mask, Out, Lse, Gate, Ball, Compression, N, G, H, scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr,
             GROUPS: tl.constexpr, SLOTS: tl.constexpr, MASKED: tl.constexpr, COMBINE: tl.constexpr,
             REPEAT: tl.constexpr, PRECISION: tl.constexpr):
    """COMBINE: Out is the gated sum of Ball, Compression (one row for REPEAT points) and this branch."""
    head = tl.program_id(1).to(tl.int64)
    first_group = tl.program_id(0) * GROUPS
    line = tl.arange(0, GROUPS * GROUP)
    rows = first_group * GROUP + line
    Indices += head * G * TOP_K
    if MASKED:
        Mask += (head // H) * N
    q = load_rows(Q + head * N * D, rows, N, D, BLOCK_D, True)
    acc = tl.zeros([GROUPS * GROUP, BLOCK_D], tl.float32)
    top = tl.full([GROUPS * GROUP], float("-inf"), tl.float32)
    total = tl.zeros([GROUPS * GROUP], tl.float32)
    for slot in range(0, TOP_K, SLOTS):
        points, group = gathered_rows(Indices, first_group, slot, G, TOP_K, BLOCK, GROUPS, SLOTS)
        keep = points >= 0
        if MASKED:
            keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
        points = tl.where(keep, points, N)
        k = load_rows(K + head * N * D, points, N, D, BLOCK_D, True)
        v = load_rows(V + head * N * D, points, N, D, BLOCK_D, True)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        s = tl.where((line // GROUP)[:, None] == tl.where(keep, group, -1)[None, :], s, float("-inf"))
        new_top = tl.maximum(top, tl.max(s, 1))
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        p = tl.exp2(s - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        top = new_top
    read = total > 0
    if MASKED:
        real = tl.load(Mask + rows, mask=rows < N, other=0) != 0
        read = read & real
    acc = tl.where(read[:, None], acc / tl.where(read, total, 1.0)[:, None], 0.0)
    lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    tl.store(Lse + head * N + rows, tl.where(read, lse, float("-inf")), mask=rows < N)
    if COMBINE:
        ball = load_rows(Ball + head * N * D, rows, N, D, BLOCK_D, True).to(tl.float32)
        coarse = head * (N // REPEAT) * D
        compression = load_rows(Compression + coarse, rows // REPEAT, N // REPEAT, D, BLOCK_D, True).to(tl.float32)
        weights = Gate + (head * N + rows) * 3
        keep = rows < N
        acc = acc * tl.load(weights + 2, mask=keep, other=0.0).to(tl.float32)[:, None]
        acc += compression * tl.load(weights + 1, mask=keep, other=0.0).to(tl.float32)[:, None]
        acc += ball * tl.load(weights, mask=keep, other=0.0).to(tl.float32)[:, None]
        if MASKED:
            acc = tl.where(real[:, None], acc, 0.0)
    store_rows(Out + head * N * D, rows, acc, N, D, BLOCK_D)


@triton.jit
def _backward_q(Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, DGate, DQCoarse, N, G, H, scale, out_scale,
                D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr,
                GROUPS: tl.constexpr, SLOTS: tl.constexpr, MASKED: tl.constexpr, BRANCH: tl.constexpr,
                ADD: tl.constexpr, POOLED: tl.constexpr, PRECISION: tl.constexpr):
    """dQ, and each query's delta = sum(p * dp), which `_backward_kv` needs; no saved output is read.

    With several rounds of slots delta is not known in the first, so dQ is kept in two sums: sum(p dp k) - delta sum(p
    k). ADD: add to DQ. POOLED > 0: add the gradient of the mean-pooled coarse queries of blocks of that size.
    """
    head = tl.program_id(1).to(tl.int64)
    first_group = tl.program_id(0) * GROUPS
    line = tl.arange(0, GROUPS * GROUP)
    rows = first_group * GROUP + line
    Indices += head * G * TOP_K
    if MASKED:
        Mask += (head // H) * N
    q = load_rows(Q + head * N * D, rows, N, D, BLOCK_D, True)
    do = load_rows(DOut + head * N * D, rows, N, D, BLOCK_D, True)
    lse = tl.load(Lse + head * N + rows, mask=rows < N, other=float("-inf"))
    lse = tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)
    dq = tl.zeros([GROUPS * GROUP, BLOCK_D], tl.float32)
    pull = tl.zeros([GROUPS * GROUP, BLOCK_D], tl.float32)
    delta = tl.zeros([GROUPS * GROUP], tl.float32)
    for slot in range(0, TOP_K, SLOTS):
        points, group = gathered_rows(Indices, first_group, slot, G, TOP_K, BLOCK, GROUPS, SLOTS)
        keep = points >= 0
        if MASKED:
            keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
        points = tl.where(keep, points, N)
        k = load_rows(K + head * N * D, points, N, D, BLOCK_D, True)
        v = load_rows(V + head * N * D, points, N, D, BLOCK_D, True)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
        own = (line // GROUP)[:, None] == tl.where(keep, group, -1)[None, :]
        p = tl.where(own, tl.exp2(s - lse[:, None]), 0.0)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        delta += tl.sum(p * dp, 1)
        if SLOTS >= TOP_K:
            dq = tl.dot((p * (dp - delta[:, None])).to(k.dtype), k, dq, input_precision=PRECISION)
        else:
            dq = tl.dot((p * dp).to(k.dtype), k, dq, input_precision=PRECISION)
            pull = tl.dot(p.to(k.dtype), k, pull, input_precision=PRECISION)
    if SLOTS < TOP_K:
        dq -= delta[:, None] * pull
    if BRANCH >= 0:  # delta, before the gate, is the gate's own gradient
        where = (head * N + rows) * 3 + BRANCH
        gate = tl.load(Gate + where, mask=rows < N, other=0.0).to(tl.float32)
        tl.store(DGate + where, delta.to(DGate.dtype.element_ty), mask=rows < N)
        dq = dq * gate[:, None]
    tl.store(Delta + head * N + rows, delta, mask=rows < N)
    dq = dq * out_scale
    if ADD:
        dq += load_rows(DQ + head * N * D, rows, N, D, BLOCK_D, True).to(tl.float32)
    if POOLED > 0:
        share = tl.full([GROUPS * GROUP], 1.0 / POOLED, tl.float32)
        if MASKED:  # the mean was over the real points of the block
            start = rows // POOLED * POOLED
            count = tl.zeros([GROUPS * GROUP], tl.float32)
            for point in range(POOLED):
                count += tl.where(tl.load(Mask + start + point, mask=rows < N, other=0) != 0, 1.0, 0.0)
            real = tl.load(Mask + rows, mask=rows < N, other=0) != 0
            share = tl.where(real, 1.0 / tl.maximum(count, 1.0), 0.0)
        coarse = DQCoarse + head * (N // POOLED) * D
        pooled = load_rows(coarse, rows // POOLED, N // POOLED, D, BLOCK_D, True)
        dq += share[:, None] * pooled.to(tl.float32)
    store_rows(DQ + head * N * D, rows, dq, N, D, BLOCK_D)


def config(d, block, group, top_k, dtype):
    """Groups of a program, slots of a round, warps: at least 16 queries, and few enough keys to stay in registers."""
    groups = max(1, 16 // group)
    limit = 256 if group >= 4 and block_d(d) <= 64 and dtype != torch.float32 else 128
    slots = min(triton.next_power_of_2(top_k), max(1, limit // (groups * block)))
    keys = groups * slots * block
    scores, values = groups * group * keys, keys * block_d(d)
    if dtype == torch.float32 or scores > 2048 or values > 8192:
        return groups, slots, 4
    return groups, slots, 1 if scores <= 1024 and values <= 4096 else 2


def _common(q, indices, mask, block_size, group_size):
    groups, slots, warps = config(q.shape[3], block_size, group_size, indices.shape[3], q.dtype)
    return dict(D=q.shape[3], BLOCK_D=block_d(q.shape[3]), BLOCK=block_size, GROUP=group_size, TOP_K=indices.shape[3],
                GROUPS=groups, SLOTS=slots, MASKED=mask is not None, PRECISION=precision(q.dtype), num_warps=warps)


def forward(q, k, v, indices, point_mask, block_size, group_size, gate=None, ball=None, compression=None, repeat=1):
    """out, lse of selected attention; with a gate, out is the gated sum of all three branches."""
    B, H, N, d = q.shape
    out = torch.empty_like(q)
    lse = torch.empty(B, H, N, dtype=torch.float32, device=q.device)
    common = _common(q, indices, point_mask, block_size, group_size)
    G = indices.shape[2]
    _forward[(triton.cdiv(G, common["GROUPS"]), B * H)](
        q, k, v, indices, as_bytes(point_mask), out, lse, gate, ball, compression, N, G, H, LOG2E / math.sqrt(d),
        COMBINE=gate is not None, REPEAT=repeat, **common)
    return out, lse


def backward_q(dout, q, k, v, indices, point_mask, lse, block_size, group_size, gate=None, branch=-1, dq=None,
               dgate=None, dq_coarse=None, pooled=0):
    """dq (added in place when given) and delta; with a gate, its gradient too. See `attend_backward.backward`.

    dq_coarse: gradient of the coarse queries, when they are means of blocks of `pooled` points.
    """
    B, H, N, d = q.shape
    add = dq is not None
    dq = dq if add else torch.empty_like(q)
    delta = torch.empty(B, H, N, dtype=torch.float32, device=q.device)
    common = _common(q, indices, point_mask, block_size, group_size)
    G = indices.shape[2]
    scale = 1 / math.sqrt(d)
    _backward_q[(triton.cdiv(G, common["GROUPS"]), B * H)](
        q, k, v, indices, as_bytes(point_mask), dout, lse, gate, dq, delta, dgate, dq_coarse, N, G, H, scale * LOG2E,
        scale, BRANCH=branch, ADD=add, POOLED=pooled if dq_coarse is not None else 0, **common)
    return dq, delta
