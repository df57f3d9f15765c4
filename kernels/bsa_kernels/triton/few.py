"""The forward of few points as one launch behind the pooling: every branch of a tile of queries, in one program.

With few points a launch lasts as long as one program's chain of loads, so that three launches cost three chains and
what lies between them. Here one program takes its queries through ball, compression, choice and selection and keeps
their gated sum in registers. (Beginning before the pooling has ended, as compute capability 9.0 allows, and waiting
for it after the ball was 1.4 of 16 microseconds slower on an H100.)

The choice needs no lists of tiles here (see `select`): the scores of a few groups fit the registers.
"""

import math

import torch
import triton
import triton.language as tl

from .attend import in_range, read_range
from .launch import Launch
from .pool import _pool, pool_rows
from .select import NEVER, insert
from .tiles import LOG2E, block_d, coordinates, load_rows, precision, store_rows


@triton.jit
def _softmax(q, K, V, KeyMask, Pos, slope, qx, qy, qz, rows, limit, low, high, scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, POS_D: tl.constexpr,
             MASKED: tl.constexpr, EVEN: tl.constexpr, LAZY: tl.constexpr, PRECISION: tl.constexpr,
             STAGES: tl.constexpr):
    """Output and natural log-sum-exp (-inf: nothing read) of the queries over the keys low..high."""
    acc, top, total = read_range(q, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale, D, BLOCK_D, ROWS, COLS,
                                 POS_D, MASKED, EVEN, LAZY, PRECISION, STAGES)
    if LAZY:
        if not in_range(total, rows, limit):
            acc, top, total = read_range(q, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale, D, BLOCK_D, ROWS,
                                         COLS, POS_D, MASKED, EVEN, False, PRECISION, STAGES)
    read = total > 0
    acc = acc / tl.where(read, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    return acc, tl.where(read, lse, float("-inf"))


@triton.jit
def _choose(first, head, Q, K, V, BlockMask, Compression, Lse, Indices, M, G, balls_q: tl.constexpr,
            balls_k: tl.constexpr, scale, D: tl.constexpr, BLOCK_D: tl.constexpr, GROUPS: tl.constexpr,
            PAD: tl.constexpr, TILE: tl.constexpr, TOP_K: tl.constexpr, OWN: tl.constexpr, MASKED: tl.constexpr,
            GROUPED: tl.constexpr, PRECISION: tl.constexpr):
    """The best blocks of GROUPS groups, (PAD, 4); where GROUPED, what their coarse queries read as well, (PAD, D)."""
    line = tl.arange(0, PAD)
    rows = first + line
    keep = (line < GROUPS) & (rows < G)
    q = load_rows(Q, tl.where(keep, rows, G), G, D, BLOCK_D, True)
    ball = rows // balls_q
    acc = tl.zeros([PAD, BLOCK_D], tl.float32)
    top = tl.full([PAD], float("-inf"), tl.float32)
    total = tl.zeros([PAD], tl.float32)
    v0 = tl.full([PAD], float("-inf"), tl.float32)
    i0 = tl.full([PAD], -1, tl.int32)
    v1, v2, v3 = v0, v0, v0
    i1, i2, i3 = i0, i0, i0
    for start in range(0, M, TILE):
        cols = start + tl.arange(0, TILE)
        k = load_rows(K, cols, M, D, BLOCK_D, True)
        if GROUPED:
            v = load_rows(V, cols, M, D, BLOCK_D, True)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        there = cols < M
        if MASKED:
            there = there & (tl.load(BlockMask + cols, mask=there, other=0) != 0)
        s = tl.where(there[None, :], s, float("-inf"))
        if GROUPED:
            new_top = tl.maximum(top, tl.max(s, 1) * scale)
            safe = tl.where(new_top == float("-inf"), 0.0, new_top)
            p = tl.exp2(s * scale - safe[:, None])
            shrink = tl.exp2(top - safe)
            total = total * shrink + tl.sum(p, 1)
            acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
            top = new_top
        if OWN:
            s = tl.where(ball[:, None] == (cols // balls_k)[None, :], float("-inf"), s)
        for _ in tl.static_range(TOP_K):
            best = tl.max(s, 1)
            here = tl.min(tl.where(s == best[:, None], cols[None, :], NEVER), 1)
            s = tl.where(cols[None, :] == here[:, None], float("-inf"), s)
            here = tl.where(best > float("-inf"), here, -1)
            v0, i0, best, here = insert(v0, i0, best, here)
            v1, i1, best, here = insert(v1, i1, best, here)
            v2, i2, best, here = insert(v2, i2, best, here)
            v3, i3, best, here = insert(v3, i3, best, here)
    slot = tl.arange(0, 4)[None, :]
    chosen = tl.where(slot == 0, i0[:, None], tl.where(slot == 1, i1[:, None],
                                                       tl.where(slot == 2, i2[:, None], i3[:, None])))
    tl.store(Indices + rows[:, None] * TOP_K + slot, chosen, mask=keep[:, None] & (slot < TOP_K))
    if GROUPED:
        read = total > 0
        acc = acc / tl.where(read, total, 1.0)[:, None]
        lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
        tl.store(Lse + rows, tl.where(read, lse, float("-inf")), mask=keep)
        store_rows(Compression, tl.where(keep, rows, G), acc, G, D, BLOCK_D)
    return chosen, acc


@triton.jit
def _select(chosen, rows, head, Q, K, V, Mask, Lse, N, H, scale, D: tl.constexpr, BLOCK_D: tl.constexpr,
            BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr, PAD: tl.constexpr, WAYS: tl.constexpr,
            MASKED: tl.constexpr, PRECISION: tl.constexpr):
    """What the queries rows (WAYS, 16) read in the chosen (PAD, 4) blocks of their groups: (WAYS, 16, D)."""
    GROUPS: tl.constexpr = 16 // GROUP
    KEYS: tl.constexpr = GROUPS * TOP_K * BLOCK
    key = tl.arange(0, WAYS * KEYS)
    slot = (key // KEYS * GROUPS + key % KEYS // (TOP_K * BLOCK)) * 4 + key // BLOCK % TOP_K
    block = tl.gather(tl.reshape(chosen, [PAD * 4]), slot, 0)
    points = tl.where(block >= 0, block * BLOCK + key % BLOCK, -1)
    keep = points >= 0
    if MASKED:
        keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
    points = tl.reshape(tl.where(keep, points, N if MASKED else 0), [WAYS, KEYS])  # see `selection._forward`
    keep = tl.reshape(keep, [WAYS, KEYS])
    depth = tl.arange(0, BLOCK_D)[None, None, :]
    q = tl.load(Q + rows[:, :, None] * D + depth, mask=depth < D, other=0.0)
    there = depth < D
    if MASKED:
        there = there & keep[:, :, None]
    k = tl.load(K + points[:, :, None] * D + depth, mask=there, other=0.0)
    v = tl.load(V + points[:, :, None] * D + depth, mask=there, other=0.0)
    s = tl.dot(q, tl.trans(k, (0, 2, 1)), input_precision=PRECISION) * scale
    group = tl.reshape(key % KEYS // (TOP_K * BLOCK), [WAYS, KEYS])
    own = (tl.arange(0, 16) // GROUP)[None, :, None] == tl.where(keep, group, -1)[:, None, :]
    s = tl.where(own, s, float("-inf"))
    top = tl.max(s, 2)
    safe = tl.where(top == float("-inf"), 0.0, top)
    p = tl.exp2(s - safe[:, :, None])
    total = tl.sum(p, 2)
    read = total > 0
    if MASKED:
        read = read & (tl.load(Mask + rows) != 0)
    acc = tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
    acc = tl.where(read[:, :, None], acc / tl.where(read, total, 1.0)[:, :, None], 0.0)
    lse = (safe + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    tl.store(Lse + rows, tl.where(read, lse, float("-inf")))
    return acc


@triton.jit
def all_branches(Q, K, V, ScoreQ, KC, VC, Gate, Mask, BlockMask, Pos, Slope, Out, BallLse, Compression, CoarseLse,
                 ChosenLse, Indices, N, M, G, H, balls_q: tl.constexpr, balls_k: tl.constexpr, scale,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr, BALL_N: tl.constexpr,
                 COARSE_N: tl.constexpr, TILE: tl.constexpr, PAD: tl.constexpr, BALL: tl.constexpr,
                 BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr, POS_D: tl.constexpr,
                 MASKED: tl.constexpr, GROUPED: tl.constexpr, OWN: tl.constexpr, EVEN: tl.constexpr,
                 LAZY: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """ROWS queries of one head. GROUPED: coarse queries, which also choose, read the coarse keys."""
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * ROWS
    rows = first + tl.arange(0, ROWS)
    fine = head * N
    Q += fine * D
    K += fine * D
    V += fine * D
    KC += head * M * D
    VC += head * M * D
    slope = 0.0
    qx = tl.zeros([ROWS], tl.float32)
    qy = tl.zeros([ROWS], tl.float32)
    qz = tl.zeros([ROWS], tl.float32)
    if MASKED:
        Mask += (head // H) * N
        BlockMask += (head // H) * M
    if POS_D > 0:
        Pos += (head // H) * N * POS_D
        slope = tl.load(Slope + head % H).to(tl.float32) * 1.4426950408889634
        qx, qy, qz = coordinates(Pos, rows, rows < N, POS_D)
    q = load_rows(Q, rows, N, D, BLOCK_D, False)
    low = first // BALL * BALL
    out, lse = _softmax(q, K, V, Mask, Pos, slope, qx, qy, qz, rows, N, low, low + BALL, scale, D, BLOCK_D, ROWS,
                        BALL_N, POS_D, MASKED, True, LAZY, PRECISION, STAGES)
    if MASKED:  # a masked query of a ball reads nothing
        real = tl.load(Mask + rows) != 0
        lse = tl.where(real, lse, float("-inf"))
    tl.store(BallLse + fine + rows, lse)
    gates = Gate + (fine + rows) * 3
    out = out * tl.load(gates).to(tl.float32)[:, None]
    GROUPS: tl.constexpr = ROWS // GROUP
    rows_of = head * M if GROUPED else fine
    chosen, coarse = _choose(first // GROUP, head, ScoreQ + head * G * D, KC, VC, BlockMask, Compression + rows_of * D,
                             CoarseLse + rows_of, Indices + head * G * TOP_K, M, G, balls_q, balls_k, scale, D, BLOCK_D,
                             GROUPS, PAD, TILE, TOP_K, OWN, MASKED, GROUPED, PRECISION)
    weight = tl.load(gates + 1).to(tl.float32)
    if GROUPED:  # row r of the tile has the output of coarse query r // GROUP
        owner = (tl.arange(0, ROWS) // GROUP)[:, None] + tl.zeros([1, BLOCK_D], tl.int32)
        out += tl.gather(coarse, owner, 0) * weight[:, None]
    else:
        zero = tl.zeros([ROWS], tl.float32)
        coarse, lse = _softmax(q, KC, VC, BlockMask, None, 0.0, zero, zero, zero, rows, N, 0, M, scale, D, BLOCK_D,
                               ROWS, COARSE_N, 0, MASKED, EVEN, LAZY, PRECISION, STAGES)
        store_rows(Compression + rows_of * D, rows, coarse, N, D, BLOCK_D)
        tl.store(CoarseLse + rows_of + rows, lse)
        out += coarse * weight[:, None]
    WAYS: tl.constexpr = ROWS // 16
    tall = tl.reshape(rows, [WAYS, 16])
    acc = _select(chosen, tall, head, Q, K, V, Mask, ChosenLse + fine, N, H, scale, D, BLOCK_D, BLOCK, GROUP, TOP_K,
                  PAD, WAYS, MASKED, PRECISION)
    acc = acc * tl.load(Gate + (fine + tall) * 3 + 2).to(tl.float32)[:, :, None]
    acc += tl.reshape(out, [WAYS, 16, BLOCK_D])
    if MASKED:
        acc = tl.where((tl.load(Mask + tall) != 0)[:, :, None], acc, 0.0)
    depth = tl.arange(0, BLOCK_D)[None, None, :]
    tl.store(Out + fine * D + tall[:, :, None] * D + depth, acc.to(Out.dtype.element_ty), mask=depth < D)


FEW = 1 << 14  # points times heads up to which one launch for all branches beats one for each
ROWS = 64


def fits(spec, source):
    """Whether the forward of so many points, of these sizes, is one launch behind the pooling."""
    return (
        spec.N * spec.heads <= FEW
        and spec.dtype != torch.float32
        and spec.d <= 64
        and spec.ball >= ROWS
        and 4 <= spec.group <= 16
        and spec.block <= 16
        and spec.top_k in (1, 2, 4)
        and 16 <= 16 // spec.group * spec.top_k * spec.block <= 64
        and (not spec.group_compression or (source == "qc" and spec.group == spec.block))
    )


def few_launches(spec, pools, source):
    """Pooling, and everything else."""
    shared = dict(D=spec.d, BLOCK_D=block_d(spec.d))
    launches = []
    if pools or spec.masked:
        rows = pool_rows(spec.blocks, spec.heads)
        into = (name if name in pools else None for name in ("qc", "kc", "vc"))
        launches.append(Launch(
            _pool, (triton.cdiv(spec.blocks, rows), spec.heads), ("q", "k", "v", "mask", *into, "block_mask"),
            (spec.blocks, spec.H), ROWS=rows, SIZE=spec.block, num_warps=4, **shared))  # fmt: skip
    tile = max(16, triton.next_power_of_2(spec.blocks))
    launches.append(Launch(
        all_branches, (spec.N // ROWS, spec.heads),
        ("q", "k", "v", source, "kc", "vc", "gate", "mask", "block_mask", "positions", "slope", "out", "ball_lse",
         "compression", "compression_lse", "selection_lse", "indices"),
        (spec.N, spec.blocks, spec.groups, spec.H, spec.ball // spec.group, spec.ball // spec.block,
         LOG2E / math.sqrt(spec.d)),
        ROWS=ROWS, BALL_N=64, COARSE_N=min(64, tile), TILE=min(256, tile), PAD=max(16, ROWS // spec.group),
        BALL=spec.ball, BLOCK=spec.block, GROUP=spec.group, TOP_K=spec.top_k, POS_D=spec.pos_d, MASKED=spec.masked,
        GROUPED=spec.group_compression, OWN=spec.mask_own_ball, EVEN=spec.blocks % min(64, tile) == 0,
        LAZY=spec.dtype == torch.bfloat16, PRECISION=precision(spec.dtype), STAGES=2, num_warps=ROWS // 16,
        num_stages=2, **shared))  # fmt: skip
    return launches
