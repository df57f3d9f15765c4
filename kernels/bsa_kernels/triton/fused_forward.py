"""The forward of Ball Sparse Attention as three launches: what does not wait for one another shares a launch.

1. ball attention, beside the mean pooling of blocks;
2. compression, beside the first pass of the selection (or one with the other, see `coarse`);
3. the selection's second pass, attention to what it chose, and the gated sum of all branches.

Programs of two kinds share a grid by their number. Few points need this to fill the chip and to keep the count of
launches down; many points lose nothing.
"""

import math
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from . import attend, per_query, select, selection
from .attend import attend_tile, forward_config
from .coarse import attend_and_scan_tile
from .few import few_launches, fits
from .launch import Launch, Plan, Room
from .pool import _pool, pool_rows, pool_tile
from .select import scan_tile
from .tiles import LOG2E, block_d, is_hopper, precision


class Spec(NamedTuple):
    """Everything that two calls must share to share a plan."""

    B: int
    H: int
    N: int
    d: int
    dtype: torch.dtype
    device: torch.device
    pos_d: int
    slope_dtype: torch.dtype | None
    masked: bool
    given: tuple[bool, bool, bool]
    ball: int
    block: int
    group: int
    top_k: int
    group_compression: bool
    coarse_scores: bool
    mask_own_ball: bool
    tf32: bool
    aligned: bool

    @property
    def blocks(self):
        return self.N // self.block

    @property
    def groups(self):
        return self.N // self.group

    @property
    def heads(self):
        return self.B * self.H


@triton.jit
def _ball_and_pool(Q, K, V, Mask, Pos, Slope, Out, Lse, PQ, PK, PV, BlockMask, N, M, H, ball_tiles, scale,
                   D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                   BALL: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, LAZY: tl.constexpr,
                   PRECISION: tl.constexpr, STAGES: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr):
    tile = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    if tile < ball_tiles:
        attend_tile(tile, head, Q, K, V, Out, Lse, Mask, Pos, Slope, N, N, H, scale, D, BLOCK_D, BLOCK_M, BLOCK_N,
                    BALL, POS_D, MASKED, True, True, LAZY, PRECISION, STAGES)
    else:
        pool_tile(tile - ball_tiles, head, Q, K, V, Mask, PQ, PK, PV, BlockMask, M, H, D, BLOCK_D, ROWS, SIZE)


@triton.jit
def _attend_beside_scan(Q, ScoreQ, K, V, BlockMask, Out, Lse, Tiles, NQ, M, G, H, balls_q: tl.constexpr,
                        balls_k: tl.constexpr, scan_tiles, scale,
                        D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                        SCAN_M: tl.constexpr, TILE: tl.constexpr, OWN: tl.constexpr, MASKED: tl.constexpr,
                        EVEN_Q: tl.constexpr, EVEN_K: tl.constexpr, EVEN_TILE: tl.constexpr, LAZY: tl.constexpr,
                        PRECISION: tl.constexpr, STAGES: tl.constexpr):
    tile = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    if tile < scan_tiles:
        scan_tile(tile, head, ScoreQ, K, BlockMask, Tiles, G, M, H, balls_q, balls_k, D, BLOCK_D, SCAN_M, TILE, OWN,
                  MASKED, EVEN_TILE, STAGES)
    else:
        attend_tile(tile - scan_tiles, head, Q, K, V, Out, Lse, BlockMask, None, None, NQ, M, H, scale, D, BLOCK_D,
                    BLOCK_M, BLOCK_N, 0, 0, MASKED, EVEN_Q, EVEN_K, LAZY, PRECISION, STAGES)


@triton.jit
def _attend_and_scan(Q, K, V, BlockMask, Out, Lse, Tiles, M, H, balls: tl.constexpr, scale,
                     D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr,
                     OWN: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr, LAZY: tl.constexpr,
                     PRECISION: tl.constexpr, STAGES: tl.constexpr):
    attend_and_scan_tile(tl.program_id(0), tl.program_id(1).to(tl.int64), Q, K, V, BlockMask, Out, Lse, Tiles, M, H,
                         balls, scale, D, BLOCK_D, BLOCK_M, TILE, OWN, MASKED, EVEN, LAZY, PRECISION, STAGES)


def crowded(spec, registers=128):
    """Option that lets more programs share a multiprocessor: at 128 registers four of four warps, at 168 three."""
    return {"maxnreg": registers} if spec.dtype != torch.float32 and spec.d <= 32 and is_hopper(spec.device) else {}


def score_source(spec):
    """Which tensor scores the blocks: the coarse queries, the queries themselves, or means of groups."""
    pooled = not spec.given[0] and spec.group == spec.block
    return "qc" if spec.coarse_scores or pooled else "q" if spec.group == 1 else "score_q"


def at_once(spec):
    """Whether every query or group looks through all blocks at once, see `per_query`; there is no first pass then."""
    return per_query.picks(spec.blocks, spec.group, spec.top_k)


def saved_room(B, H, N, d, dtype, masked, given, block, group, top_k, group_compression):
    """What the backward needs beside the inputs, in one allocation. Sizes may be symbolic."""
    blocks = N // block
    rows = blocks if group_compression else N
    parts = dict(compression=((B, H, rows, d), dtype), ball_lse=((B, H, N), torch.float32),
                 compression_lse=((B, H, rows), torch.float32), selection_lse=((B, H, N), torch.float32))
    if not per_query.forgets(blocks, group, top_k):
        parts["indices"] = (B, H, N // group, top_k), torch.int32
    for name, own, kept in zip(("qc", "kc", "vc"), given, (group_compression, True, True)):
        if kept and not own:
            parts[name] = (B, H, blocks, d), dtype
    if masked:
        parts["block_mask"] = (B, blocks), torch.uint8
    return Room(parts)


def room_of(spec):
    return saved_room(spec.B, spec.H, spec.N, spec.d, spec.dtype, spec.masked, spec.given, spec.block, spec.group,
                      spec.top_k, spec.group_compression)


def forward_plan(spec):
    """Launches from (q, k, v, gate, positions, slope, mask, qc, kc, vc) to out and the saved room."""
    kept = max(4, triton.next_power_of_2(spec.top_k))
    saved = room_of(spec)
    source = score_source(spec)
    few = fits(spec, source)
    scratch = {} if few or at_once(spec) else dict(tiles=((spec.B, spec.H, spec.groups, kept), torch.int32))
    if "indices" not in saved.parts:
        scratch["indices"] = (spec.B, spec.H, spec.groups, spec.top_k), torch.int16
    if source == "score_q":
        scratch["score_q"] = (spec.B, spec.H, spec.groups, spec.d), spec.dtype
    pools = [name for name, own in zip(("qc", "kc", "vc"), spec.given) if not own]
    if "qc" in pools and not (source == "qc" or spec.group_compression):
        pools.remove("qc")  # nobody asks for it
    if "qc" in pools and "qc" not in saved.parts:
        scratch["qc"] = (spec.B, spec.H, spec.blocks, spec.d), spec.dtype
    rooms = dict(saved=saved, scratch=Room(scratch))
    first = [] if few else [_first_launch(spec, pools)]
    if source == "score_q":
        rows = pool_rows(spec.groups, spec.heads)
        first.append(Launch(_pool, (triton.cdiv(spec.groups, rows), spec.heads),
                            ("q", None, None, "mask", "score_q", None, None, None), (spec.groups, spec.H), D=spec.d,
                            BLOCK_D=block_d(spec.d), ROWS=rows, SIZE=spec.group, num_warps=4))
    if few:
        return Plan([*first, *few_launches(spec, pools, source)], rooms)
    return Plan([*first, *_coarse_launches(spec, kept, source)], rooms)


def _first_launch(spec, pools):
    rows, cols, warps, stages = forward_config(spec.d, spec.ball, spec.dtype)
    tiles, pool = spec.N // rows, pool_rows(spec.blocks, spec.heads)
    others = triton.cdiv(spec.blocks, pool) if pools or spec.masked else 0
    into = (name if name in pools else None for name in ("qc", "kc", "vc"))
    return Launch(
        _ball_and_pool, (tiles + others, spec.heads),
        ("q", "k", "v", "mask", "positions", "slope", "out", "ball_lse", *into, "block_mask"),
        (spec.N, spec.blocks, spec.H, tiles, LOG2E / math.sqrt(spec.d)),
        D=spec.d, BLOCK_D=block_d(spec.d), BLOCK_M=rows, BLOCK_N=cols, BALL=spec.ball, POS_D=spec.pos_d,
        MASKED=spec.masked, LAZY=spec.dtype == torch.bfloat16, PRECISION=precision(spec.dtype), STAGES=stages,
        ROWS=pool, SIZE=spec.block, num_warps=warps, num_stages=stages)  # fmt: skip


def _coarse_launches(spec, kept, source):
    rows, cols, warps, stages = forward_config(spec.d, 0, spec.dtype)
    scan_rows, tile, scan_warps, scan_stages = select.scan_config(spec.d, kept, spec.dtype)
    balls = spec.ball // spec.group, spec.ball // spec.block
    queries, count = ("qc", spec.blocks) if spec.group_compression else ("q", spec.N)
    scale = LOG2E / math.sqrt(spec.d)
    common = dict(D=spec.d, BLOCK_D=block_d(spec.d), OWN=spec.mask_own_ball, MASKED=spec.masked)
    how = dict(LAZY=spec.dtype == torch.bfloat16, PRECISION=precision(spec.dtype))
    if at_once(spec):
        coarse = [Launch(
            attend._forward, (triton.cdiv(count, rows), spec.heads),
            (queries, "kc", "vc", "compression", "compression_lse", "block_mask", None, None),
            (count, spec.blocks, spec.H, scale), D=spec.d, BLOCK_D=block_d(spec.d), BLOCK_M=rows, BLOCK_N=cols,
            RANGE=0, POS_D=0, MASKED=spec.masked, EVEN_Q=count % rows == 0, EVEN_K=spec.blocks % cols == 0,
            STAGES=stages, num_warps=warps, num_stages=stages, **crowded(spec), **how)]  # fmt: skip
    elif kept == 4 and queries == source == "qc" and block_d(spec.d) <= 64 and precision(spec.dtype) != "tf32":
        coarse = [Launch(
            _attend_and_scan, (triton.cdiv(count, scan_rows), spec.heads),
            ("qc", "kc", "vc", "block_mask", "compression", "compression_lse", "tiles"),
            (spec.blocks, spec.H, balls[1], scale), BLOCK_M=scan_rows, TILE=tile, EVEN=spec.blocks % tile == 0,
            STAGES=scan_stages, num_warps=scan_warps, num_stages=scan_stages, **crowded(spec), **common,
            **how)]  # fmt: skip
    else:
        together = kept == 4 and warps == scan_warps
        scans = triton.cdiv(spec.groups, scan_rows) if together else 0
        coarse = [Launch(
            _attend_beside_scan, (scans + triton.cdiv(count, rows), spec.heads),
            (queries, source, "kc", "vc", "block_mask", "compression", "compression_lse", "tiles"),
            (count, spec.blocks, spec.groups, spec.H, *balls, scans, scale), BLOCK_M=rows, BLOCK_N=cols,
            SCAN_M=scan_rows, TILE=tile, EVEN_Q=count % rows == 0, EVEN_K=spec.blocks % cols == 0,
            EVEN_TILE=spec.blocks % tile == 0, STAGES=stages, num_warps=warps, num_stages=stages, **crowded(spec),
            **common, **how)]  # fmt: skip
        if not together:
            coarse.append(Launch(
                select._scan, (triton.cdiv(spec.groups, scan_rows), spec.heads),
                (source, "kc", "block_mask", "tiles"), (spec.groups, spec.blocks, spec.H, *balls), BLOCK_M=scan_rows,
                TILE=tile, KEPT=kept, EVEN=spec.blocks % tile == 0, STAGES=scan_stages, num_warps=scan_warps,
                num_stages=scan_stages, **common))  # fmt: skip
    return coarse + _selection_launches(spec, kept, source, select.kept_tile(kept, tile, spec.dtype), balls)


def _selection_launches(spec, kept, source, part, balls):
    shared = selection.constants(spec.d, spec.block, spec.group, spec.top_k, spec.dtype, spec.masked)
    wide = spec.dtype == torch.float32 and block_d(spec.d) >= 64  # whose products leave no registers for it
    inside = not (wide or at_once(spec) or per_query.attends(spec)) and kept == 4 and shared["GROUPS"] * part <= 64
    pick = []
    if not inside:
        rows, warps, depth = select.pick_config(kept * part)
        pick = [Launch(
            select._pick, (triton.cdiv(spec.groups, rows), spec.heads),
            (source, "kc", "block_mask", "tiles", "indices"), (spec.groups, spec.blocks, spec.H, *balls), ROWS=rows,
            D=spec.d, CHUNK_D=depth, TILE=part, KEPT=kept, TOP_K=spec.top_k, OWN=spec.mask_own_ball,
            MASKED=spec.masked, num_warps=warps)]  # fmt: skip
    if at_once(spec):
        pick = [per_query.pick_launch(spec, source)]
    if per_query.attends(spec):
        return [*pick, per_query.forward_launch(spec)]
    return [*pick, Launch(
        selection._forward, (triton.cdiv(spec.groups, shared["GROUPS"]), spec.heads),
        ("q", "k", "v", "indices", "mask", "out", "selection_lse", "gate", "out", "compression", source, "kc",
         "block_mask", "tiles" if inside else None),
        (spec.N, spec.groups, spec.blocks, spec.H, *balls, LOG2E / math.sqrt(spec.d)), COMBINE=True,
        REPEAT=spec.block if spec.group_compression else 1, PICK=part if inside else 0, OWN=spec.mask_own_ball,
        **shared)]  # fmt: skip
