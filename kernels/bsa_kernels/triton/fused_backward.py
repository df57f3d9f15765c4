"""The backward of Ball Sparse Attention as three launches; see `fused_forward`.

1. gradients of the queries from ball and compression, beside the inverse index of the selection;
2. gradients of the keys of ball and compression, beside the queries' gradient from the selection;
3. gradients of the selected keys, and whatever is left to sum.

The gate of a branch is applied on the way, so that no gated gradient is stored. Many queries read a coarse key: the
logarithm of their gate is taken off their log-sum-exp once, which gates every probability for nothing.
"""

import math

import torch
import triton
import triton.language as tl

from . import carry, inverse, per_query, popular, selection
from .attend_backward import backward_configs, key_tile, load_lse, pieces_of, read_back
from .carry import store_carried
from .few import FEW
from .fused_forward import crowded, room_of
from .inverse import invert_bucket
from .launch import Launch, Plan, Room
from .pool import ungroup
from .selection_backward import _chosen_keys, _chosen_queries, chosen_queries, key_constants
from .tiles import LOG2E, block_d, coordinates, is_hopper, load_rows, precision, store_rows


@triton.jit
def _for_keys(tile, tiles, head, rows, real, lse, delta, share, gate, Shift, Negative, Factor, Delta, DGate, N,
              scale, BRANCH: tl.constexpr):
    """Stores what `key_tile` needs to know of a tile of queries, and the gate's gradient."""
    used = (gate != 0) & real
    if Factor is not None:
        tl.store(Shift + head * N + rows, tl.where(used, lse, float("inf")))
        tl.store(Factor + head * N + rows, gate * share)
    else:
        shift = tl.where(used, lse - tl.log2(tl.where(used, tl.abs(gate), 1.0)), float("inf"))
        tl.store(Negative + head * tiles + tile, tl.max(tl.where(gate < 0, 1, 0), 0))
        if Delta is None:
            store_carried(Shift + head * N * 8, rows, shift, delta, scale, N)
        else:
            tl.store(Shift + head * N + rows, shift)
    if Delta is not None:
        tl.store(Delta + head * N + rows, delta)
    tl.store(DGate + (head * N + rows) * 3 + BRANCH, delta.to(DGate.dtype.element_ty))


@triton.jit
def _ball_queries(tile, tiles, head, rows, real, q, do, K, V, Mask, Pos, Slope, Lse, Gate, Delta, Shift, Negative,
                  Factor, DGate, DSlopes, N, H, scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
                  BLOCK_N: tl.constexpr, BALL: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr,
                  PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """Gated dq of BLOCK_M queries from their ball."""
    first = tile * BLOCK_M
    low = first // BALL * BALL
    slope = 0.0
    qx = tl.zeros([BLOCK_M], tl.float32)
    qy = tl.zeros([BLOCK_M], tl.float32)
    qz = tl.zeros([BLOCK_M], tl.float32)
    if MASKED:
        Mask += (head // H) * N
    if POS_D > 0:
        Pos += (head // H) * N * POS_D
        slope = tl.load(Slope + head % H).to(tl.float32) * 1.4426950408889634
        qx, qy, qz = coordinates(Pos, rows, rows < N, POS_D)
    lse = load_lse(Lse + head * N, rows, N, False)
    dq, delta, dslope, share = read_back(
        q, do, lse, tl.zeros([BLOCK_M], tl.float32), K + head * N * D, V + head * N * D, Mask, Pos, slope, qx, qy, qz,
        low, low + BALL, scale, D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, MASKED, True, False, False, PRECISION, STAGES)
    gate = tl.load(Gate + (head * N + rows) * 3).to(tl.float32)
    _for_keys(tile, tiles, head, rows, real, lse, delta, share, gate, Shift, Negative, Factor, Delta, DGate, N, scale,
              0)
    if POS_D > 0:
        tl.store(DSlopes + head * tiles + tile, tl.sum(dslope * gate, 0))
    return dq * gate[:, None]


@triton.jit
def _compression_queries(tile, tiles, head, rows, real, q, do, K, V, BlockMask, Out, Lse, Gate, Delta, Shift, Negative,
                         Factor, DGate, N, M, H, scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
                         BLOCK_N: tl.constexpr, MASKED: tl.constexpr, EVEN_K: tl.constexpr, PRECISION: tl.constexpr,
                         STAGES: tl.constexpr):
    """Gated dq of BLOCK_M queries from all coarse keys, and what `key_tile` needs of them: Delta, Shift, Negative."""
    if MASKED:
        BlockMask += (head // H) * M
    o = load_rows(Out + head * N * D, rows, N, D, BLOCK_D, False)
    lse = load_lse(Lse + head * N, rows, N, False)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    zero = tl.zeros([BLOCK_M], tl.float32)
    dq, delta, dslope, share = read_back(
        q, do, lse, delta, K + head * M * D, V + head * M * D, BlockMask, None, 0.0, zero, zero, zero, 0, M, scale, D,
        BLOCK_D, BLOCK_M, BLOCK_N, 0, MASKED, EVEN_K, True, Delta is None, PRECISION, STAGES)
    gate = tl.load(Gate + (head * N + rows) * 3 + 1).to(tl.float32)
    _for_keys(tile, tiles, head, rows, real, lse, delta, share, gate, Shift, Negative, Factor, Delta, DGate, N, scale,
              1)
    return dq * gate[:, None]


@triton.jit
def _grouped_queries(tile, head, Q, K, V, Mask, BlockMask, Out, Lse, DOut, Gate, DQ, DOCoarse, Delta, Shift, Factor,
                     DGate, M, H, scale, out_scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
                     BLOCK_N: tl.constexpr, SIZE: tl.constexpr, MASKED: tl.constexpr, EVEN_K: tl.constexpr,
                     PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """dq of BLOCK_M coarse queries, and their gated dout, kept for `key_tile`."""
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    o, do = ungroup(head, rows, DOut, Gate, Mask, Out, DGate, M, H, D, BLOCK_D, BLOCK_M, SIZE)
    store_rows(DOCoarse + head * M * D, rows, do, M, D, BLOCK_D)
    if MASKED:
        BlockMask += (head // H) * M
    q = load_rows(Q + head * M * D, rows, M, D, BLOCK_D, True)
    lse = load_lse(Lse + head * M, rows, M, True)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    zero = tl.zeros([BLOCK_M], tl.float32)
    dq, delta, dslope, share = read_back(
        q, do, lse, delta, K + head * M * D, V + head * M * D, BlockMask, None, 0.0, zero, zero, zero, 0, M, scale, D,
        BLOCK_D, BLOCK_M, BLOCK_N, 0, MASKED, EVEN_K, True, False, PRECISION, STAGES)
    if Delta is None:
        store_carried(Shift + head * M * 8, rows, lse, delta, scale, M)
    else:
        tl.store(Delta + head * M + rows, delta, mask=rows < M)
        tl.store(Shift + head * M + rows, lse, mask=rows < M)
    if Factor is not None:
        tl.store(Factor + head * M + rows, share, mask=rows < M)
    store_rows(DQ + head * M * D, rows, dq * out_scale, M, D, BLOCK_D)


@triton.jit
def _queries(Q, K, V, QC, KC, VC, Mask, BlockMask, Pos, Slope, Compression, BallLse, CoarseLse, DOut, Gate,
             DQ, DQC, DOC, BallDelta, BallShift, BallNegative, BallFactor, CoarseDelta, Shift, Negative, Factor, DGate,
             DSlopes, N, M, H, coarse_tiles, tiles, scale, out_scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
             BALL_N: tl.constexpr, SIZE: tl.constexpr, BALL: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr,
             GROUPED: tl.constexpr, EVEN_K: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr,
             BALL_STAGES: tl.constexpr, DEPENDENT: tl.constexpr):
    """Programs: tiles of coarse queries (where GROUPED), tiles of queries. DEPENDENT: the next launch may begin."""
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
    part = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    tile = part - coarse_tiles
    if tile >= 0:
        rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
        q = load_rows(Q + head * N * D, rows, N, D, BLOCK_D, False)
        do = load_rows(DOut + head * N * D, rows, N, D, BLOCK_D, False)
        real = rows < N
        if MASKED:
            real = tl.load(Mask + (head // H) * N + rows) != 0
            do = tl.where(real[:, None], do, 0.0).to(do.dtype)
        dq = _ball_queries(tile, tiles, head, rows, real, q, do, K, V, Mask, Pos, Slope, BallLse, Gate, BallDelta,
                           BallShift, BallNegative, BallFactor, DGate, DSlopes, N, H, scale, D, BLOCK_D, BLOCK_M,
                           BALL_N, BALL, POS_D, MASKED, PRECISION, BALL_STAGES)
        if not GROUPED:
            dq += _compression_queries(tile, tiles, head, rows, real, q, do, KC, VC, BlockMask, Compression, CoarseLse,
                                       Gate, CoarseDelta, Shift, Negative, Factor, DGate, N, M, H, scale, D, BLOCK_D,
                                       BLOCK_M, BLOCK_N, MASKED, EVEN_K, PRECISION, STAGES)
        if MASKED:
            dq = tl.where(real[:, None], dq, 0.0)
        store_rows(DQ + head * N * D, rows, dq * out_scale, N, D, BLOCK_D)
    else:
        if GROUPED:
            _grouped_queries(part, head, QC, KC, VC, Mask, BlockMask, Compression, CoarseLse, DOut, Gate, DQC,
                             DOC, CoarseDelta, Shift, Factor, DGate, M, H, scale, out_scale, D, BLOCK_D, BLOCK_M,
                             BLOCK_N, SIZE, MASKED, EVEN_K, PRECISION, STAGES)


@triton.jit
def _keys(Q, K, V, QC, KC, VC, Mask, BlockMask, Pos, Slope, DOut, DOC, Gate, BallDelta, BallShift, BallNegative,
          BallFactor, CoarseDelta, Shift, Negative, Factor, DK, DV, DKC, DVC, Indices, ChosenLse, DQ, ChosenDelta,
          DGate, DQC, Rough, Order, Bounds, N, M, G, BH, H, buckets, coarse_tiles, pieces, piece_size, ball_tiles,
          slots, scale, out_scale,
          D: tl.constexpr, BLOCK_D: tl.constexpr, COARSE_M: tl.constexpr, COARSE_N: tl.constexpr,
          BALL_M: tl.constexpr, BALL_N: tl.constexpr, BALL: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr,
          GROUPED: tl.constexpr, EVEN_Q: tl.constexpr, EVEN_K: tl.constexpr, PRECISION: tl.constexpr,
          STAGES: tl.constexpr, BALL_STAGES: tl.constexpr, COARSE: tl.constexpr, BALLS: tl.constexpr,
          CHOSEN: tl.constexpr, BLOCK: tl.constexpr, GROUP: tl.constexpr, TOP_K: tl.constexpr, GROUPS: tl.constexpr,
          SLOTS: tl.constexpr, POOLED: tl.constexpr, FLAGGED: tl.constexpr, BUCKET: tl.constexpr, RUNS: tl.constexpr,
          FEW: tl.constexpr, SIGNS: tl.constexpr, DEPENDENT: tl.constexpr):
    """Programs: buckets of the inverse index, tiles of groups (both where CHOSEN), tiles of coarse keys in pieces
    (COARSE), tiles of the balls' keys (BALLS). DEPENDENT: it was let begin ahead of what it needs.
    """
    if DEPENDENT:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    part = tl.program_id(0) - buckets
    head = tl.program_id(1).to(tl.int64)
    tile = part - coarse_tiles * pieces
    if part < 0:
        if CHOSEN:
            invert_bucket(part + buckets, tl.program_id(1), Indices, Rough, Order, Bounds, slots, M, BUCKET, RUNS, FEW)
    elif tile < 0:
        piece = part % pieces
        if COARSE and GROUPED:
            key_tile(part // pieces, head, piece, QC, KC, VC, DOC, Shift, CoarseDelta, Factor, None, None, BlockMask,
                     None, None, DKC, DVC, M, M, BH, H, scale, out_scale, piece_size, D, BLOCK_D, COARSE_M, COARSE_N,
                     0, 0, MASKED, EVEN_Q, EVEN_K, -1, True, 1, 0, PRECISION, STAGES)
        elif COARSE:
            key_tile(part // pieces, head, piece, Q, KC, VC, DOut, Shift, CoarseDelta, Factor, Gate, Negative,
                     BlockMask, None, None, DKC, DVC, N, M, BH, H, scale, out_scale, piece_size, D, BLOCK_D, COARSE_M,
                     COARSE_N, 0, 0, MASKED, EVEN_Q, EVEN_K, 1 if Factor is None else -1, True, FLAGGED, SIGNS,
                     PRECISION, STAGES)
    elif tile < ball_tiles:
        if BALLS:
            key_tile(tile, head, 0, Q, K, V, DOut, BallShift, BallDelta, BallFactor, Gate, BallNegative, Mask, Pos,
                     Slope, DK, DV, N, N, BH, H, scale, out_scale, N, D, BLOCK_D, BALL_M, BALL_N, BALL, POS_D, MASKED,
                     True, True, 0 if Factor is None else -1, True, FLAGGED, SIGNS, PRECISION,
                     BALL_STAGES)
    else:
        if CHOSEN:
            chosen_queries(tile - ball_tiles, head, Q, K, V, Indices, Mask, DOut, ChosenLse, Gate, DQ, ChosenDelta,
                           None, DGate, DQC, N, G, H, scale, out_scale, D, BLOCK_D, BLOCK, GROUP, TOP_K, GROUPS, SLOTS,
                           4, MASKED, 2, True, POOLED, PRECISION)


TOGETHER = 1 << 16  # points times heads up to which roles share launches; beyond, each is better off by its own size


def starts_early(spec, together):
    """Whether a launch may begin before the one ahead of it has ended, and wait inside (compute capability 9.0 on).

    On an H100 that saves 3 of 125 microseconds at 4096 points and costs one of 48 at 1024.
    """
    return together and spec.device.type != "cpu" and spec.N * spec.heads > FEW


def parts_of(spec, together):
    """Tile sizes for queries and keys, and in how many pieces the loop over queries is cut."""
    hopper = is_hopper(spec.device)
    query, key = backward_configs(spec.d, 0, spec.dtype, hopper)
    ball_query, ball_key = backward_configs(spec.d, spec.ball, spec.dtype, hopper)
    if together and spec.d <= 32:
        key, ball_key = (64, 64, 4, 3), (min(64, spec.ball), min(64, spec.ball), 4, 1)  # warps that all roles share
    queries = spec.blocks if spec.group_compression else spec.N
    pieces = 1 if spec.given[1] or spec.given[2] else pieces_of(queries, spec.blocks, spec.heads, key, spec.device)
    return query, key, ball_query, ball_key, queries, pieces


def carried_delta(spec, together):
    """Name of the compression's delta, None where it and the log-sum-exp ride along in the products, see `carry`."""
    return None if not together and carry.pays(spec.d, spec.dtype, is_hopper(spec.device)) else "coarse_delta"


def scratch_room(spec, rows, queries, pieces, counted, delta):
    """What the launches hand each other."""
    fine, coarse, shape = (spec.B, spec.H, spec.N), (spec.B, spec.H, queries), (spec.B, spec.H, spec.blocks, spec.d)
    tiles = spec.heads, spec.N // rows
    parts = dict(ball_delta=(fine, torch.float32), ball_shift=(fine, torch.float32), ball_negative=(tiles, torch.int32),
                 chosen_delta=(fine, torch.float32), dslopes=(tiles, torch.float32))
    if delta:
        parts |= {delta: (coarse, torch.float32), "shift": (coarse, torch.float32)}
    else:
        parts["shift"] = (*coarse, carry.WIDTH), carry.DTYPE
    if not spec.group_compression:
        parts["negative"] = tiles, torch.int32
    else:
        parts["do_coarse"] = shape, spec.dtype
        if not spec.given[0]:
            parts["dqc"] = shape, spec.dtype
    if spec.dtype == torch.float32:
        parts |= dict(ball_factor=(fine, torch.float32), factor=(coarse, torch.float32),
                      chosen_factor=(fine, torch.float32))
    for name, own in zip(("dkc", "dvc"), spec.given[1:]):
        if not own:
            parts[name] = (shape, spec.dtype) if pieces == 1 else ((pieces, *shape), torch.float32)
    if chunks := popular.chunks_of(spec):
        parts["partial"] = (spec.heads, chunks, 2, spec.block, spec.d), torch.float32
    if counted:
        for name in ("rough", "order"):
            parts[name] = (spec.heads * spec.groups * spec.top_k,), torch.int32
        parts["bounds"] = (spec.heads * (spec.blocks + 1),), torch.int32
    return Room(parts)


def backward_plan(spec):
    """Launches from the inputs, what the forward saved and dout to all gradients."""
    slots = spec.groups * spec.top_k
    counted = not inverse.waits(spec.groups, spec.top_k, spec.blocks)
    together = spec.N * spec.heads <= TOGETHER and is_hopper(spec.device) and counted and _fits(spec)
    query, key, ball_query, ball_key, queries, pieces = parts_of(spec, together)
    rows = min(query[0], spec.ball)
    launches = [
        _query_launch(spec, query, ball_query, rows, together),
        *_key_launches(spec, key, ball_key, queries, pieces, rows, slots if counted else 0, together),
        *_chosen_key_launches(spec, pieces, spec.N // rows, slots, together),
    ]
    scratch = scratch_room(spec, rows, queries, pieces, counted, carried_delta(spec, together))
    return Plan(launches, dict(saved=room_of(spec), scratch=scratch))


def _fits(spec):
    """Whether every role does with four warps, and each of them can have a tile of the selection's queries."""
    groups, slots, _ = selection.config(spec.d, spec.block, spec.group, spec.top_k, spec.dtype, True)
    narrow = spec.dtype != torch.float32 and spec.d <= 64 and spec.group < 64 and groups * slots * spec.block <= 64
    return narrow and not per_query.attends(spec)


def _query_launch(spec, query, ball_query, rows, together):
    tiles = spec.N // rows
    coarse_tiles = triton.cdiv(spec.blocks, rows) if spec.group_compression else 0
    scale = 1 / math.sqrt(spec.d)
    return Launch(
        _queries, (coarse_tiles + tiles, spec.heads),
        ("q", "k", "v", "qc", "kc", "vc", "mask", "block_mask", "positions", "slope", "compression", "ball_lse",
         "compression_lse", "dout", "gate", "dq", "dqc", "do_coarse", "ball_delta", "ball_shift", "ball_negative",
         "ball_factor", carried_delta(spec, together), "shift", "negative", "factor", "dgate", "dslopes"),
        (spec.N, spec.blocks, spec.H, coarse_tiles, tiles, scale * LOG2E, scale),
        D=spec.d, BLOCK_D=block_d(spec.d), BLOCK_M=rows, BLOCK_N=query[1], BALL_N=ball_query[1], SIZE=spec.block,
        BALL=spec.ball, POS_D=spec.pos_d, MASKED=spec.masked, GROUPED=spec.group_compression,
        EVEN_K=spec.blocks % query[1] == 0, PRECISION=precision(spec.dtype), STAGES=query[3],
        BALL_STAGES=ball_query[3], DEPENDENT=starts_early(spec, together), num_warps=query[2],
        num_stages=query[3], **crowded(spec))  # fmt: skip


def _key_launches(spec, key, ball_key, queries, pieces, flagged, slots, together):
    scale = 1 / math.sqrt(spec.d)
    shared = selection.constants(spec.d, spec.block, spec.group, spec.top_k, spec.dtype, spec.masked, True)
    sort, collect = inverse.sizes(slots)
    buckets = triton.cdiv(spec.blocks, sort["BUCKET"])
    coarse_tiles = triton.cdiv(spec.blocks, key[1])
    ball_tiles = spec.N // ball_key[1]
    chosen_tiles = triton.cdiv(spec.groups, 4 * shared["GROUPS"])
    pooled = spec.block if spec.group_compression and not spec.given[0] else 0
    piece_size = triton.cdiv(triton.cdiv(queries, pieces), key[0]) * key[0]
    index = ("rough" if collect else None, "order", "bounds")

    early = dict(launch_pdl=True) if starts_early(spec, together) else {}

    def keys(coarse, balls, chosen, config, crowd, signs=0):
        tiles = buckets * chosen, coarse_tiles * coarse, ball_tiles * balls
        return Launch(
            _keys, (tiles[0] + tiles[1] * pieces + tiles[2] + chosen_tiles * chosen, spec.heads),
            ("q", "k", "v", "qc", "kc", "vc", "mask", "block_mask", "positions", "slope", "dout", "do_coarse", "gate",
             "ball_delta", "ball_shift", "ball_negative", "ball_factor", carried_delta(spec, together), "shift",
             "negative", "factor", "dk", "dv", "dkc", "dvc", "indices", "selection_lse", "dq", "chosen_delta", "dgate",
             "dqc", *(index if chosen else (None, None, None))),
            (spec.N, spec.blocks, spec.groups, spec.heads, spec.H, tiles[0], tiles[1], pieces, piece_size, tiles[2],
             slots, scale * LOG2E, scale),
            D=spec.d, BLOCK_D=block_d(spec.d), COARSE_M=key[0], COARSE_N=key[1], BALL_M=ball_key[0],
            BALL_N=ball_key[1], BALL=spec.ball, POS_D=spec.pos_d, MASKED=spec.masked, GROUPED=spec.group_compression,
            EVEN_Q=queries % key[0] == 0, EVEN_K=spec.blocks % key[1] == 0, PRECISION=precision(spec.dtype),
            STAGES=key[3], BALL_STAGES=ball_key[3], COARSE=coarse, BALLS=balls, CHOSEN=chosen, BLOCK=spec.block,
            GROUP=spec.group, TOP_K=spec.top_k, GROUPS=shared["GROUPS"], SLOTS=shared["SLOTS"], POOLED=pooled,
            FLAGGED=flagged, SIGNS=signs, DEPENDENT=bool(early), num_warps=config[2],
            num_stages=config[3], **early, **sort, **crowd)  # fmt: skip

    if together:
        return [keys(True, True, True, key, crowded(spec, 168))]
    invert = Launch(inverse._invert, (buckets, spec.heads), ("indices", *index), (slots, spec.blocks),
                    num_warps=4, **sort)
    chosen = Launch(
        _chosen_queries, (triton.cdiv(spec.groups, shared["GROUPS"]), spec.heads),
        ("q", "k", "v", "indices", "mask", "dout", "selection_lse", "gate", "dq", "chosen_delta", "chosen_factor",
         "dgate", "dqc"),
        (spec.N, spec.groups, spec.H, scale * LOG2E, scale), BRANCH=2, ADD=True, POOLED=pooled, **shared)
    if per_query.attends(spec):
        chosen = per_query.query_launch(spec)
    # The coarse keys take most of the time, and one loop is quicker than a choice of two.
    signs = (0,) if spec.group_compression or spec.dtype == torch.float32 else (1, 2)
    apart = [*(keys(True, False, False, key, {}, sign) for sign in signs),
             keys(False, True, False, ball_key, {}), chosen]
    return [invert, *apart] if slots else apart


def _chosen_key_launches(spec, pieces, tiles, slots, together):
    scale = 1 / math.sqrt(spec.d)
    pooled = [None if own else name for own, name in zip(spec.given[1:], ("dkc", "dvc"))]
    slope = ("dslopes", "dslope") if spec.pos_d else (None, None)
    early = dict(launch_pdl=True) if starts_early(spec, together) else {}
    chunks = popular.chunks_of(spec)
    how = dict(BRANCH=2, CHUNK=popular.chunk_of(spec) if chunks else 0, DEPENDENT=bool(early), **early)
    how |= key_constants(spec.d, spec.block, spec.group, spec.top_k, spec.dtype, spec.masked)
    inputs = ("q", "k", "v", "dout", "selection_lse", "chosen_delta", "chosen_factor", "gate")
    ahead = []
    if chunks:
        ahead = [Launch(
            popular.popular_keys, (chunks, spec.heads), (*inputs, "order", "bounds", "partial"),
            (spec.N, spec.blocks, slots, scale * LOG2E),
            **{name: value for name, value in how.items() if name != "MASKED"})]  # fmt: skip
    return [*ahead, Launch(
        _chosen_keys, (spec.blocks + (1 if spec.pos_d else 0), spec.heads),
        (*inputs, "mask", "order", "bounds", "partial" if chunks else None, "dk", "dv", *pooled, *slope),
        (spec.N, spec.blocks, spec.heads, spec.H, slots, tiles, scale * LOG2E, scale), ADD=True, PIECES=pieces,
        **how)]  # fmt: skip
