"""Softmax attention of every query over one contiguous range of keys: its ball, or all coarse keys. Forward.

Ball attention and compression are the same loop: only the range, the distance bias and the masks differ, and each of
those is a compile-time switch, so that ungrouped compression, which is bound by exponentials, pays for nothing it does
not use. (Taking a quarter of them by a cubic on the multiply-add units, as is done on newer chips, was 6 % slower on
an H200: the exponential unit is not the only one that is busy.)

LAZY: no running maximum. Exponentials of the scores themselves fit float32 and bfloat16 as long as no row's sum leaves
2**-100 .. 2**100, as good as always; where one does, the rows are done again with the maximum taken out.
"""

import math

import torch
import triton
import triton.language as tl

from .tiles import LOG2E, as_bytes, block_d, coordinates, distances, load_rows, part_sums, precision, store_rows


@triton.jit
def _accumulate(q, acc, top, total, base_k, base_v, KeyMask, Pos, slope, qx, qy, qz, start, limit, scale,
                D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                POS_D: tl.constexpr, MASKED: tl.constexpr, CHECK: tl.constexpr, LAZY: tl.constexpr,
                PRECISION: tl.constexpr):
    """One tile of keys into the running softmax (scores in units of log 2; total in parts)."""
    cols = start + tl.arange(0, BLOCK_N)
    k = load_rows(base_k, cols, limit, D, BLOCK_D, CHECK)
    v = load_rows(base_v, cols, limit, D, BLOCK_D, CHECK)
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if POS_D > 0:
        kx, ky, kz = coordinates(Pos, cols, cols < limit, POS_D)
        s += slope * distances(qx, qy, qz, kx, ky, kz, POS_D)
    if MASKED or CHECK:
        keep = cols < limit
        if MASKED:
            keep = keep & (tl.load(KeyMask + cols, mask=keep, other=0) != 0)
        s = tl.where(keep[None, :], s, float("-inf"))
    if LAZY:
        p = tl.exp2(s)
    else:
        new_top = tl.maximum(top, tl.max(s, 1))
        safe = tl.where(new_top == float("-inf"), 0.0, new_top)
        p = tl.exp2(s - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink[:, None]
        acc = acc * shrink[:, None]
        top = new_top
    total += part_sums(p, BLOCK_M, BLOCK_N, total.shape[1])
    acc = tl.dot(p.to(v.dtype), v, acc, input_precision=PRECISION)
    return acc, top, total


@triton.jit
def read_range(q, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale,
                D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_K: tl.constexpr, LAZY: tl.constexpr,
                PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """Sum of weighted values, the exponent taken out of it, and the sum of weights, over the keys low..high."""
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    top = tl.zeros([BLOCK_M], tl.float32)
    if not LAZY:
        top += float("-inf")
    total = tl.zeros([BLOCK_M, 1 if q.dtype == tl.float32 else 4], tl.float32)
    full = high
    if not EVEN_K:
        full = low + (high - low) // BLOCK_N * BLOCK_N
    for start in tl.range(low, full, BLOCK_N, num_stages=STAGES):
        acc, top, total = _accumulate(q, acc, top, total, K, V, KeyMask, Pos, slope, qx, qy, qz, start, high, scale,
                                      D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, MASKED, False, LAZY, PRECISION)
    if not EVEN_K:
        if full < high:
            acc, top, total = _accumulate(q, acc, top, total, K, V, KeyMask, Pos, slope, qx, qy, qz, full, high, scale,
                                          D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, MASKED, True, LAZY, PRECISION)
    return acc, top, tl.sum(total, 1)


@triton.jit
def in_range(total, rows, limit):
    """Whether every row's sum is one that a lazy softmax can be trusted with; NaN is not."""
    trusted = ((total > 7.9e-31) & (total < 1.2e30)) | (rows >= limit)
    return tl.min(tl.where(trusted, 1, 0), 0) == 1


@triton.jit
def attend_tile(tile, head, Q, K, V, Out, Lse, KeyMask, Pos, Slope, NQ, NK, H, scale,
                D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
                EVEN_K: tl.constexpr, LAZY: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """BLOCK_M queries of one head. `_forward` says what the switches mean."""
    first = tile * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    K += head * NK * D
    V += head * NK * D
    if MASKED:
        KeyMask += (head // H) * NK
    slope = 0.0
    qx = tl.zeros([BLOCK_M], tl.float32)
    qy = tl.zeros([BLOCK_M], tl.float32)
    qz = tl.zeros([BLOCK_M], tl.float32)
    if POS_D > 0:
        Pos += (head // H) * NK * POS_D
        slope = tl.load(Slope + head % H).to(tl.float32) * 1.4426950408889634
        qx, qy, qz = coordinates(Pos, rows, rows < NQ, POS_D)
    q = load_rows(Q + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
    if RANGE > 0:
        low = first // RANGE * RANGE
        high = low + RANGE
    else:
        low = 0
        high = NK
    acc, top, total = read_range(q, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale, D, BLOCK_D, BLOCK_M,
                                  BLOCK_N, POS_D, MASKED, EVEN_K, LAZY, PRECISION, STAGES)
    if LAZY:
        if not in_range(total, rows, NQ):
            acc, top, total = read_range(q, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale, D, BLOCK_D,
                                          BLOCK_M, BLOCK_N, POS_D, MASKED, EVEN_K, False, PRECISION, STAGES)
    read = total > 0
    acc = acc / tl.where(read, total, 1.0)[:, None]
    lse = (top + tl.log2(tl.where(read, total, 1.0))) * 0.6931471805599453
    if MASKED and RANGE > 0:  # a masked query of a ball reads nothing
        read = read & (tl.load(KeyMask + rows, mask=rows < NQ, other=0) != 0)
        acc = tl.where(read[:, None], acc, 0.0)
    store_rows(Out + head * NQ * D, rows, acc, NQ, D, BLOCK_D)
    tl.store(Lse + head * NQ + rows, tl.where(read, lse, float("-inf")), mask=rows < NQ)


@triton.jit
def _forward(Q, K, V, Out, Lse, KeyMask, Pos, Slope, NQ, NK, H, scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
             RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
             EVEN_K: tl.constexpr, LAZY: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """RANGE: ball size, whose points (and mask, which is then also the queries') the keys are; 0 reads all keys."""
    attend_tile(tl.program_id(0), tl.program_id(1).to(tl.int64), Q, K, V, Out, Lse, KeyMask, Pos, Slope, NQ, NK, H,
                scale, D, BLOCK_D, BLOCK_M, BLOCK_N, RANGE, POS_D, MASKED, EVEN_Q, EVEN_K, LAZY, PRECISION, STAGES)


def forward_config(d, ball, dtype):
    """Tile sizes (BLOCK_M, BLOCK_N, warps, stages) of the forward kernel, the fastest seen on an H200.

    ball = 0: compression.
    """
    wide = block_d(d)
    if dtype == torch.float32:
        rows, cols, warps, stages = (64, 32, 4, 2) if wide < 64 else (32, 32, 4, 2)
    elif ball:
        rows, cols, warps, stages = (64, 128, 4, 2) if wide <= 64 else (64, 64, 4, 2)
    else:
        rows, cols, warps, stages = (64, 128 if wide < 64 else 64, 4, 3 if wide <= 64 else 2)
    if ball:
        rows, cols = min(rows, ball), min(cols, ball)
    return rows, cols, warps, stages


def forward(q, k, v, key_mask=None, positions=None, slope=None, *, ball=0, config=None):
    """Attention of q (B,H,NQ,d) over k, v (B,H,NK,d).

    With ball > 0 each query reads the keys of its own ball (NQ = NK) with the bias slope * distance and masked queries
    give zeros; otherwise it reads all keys. key_mask (B,NK). Returns out and the natural log-sum-exp (B,H,NQ) float32.
    """
    B, H, NQ, d = q.shape
    NK = k.shape[2]
    out = torch.empty_like(q)
    lse = torch.empty(B, H, NQ, dtype=torch.float32, device=q.device)
    rows, cols, warps, stages = config or forward_config(d, ball, q.dtype)
    biased = slope is not None
    _forward[(triton.cdiv(NQ, rows), B * H)](
        q, k, v, out, lse, as_bytes(key_mask), positions if biased else None, slope, NQ, NK, H, LOG2E / math.sqrt(d),
        D=d, BLOCK_D=block_d(d), BLOCK_M=rows, BLOCK_N=cols, RANGE=ball, POS_D=positions.shape[-1] if biased else 0,
        MASKED=key_mask is not None, EVEN_Q=NQ % rows == 0, EVEN_K=(ball or NK) % cols == 0,
        LAZY=q.dtype == torch.bfloat16, PRECISION=precision(q.dtype), STAGES=stages, num_warps=warps,
        num_stages=stages)
    return out, lse
