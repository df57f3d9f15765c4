"""Group compression that finds the selection's best tiles on its way.

With coarse queries that also score the blocks, compression and selection compute the same products. The softmax needs
each tile's maximum anyway, so the first pass of the selection (see `select`) costs four registers a row and no pass of
its own.
"""

import math

import torch
import triton
import triton.language as tl

from .select import TILE, insert, tile_best
from .tiles import LOG2E, as_bytes, block_d, load_rows, precision, store_rows


@triton.jit
def _attend_and_scan(Q, K, V, BlockMask, Out, Lse, Tiles, M, H, balls, scale,
                     D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr,
                     OWN: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
                     STAGES: tl.constexpr):
    """balls: blocks of a ball, which is how many coarse queries it has too."""
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    Q += head * M * D
    K += head * M * D
    V += head * M * D
    if MASKED:
        BlockMask += (head // H) * M
    q = load_rows(Q, rows, M, D, BLOCK_D, True)
    ball = rows // balls
    low = first // balls * balls
    high = (first + BLOCK_M - 1) // balls * balls + balls
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    top = tl.full([BLOCK_M], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_M], tl.float32)
    nowhere = tl.full([BLOCK_M], -1, tl.int32)
    v0, v1, v2, v3 = top, top, top, top
    i0, i1, i2, i3 = nowhere, nowhere, nowhere, nowhere
    for start in tl.range(0, M, TILE, num_stages=STAGES):
        cols = start + tl.arange(0, TILE)
        k = load_rows(K, cols, M, D, BLOCK_D, not EVEN)
        v = load_rows(V, cols, M, D, BLOCK_D, not EVEN)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if MASKED or not EVEN:
            keep = cols < M
            if MASKED:
                keep = keep & (tl.load(BlockMask + cols, mask=keep, other=0) != 0)
            s = tl.where(keep[None, :], s, float("-inf"))
        highest, best = tile_best(s, cols, start, low, high, ball, balls, OWN, TILE)
        here = tl.full([BLOCK_M], start // TILE, tl.int32)
        v0, i0, best, here = insert(v0, i0, best, here)
        v1, i1, best, here = insert(v1, i1, best, here)
        v2, i2, best, here = insert(v2, i2, best, here)
        v3, i3, best, here = insert(v3, i3, best, here)
        new_top = tl.maximum(top, highest * scale)
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        p = tl.exp2(s * scale - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(p, 1)
        acc = tl.dot(p.to(v.dtype), v, acc * shrink[:, None], input_precision=PRECISION)
        top = new_top
    read = total > 0
    acc = acc / tl.where(read, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    store_rows(Out + head * M * D, rows, acc, M, D, BLOCK_D)
    tl.store(Lse + head * M + rows, tl.where(read, lse, float("-inf")), mask=rows < M)
    where = Tiles + (head * M + rows) * 4
    tl.store(where, i0, mask=rows < M)
    tl.store(where + 1, i1, mask=rows < M)
    tl.store(where + 2, i2, mask=rows < M)
    tl.store(where + 3, i3, mask=rows < M)


def can_scan(q_coarse, top_k):
    """Whether the tiles found on the way serve: four are kept, and float32 scores must not be rounded to TF32."""
    return top_k <= 4 and block_d(q_coarse.shape[3]) <= 64 and precision(q_coarse.dtype) != "tf32"


def attend_and_scan(q_coarse, k_coarse, v_coarse, block_mask, ball_size, block_size, mask_own_ball, config=None):
    """out, lse of group compression, and the tiles that `select.select_blocks` takes."""
    B, H, M, d = q_coarse.shape
    out = torch.empty_like(q_coarse)
    lse = torch.empty(B, H, M, dtype=torch.float32, device=out.device)
    tiles = torch.empty(B, H, M, 4, dtype=torch.int32, device=out.device)
    rows, warps, stages = config or (64, 4, 3)
    _attend_and_scan[(triton.cdiv(M, rows), B * H)](
        q_coarse, k_coarse, v_coarse, as_bytes(block_mask), out, lse, tiles, M, H, ball_size // block_size,
        LOG2E / math.sqrt(d), D=d, BLOCK_D=block_d(d), BLOCK_M=rows, TILE=TILE, OWN=mask_own_ball,
        MASKED=block_mask is not None, EVEN=M % TILE == 0, PRECISION=precision(q_coarse.dtype), STAGES=stages,
        num_warps=warps, num_stages=stages)
    return out, lse, tiles
