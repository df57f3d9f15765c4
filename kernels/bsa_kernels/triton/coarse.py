"""Group compression that finds the selection's best tiles on its way.

With coarse queries that also score the blocks, compression and selection compute the same products, so that the first
pass of the selection (see `select`) needs no products of its own.
"""

import triton
import triton.language as tl

from .attend import in_range, read_range
from .select import insert_parts, merge_parts
from .tiles import in_parts, load_rows, part_sums, store_rows


@triton.jit
def attend_and_scan_tile(tile, head, Q, K, V, BlockMask, Out, Lse, Tiles, M, H, balls: tl.constexpr, scale,
                         D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr,
                         OWN: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr, LAZY: tl.constexpr,
                         PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """BLOCK_M coarse queries of one head. balls: blocks of a ball, which is how many coarse queries it has too."""
    first = tile * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    K += head * M * D
    V += head * M * D
    if MASKED:
        BlockMask += (head // H) * M
    q = load_rows(Q + head * M * D, rows, M, D, BLOCK_D, True)
    ball = rows // balls
    low = first // balls * balls
    high = (first + BLOCK_M - 1) // balls * balls + balls
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    top = tl.zeros([BLOCK_M], tl.float32)
    if not LAZY:
        top += float("-inf")
    PARTS: tl.constexpr = 1 if q.dtype == tl.float32 else 4
    sums = tl.zeros([BLOCK_M, PARTS], tl.float32)
    v0 = tl.full([BLOCK_M, PARTS], float("-inf"), tl.float32)
    i0 = tl.full([BLOCK_M, PARTS], -1, tl.int32)
    v1, v2, v3 = v0, v0, v0
    i1, i2, i3 = i0, i0, i0
    for start in tl.range(0, M, TILE, num_stages=STAGES):
        cols = start + in_parts(TILE, PARTS)
        k = load_rows(K, cols, M, D, BLOCK_D, not EVEN)
        v = load_rows(V, cols, M, D, BLOCK_D, not EVEN)
        s = tl.dot(q, tl.trans(k), input_precision=PRECISION)
        if MASKED or not EVEN:
            keep = cols < M
            if MASKED:
                keep = keep & (tl.load(BlockMask + cols, mask=keep, other=0) != 0)
            s = tl.where(keep[None, :], s, float("-inf"))
        highest, v0, v1, v2, v3, i0, i1, i2, i3 = insert_parts(
            s, cols, start, low, high, ball, balls, v0, v1, v2, v3, i0, i1, i2, i3, BLOCK_M, TILE, PARTS, OWN)
        if LAZY:
            p = tl.exp2(s * scale)
        else:
            new_top = tl.maximum(top, tl.max(highest, 1) * scale)
            safe = tl.where(new_top == float("-inf"), 0.0, new_top)
            p = tl.exp2(s * scale - safe[:, None])
            shrink = tl.exp2(top - safe)
            sums = sums * shrink[:, None]
            acc = acc * shrink[:, None]
            top = new_top
        sums += part_sums(p, BLOCK_M, TILE, PARTS)
        acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
    total = tl.sum(sums, 1)
    if LAZY:
        if not in_range(total, rows, M):
            zero = tl.zeros([BLOCK_M], tl.float32)
            acc, top, total = read_range(q, K, V, BlockMask, None, 0.0, zero, zero, zero, 0, M, scale, D, BLOCK_D,
                                         BLOCK_M, TILE, 0, MASKED, EVEN, False, PRECISION, STAGES)
    read = total > 0
    acc = acc / tl.where(read, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    store_rows(Out + head * M * D, rows, acc, M, D, BLOCK_D)
    tl.store(Lse + head * M + rows, tl.where(read, lse, float("-inf")), mask=rows < M)
    merge_parts(Tiles + (head * M + rows) * 4, rows < M, v0, v1, v2, v3, i0, i1, i2, i3)
