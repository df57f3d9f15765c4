"""Queries that choose for themselves: their choice, attention to what they chose, and its gradient. (Groups may too.)

Single queries share no keys, so they make no tiles for the matrix units: sixteen of them beside all keys of all of
them is sixteen times the work, and more registers than there are. Here a warp holds the keys of one query, each lane
some of them with all their channels, and multiplies on the ordinary units. (A head of few channels, as that of
Erwin-NSA, would fill a quarter of a matrix instruction at most.)

The gradient of the keys has its tiles: all queries that chose a block read the same keys. It is
`selection_backward._chosen_keys`, given more queries a round.
"""

import math

import torch
import triton
import triton.language as tl

from .launch import Launch
from .select import NEVER
from .tiles import LOG2E, as_bytes

HELD = 2048  # numbers of the keys of one warp's round
PICKED = 512  # blocks of a head up to which a query looks at all of them in registers


@triton.jit
def _rows(base, rows, inside, D: tl.constexpr, WIDE: tl.constexpr):
    """Rows of an (N, D) matrix as a float32 tile (queries, WIDE), zeros outside."""
    depth = tl.arange(0, WIDE)[None, :]
    return tl.load(base + rows[:, None] * D + depth, mask=inside[:, None] & (depth < D), other=0.0).to(tl.float32)


@triton.jit
def _points(Indices, Mask, rows, inside, first, GROUP: tl.constexpr, TOP_K: tl.constexpr, BLOCK: tl.constexpr,
            SLOTS: tl.constexpr, MASKED: tl.constexpr):
    """Points of the slots first .. first+SLOTS of each query, (queries, keys), and which of them it reads."""
    col = tl.arange(0, SLOTS * BLOCK)[None, :]
    slot = first + col // BLOCK
    block = tl.load(Indices + rows[:, None] // GROUP * TOP_K + slot, mask=inside[:, None] & (slot < TOP_K), other=-1)
    keep = block >= 0
    points = tl.where(keep, block.to(tl.int32) * BLOCK + col % BLOCK, 0)
    if MASKED:
        keep = keep & (tl.load(Mask + points, mask=keep, other=0) != 0)
    return points, keep


@triton.jit
def _gather(base, points, keep, D: tl.constexpr, WIDE: tl.constexpr, MASKED: tl.constexpr):
    """Rows of an (N, D) matrix as a float32 tile (queries, keys, WIDE).

    Loads without a condition are quicker: a missing slot reads point 0, which its weight of zero hides. A masked point
    could hold anything, so there the condition stays.
    """
    depth = tl.arange(0, WIDE)[None, None, :]
    where = base + points[:, :, None] * D + depth
    if MASKED:
        return tl.load(where, mask=keep[:, :, None] & (depth < D), other=0.0).to(tl.float32)
    elif D == WIDE:
        return tl.load(where).to(tl.float32)
    else:
        return tl.load(where, mask=depth < D, other=0.0).to(tl.float32)


@triton.jit
def _pick(Q, K, BlockMask, Indices, N, M, H, ball: tl.constexpr, ball_blocks: tl.constexpr, D: tl.constexpr,
          WIDE: tl.constexpr, CHANNELS: tl.constexpr, BLOCKS: tl.constexpr, QUERIES: tl.constexpr,
          TOP_K: tl.constexpr, OWN: tl.constexpr, MASKED: tl.constexpr):
    """The best blocks of each of N queries (or groups of them), best first, ties to the lowest.

    ball, ball_blocks: queries and blocks of a ball. OWN: leave out the blocks of the query's own ball. Scores are
    compared as integers of the same order, whose maximum over a warp is one instruction.
    """
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    inside = rows < N
    Q += head * N * D
    K += head * M * D
    cols = tl.arange(0, BLOCKS)[None, :] + tl.zeros([QUERIES, BLOCKS], tl.int32)
    keep = cols < M
    if MASKED:
        keep = keep & (tl.load(BlockMask + (head // H) * M + cols, mask=keep, other=0) != 0)
    if OWN:
        keep = keep & (cols // ball_blocks != (rows // ball)[:, None])
    s = tl.zeros([QUERIES, BLOCKS], tl.float32)
    for first in tl.static_range(0, WIDE, CHANNELS):
        depth = first + tl.arange(0, CHANNELS)
        q = tl.load(Q + rows[:, None] * D + depth[None, :], mask=inside[:, None] & (depth < D)[None, :], other=0.0)
        there = (tl.arange(0, BLOCKS) < M)[None, :, None] & (depth < D)[None, None, :]
        k = tl.load(K + tl.arange(0, BLOCKS)[None, :, None] * D + depth[None, None, :], mask=there, other=0.0)
        s += tl.sum(q.to(tl.float32)[:, None, :] * k.to(tl.float32), 2)
    rank = (s + 0.0).to(tl.int32, bitcast=True)  # the sum makes -0 a 0
    rank = tl.where(rank < 0, rank ^ 0x7FFFFFFF, rank)
    rank = tl.where(keep & (s == s), rank, -2147483648)
    for slot in tl.static_range(TOP_K):
        best = tl.max(rank, 1)
        chosen = tl.min(tl.where(rank == best[:, None], cols, NEVER), 1)
        tl.store(Indices + (head * N + rows) * TOP_K + slot,
                 tl.where(best > -2147483648, chosen, -1).to(Indices.dtype.element_ty), mask=inside)
        rank = tl.where(cols == chosen[:, None], -2147483648, rank)


@triton.jit
def _forward(Q, K, V, Indices, Mask, Out, Lse, Gate, Ball, Compression, N, H, scale, D: tl.constexpr,
             WIDE: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr, SLOTS: tl.constexpr,
             QUERIES: tl.constexpr, STEPS: tl.constexpr, MASKED: tl.constexpr, COMBINE: tl.constexpr):
    """COMBINE: Out is the gated sum of Ball, Compression and this branch."""
    head = tl.program_id(1).to(tl.int64)
    Indices += head * (N // GROUP) * TOP_K
    if MASKED:
        Mask += (head // H) * N
    base = head * N * D
    for step in range(STEPS):
        rows = (tl.program_id(0) * STEPS + step) * QUERIES + tl.arange(0, QUERIES)
        inside = rows < N
        q = _rows(Q + base, rows, inside, D, WIDE) * scale
        acc = tl.zeros([QUERIES, WIDE], tl.float32)
        top = tl.full([QUERIES], float("-inf"), tl.float32)
        total = tl.zeros([QUERIES], tl.float32)
        for first in range(0, TOP_K, SLOTS):
            points, keep = _points(Indices, Mask, rows, inside, first, GROUP, TOP_K, BLOCK, SLOTS, MASKED)
            k = _gather(K + base, points, keep, D, WIDE, MASKED)
            v = _gather(V + base, points, keep, D, WIDE, MASKED)
            s = tl.where(keep, tl.sum(q[:, None, :] * k, 2), float("-inf"))
            new_top = tl.maximum(top, tl.max(s, 1))
            safe = tl.where(new_top == float("-inf"), 0.0, new_top)
            p = tl.exp2(s - safe[:, None])
            shrink = tl.exp2(top - safe)
            total = total * shrink + tl.sum(p, 1)
            acc = acc * shrink[:, None] + tl.sum(p[:, :, None] * v, 1)
            top = new_top
        read = total > 0
        if MASKED:
            real = tl.load(Mask + rows, mask=inside, other=0) != 0
            read = read & real
        acc = tl.where(read[:, None], acc / tl.where(read, total, 1.0)[:, None], 0.0)
        lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
        tl.store(Lse + head * N + rows, tl.where(read, lse, float("-inf")), mask=inside)
        if COMBINE:
            weights = Gate + (head * N + rows) * 3
            acc = acc * tl.load(weights + 2, mask=inside, other=0.0).to(tl.float32)[:, None]
            compression = _rows(Compression + base, rows, inside, D, WIDE)
            acc += compression * tl.load(weights + 1, mask=inside, other=0.0).to(tl.float32)[:, None]
            ball = _rows(Ball + base, rows, inside, D, WIDE)
            acc += ball * tl.load(weights, mask=inside, other=0.0).to(tl.float32)[:, None]
            if MASKED:
                acc = tl.where(real[:, None], acc, 0.0)
        depth = tl.arange(0, WIDE)[None, :]
        tl.store(Out + base + rows[:, None] * D + depth, acc.to(Out.dtype.element_ty),
                 mask=inside[:, None] & (depth < D))


@triton.jit
def _chosen_queries(Q, K, V, Indices, Mask, DOut, Lse, Gate, DQ, Delta, Factor, DGate, N, H, scale, out_scale,
                    D: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr,
                    TOP_K: tl.constexpr, SLOTS: tl.constexpr, QUERIES: tl.constexpr, STEPS: tl.constexpr,
                    MASKED: tl.constexpr, BRANCH: tl.constexpr, ADD: tl.constexpr):
    """dQ, each query's delta and factor; `selection_backward.chosen_queries` says what these and the switches are."""
    EXACT: tl.constexpr = Q.dtype.element_ty == tl.float32
    head = tl.program_id(1).to(tl.int64)
    Indices += head * (N // GROUP) * TOP_K
    if MASKED:
        Mask += (head // H) * N
    base = head * N * D
    for step in range(STEPS):
        rows = (tl.program_id(0) * STEPS + step) * QUERIES + tl.arange(0, QUERIES)
        inside = rows < N
        q = _rows(Q + base, rows, inside, D, WIDE) * scale
        do = _rows(DOut + base, rows, inside, D, WIDE)
        lse = tl.load(Lse + head * N + rows, mask=inside, other=float("-inf"))
        lse = tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)
        delta = tl.zeros([QUERIES], tl.float32)
        mass = tl.zeros([QUERIES], tl.float32)
        dq = tl.zeros([QUERIES, WIDE], tl.float32)
        pull = tl.zeros([QUERIES, WIDE], tl.float32)
        for first in range(0, TOP_K, SLOTS):
            points, keep = _points(Indices, Mask, rows, inside, first, GROUP, TOP_K, BLOCK, SLOTS, MASKED)
            k = _gather(K + base, points, keep, D, WIDE, MASKED)
            v = _gather(V + base, points, keep, D, WIDE, MASKED)
            p = tl.where(keep, tl.exp2(tl.sum(q[:, None, :] * k, 2) - lse[:, None]), 0.0)
            dp = tl.sum(do[:, None, :] * v, 2)
            delta += tl.sum(p * dp, 1)
            if EXACT:
                mass += tl.sum(p, 1)
            if SLOTS >= TOP_K:
                if EXACT:  # rounding leaves a large log-sum-exp off by more than the rest of the arithmetic is
                    delta = delta / tl.where(mass > 0, mass, 1.0)
                dq = tl.sum((p * (dp - delta[:, None]))[:, :, None] * k, 1)
            else:
                dq += tl.sum((p * dp)[:, :, None] * k, 1)
                pull += tl.sum(p[:, :, None] * k, 1)
        if SLOTS < TOP_K:
            if EXACT:
                delta = delta / tl.where(mass > 0, mass, 1.0)
            dq -= delta[:, None] * pull
        share = 1.0 / tl.where(mass > 0, mass, 1.0)
        if EXACT:
            dq = dq * share[:, None]
        if BRANCH >= 0:  # delta, before the gate, is the gate's own gradient
            where = (head * N + rows) * 3 + BRANCH
            gate = tl.load(Gate + where, mask=inside, other=0.0).to(tl.float32)
            tl.store(DGate + where, delta.to(DGate.dtype.element_ty), mask=inside)
            dq = dq * gate[:, None]
            share = share * gate
        if EXACT:
            tl.store(Factor + head * N + rows, share, mask=inside)
        tl.store(Delta + head * N + rows, delta, mask=inside)
        dq = dq * out_scale
        if ADD:
            dq += _rows(DQ + base, rows, inside, D, WIDE)
        depth = tl.arange(0, WIDE)[None, :]
        tl.store(DQ + base + rows[:, None] * D + depth, dq.to(DQ.dtype.element_ty), mask=inside[:, None] & (depth < D))


def attends(spec):
    """Whether these kernels attend: to single queries, and to groups whose heads are narrow and whose keys are many.

    There a group's tile of keys is more than registers hold, and a matrix instruction mostly empty.
    """
    return spec.group == 1 or (spec.d <= 8 and spec.top_k * spec.block >= 256 and not spec.group_compression)


def picks(blocks, group, top_k):
    """Whether a query or group looks at all blocks at once, without `select`'s first pass (good at keeping four)."""
    return blocks <= PICKED and (group == 1 or top_k > 4)


def forgets(blocks, group, top_k):
    """Whether the choice is made again in the backward pass: where every query has its own, nothing kept is larger."""
    return group == 1 and picks(blocks, group, top_k)


def config(d, block, top_k):
    """Slots of a round, queries of a program side by side and one after the other, warps."""
    wide = triton.next_power_of_2(d)
    slots = min(triton.next_power_of_2(top_k), max(1, HELD // (block * wide)))
    held = slots * block * wide
    queries = max(1, min(16, HELD // held))
    return slots, queries, max(1, 4 // queries), max(1, min(8, held // 2048))


def _shared(d, block, top_k, masked, group=1):
    slots, queries, steps, warps = config(d, block, top_k)
    return dict(D=d, WIDE=triton.next_power_of_2(d), BLOCK=block, GROUP=group, TOP_K=top_k, SLOTS=slots,
                QUERIES=queries, STEPS=steps, MASKED=masked, num_warps=warps)


def _grid(n, heads, shared):
    return triton.cdiv(n, shared["QUERIES"] * shared["STEPS"]), heads


def _pick_constants(d, blocks):
    wide, padded = triton.next_power_of_2(d), triton.next_power_of_2(max(blocks, 32))
    channels = min(wide, 8)
    return dict(D=d, WIDE=wide, CHANNELS=channels, BLOCKS=padded, QUERIES=2 if padded <= 256 else 1,
                num_warps=1 if padded <= 256 else 2)


def select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball,
                  dtype=torch.int64):
    """Indices (B,H,G,top_k) of the blocks of highest score of every group; see `picks`."""
    B, H, G, d = score_q.shape
    M = k_coarse.shape[2]
    indices = torch.empty(B, H, G, top_k, dtype=dtype, device=score_q.device)
    how = _pick_constants(d, M)
    _pick[(triton.cdiv(G, how["QUERIES"]), B * H)](
        score_q.contiguous(), k_coarse.contiguous(), as_bytes(block_mask), indices, G, M, H, ball_size // group_size,
        ball_size // block_size, TOP_K=top_k, OWN=mask_own_ball, MASKED=block_mask is not None, **how)
    return indices


def forward(q, k, v, indices, point_mask, block_size):
    """out, lse of selected attention."""
    B, H, N, d = q.shape
    out = torch.empty_like(q)
    lse = torch.empty(B, H, N, dtype=torch.float32, device=q.device)
    shared = _shared(d, block_size, indices.shape[3], point_mask is not None)
    _forward[_grid(N, B * H, shared)](q, k, v, indices, as_bytes(point_mask), out, lse, None, None, None, N, H,
                                      LOG2E / math.sqrt(d), COMBINE=False, **shared)
    return out, lse


def backward_q(dout, q, k, v, indices, point_mask, lse, block_size):
    """dq, and each query's delta and factor (None but in float32)."""
    B, H, N, d = q.shape
    dq = torch.empty_like(q)
    delta, factor = (torch.empty(B, H, N, dtype=torch.float32, device=q.device) for _ in range(2))
    factor = factor if q.dtype == torch.float32 else None
    shared = _shared(d, block_size, indices.shape[3], point_mask is not None)
    scale = 1 / math.sqrt(d)
    _chosen_queries[_grid(N, B * H, shared)](
        q, k, v, indices, as_bytes(point_mask), dout, lse, None, dq, delta, factor, None, N, H, scale * LOG2E, scale,
        BRANCH=-1, ADD=False, **shared)
    return dq, delta, factor


def pick_launch(spec, source):
    """`select_blocks` as a launch of a plan."""
    how = _pick_constants(spec.d, spec.blocks)
    return Launch(_pick, (triton.cdiv(spec.groups, how["QUERIES"]), spec.heads),
                  (source, "kc", "block_mask", "indices"),
                  (spec.groups, spec.blocks, spec.H, spec.ball // spec.group, spec.ball // spec.block),
                  TOP_K=spec.top_k, OWN=spec.mask_own_ball, MASKED=spec.masked, **how)  # fmt: skip


def forward_launch(spec):
    """`forward` as a launch of a plan, with the gated sum of all branches."""
    shared = _shared(spec.d, spec.block, spec.top_k, spec.masked, spec.group)
    return Launch(_forward, _grid(spec.N, spec.heads, shared),
                  ("q", "k", "v", "indices", "mask", "out", "selection_lse", "gate", "out", "compression"),
                  (spec.N, spec.H, LOG2E / math.sqrt(spec.d)), COMBINE=True, **shared)  # fmt: skip


def query_launch(spec):
    """`backward_q` as a launch of a plan, added to the other branches' and with the gate's gradient."""
    shared = _shared(spec.d, spec.block, spec.top_k, spec.masked, spec.group)
    scale = 1 / math.sqrt(spec.d)
    return Launch(_chosen_queries, _grid(spec.N, spec.heads, shared),
                  ("q", "k", "v", "indices", "mask", "dout", "selection_lse", "gate", "dq", "chosen_delta",
                   "chosen_factor", "dgate"),
                  (spec.N, spec.H, scale * LOG2E, scale), BRANCH=2, ADD=True, **shared)  # fmt: skip
