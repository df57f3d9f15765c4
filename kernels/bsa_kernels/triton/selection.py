"""Attention of every group to its selected blocks: forward.

A program owns a tile of groups and the keys of all their slots: S = (queries of the tile) x (keys gathered for the
tile), of which only a query's own group's keys count. With the published sizes (8 queries, 4 blocks of 8) a tile of
two groups is 16 x 64, which one warp's matrix instructions take whole.
"""

import math

import torch
import triton
import triton.language as tl

from .select import pick_rows
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
def picked_rows(picks, slot, TOP_K: tl.constexpr, BLOCK: tl.constexpr, GROUPS: tl.constexpr, SLOTS: tl.constexpr):
    """What `gathered_rows` gives, from picks (GROUPS, 4) in registers."""
    col = tl.arange(0, GROUPS * SLOTS * BLOCK)
    group = col // (SLOTS * BLOCK)
    here = slot + col // BLOCK % SLOTS
    block = tl.gather(tl.reshape(picks, [GROUPS * 4]), group * 4 + tl.minimum(here, 3), 0)
    return tl.where((block >= 0) & (here < TOP_K), block * BLOCK + col % BLOCK, -1), group


@triton.jit
def _forward(Q, K, V, Indices, Mask, Out, Lse, Gate, Ball, Compression, ScoreQ, KCoarse, BlockMask, Tiles,
             N, G, M, H, balls_q: tl.constexpr, balls_k: tl.constexpr, scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr,
             GROUPS: tl.constexpr, SLOTS: tl.constexpr, MASKED: tl.constexpr, COMBINE: tl.constexpr,
             REPEAT: tl.constexpr, PICK: tl.constexpr, OWN: tl.constexpr, PRECISION: tl.constexpr):
    """COMBINE: Out is the gated sum of Ball, Compression (one row for REPEAT points) and this branch.

    PICK > 0: Indices are made here first, from the kept Tiles of that many blocks (see `select`).
    """
    head = tl.program_id(1).to(tl.int64)
    first_group = tl.program_id(0) * GROUPS
    line = tl.arange(0, GROUPS * GROUP)
    rows = first_group * GROUP + line
    if MASKED:
        Mask += (head // H) * N
    # What does not wait for the choice is asked for ahead of it.
    q = load_rows(Q + head * N * D, rows, N, D, BLOCK_D, True)
    if COMBINE:
        keep_rows = rows < N
        ball = load_rows(Ball + head * N * D, rows, N, D, BLOCK_D, True)
        compression = load_rows(Compression + head * (N // REPEAT) * D, rows // REPEAT, N // REPEAT, D, BLOCK_D, True)
        weights = Gate + (head * N + rows) * 3
        weight0 = tl.load(weights, mask=keep_rows, other=0.0).to(tl.float32)
        weight1 = tl.load(weights + 1, mask=keep_rows, other=0.0).to(tl.float32)
        weight2 = tl.load(weights + 2, mask=keep_rows, other=0.0).to(tl.float32)
    if PICK > 0:
        picks = pick_rows(first_group + tl.arange(0, GROUPS), head, ScoreQ, KCoarse, BlockMask, Tiles, Indices, G, M, H,
                          balls_q, balls_k, GROUPS, D, 16, PICK, 4, TOP_K, OWN, MASKED)
    Indices += head * G * TOP_K
    acc = tl.zeros([GROUPS * GROUP, BLOCK_D], tl.float32)
    top = tl.full([GROUPS * GROUP], float("-inf"), tl.float32)
    total = tl.zeros([GROUPS * GROUP], tl.float32)
    for slot in range(0, TOP_K, SLOTS):
        if PICK > 0:
            points, group = picked_rows(picks, slot, TOP_K, BLOCK, GROUPS, SLOTS)
        else:
            points, group = gathered_rows(Indices, first_group, slot, G, TOP_K, BLOCK, GROUPS, SLOTS)
        keep = points >= 0
        if MASKED:
            keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
        # Loads without a condition are quicker: a missing slot reads point 0, which its weight of zero hides. A masked
        # point could hold anything, so there the condition stays.
        points = tl.where(keep, points, N if MASKED else 0)
        k = load_rows(K + head * N * D, points, N, D, BLOCK_D, MASKED)
        v = load_rows(V + head * N * D, points, N, D, BLOCK_D, MASKED)
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
        acc = acc * weight2[:, None] + compression.to(tl.float32) * weight1[:, None]
        acc += ball.to(tl.float32) * weight0[:, None]
        if MASKED:
            acc = tl.where(real[:, None], acc, 0.0)
    store_rows(Out + head * N * D, rows, acc, N, D, BLOCK_D)


def config(d, block, group, top_k, dtype, backward=False):
    """Groups of a program, slots of a round, warps: at least 16 queries, and few enough keys to stay in registers."""
    groups = max(1, 16 // group)
    limit = 256 if group >= 4 and block_d(d) <= 64 and dtype != torch.float32 else 128
    if backward:
        limit = 64 if block_d(d) > 64 else 128
    if group >= 64:  # scores of as many rows
        limit //= 4
    if dtype == torch.float32 and d > 32:  # ordinary multiplications hold whole rows of both operands
        limit = 64 if block * groups <= 16 and not backward else 32
    slots = min(triton.next_power_of_2(top_k), max(1, limit // (groups * block)))
    slots = max(slots, triton.cdiv(16, groups * block))  # the matrix units take no fewer keys
    keys = groups * slots * block
    scores, values = groups * group * keys, keys * block_d(d)
    if dtype == torch.float32 or scores > 2048 or values > 8192:
        return groups, slots, 4
    return groups, slots, 1 if scores <= 1024 and values <= 4096 else 2


def constants(d, block, group, top_k, dtype, masked, backward=False):
    """What forward and backward kernels share."""
    groups, slots, warps = config(d, block, group, top_k, dtype, backward)
    return dict(D=d, BLOCK_D=block_d(d), BLOCK=block, GROUP=group, TOP_K=top_k, GROUPS=groups, SLOTS=slots,
                MASKED=masked, PRECISION=precision(dtype), num_warps=warps)


def forward(q, k, v, indices, point_mask, block_size, group_size):
    """out, lse of selected attention."""
    B, H, N, d = q.shape
    out = torch.empty_like(q)
    lse = torch.empty(B, H, N, dtype=torch.float32, device=q.device)
    common = constants(d, block_size, group_size, indices.shape[3], q.dtype, point_mask is not None)
    G = indices.shape[2]
    _forward[(triton.cdiv(G, common["GROUPS"]), B * H)](
        q, k, v, indices, as_bytes(point_mask), out, lse, None, None, None, None, None, None, None,
        N, G, N // block_size, H, 1, 1, LOG2E / math.sqrt(d), COMBINE=False, REPEAT=1, PICK=0, OWN=False, **common)
    return out, lse
