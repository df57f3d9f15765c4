"""Softmax attention over one contiguous range of keys: backward, in two kernels and without atomics.

`_backward_q` owns a tile of queries and loops over their keys; `_backward_kv` owns a tile of keys and loops over the
queries that read them. Each recomputes the probabilities from the saved log-sum-exp. The gate of a branch is applied
here, so that no gated gradient is ever stored: with delta = sum(dout * out) taken before the gate, delta is the gate's
own gradient and the gradient of a score is gate * p * (dp - delta).
"""

import math

import torch
import triton
import triton.language as tl

from .carry import (
    DTYPE,
    PART,
    WIDTH,
    in_columns,
    in_shared,
    load_carried,
    load_with_carried,
    load_with_ones,
    ones_in,
    padded,
    pays,
    store_carried,
)
from .tiles import LOG2E, as_bytes, block_d, coordinates, distances, is_hopper, load_rows, precision, store_rows


@triton.jit
def load_lse(Lse, rows, limit, CHECK: tl.constexpr):
    """Log-sum-exp in units of log 2; +inf (probability zero) where a query reads nothing."""
    if CHECK:
        lse = tl.load(Lse + rows, mask=rows < limit, other=float("-inf"))
    else:
        lse = tl.load(Lse + rows)
    return tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)


@triton.jit
def _score_gradient(q, do, lse, delta, carried, dq, pull, dslope, reach, mass, K, V, KeyMask, Pos, slope, qx, qy, qz,
                    start, limit, scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
                    BLOCK_N: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, CHECK: tl.constexpr,
                    KNOWN: tl.constexpr, CARRIED: tl.constexpr, EXACT: tl.constexpr, PRECISION: tl.constexpr):
    """Adds one tile of keys to the sums of `read_back`."""
    cols = start + tl.arange(0, BLOCK_N)
    k = load_rows(K, cols, limit, D, BLOCK_D, CHECK)
    v = load_rows(V, cols, limit, D, BLOCK_D, CHECK)
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    if POS_D > 0:
        kx, ky, kz = coordinates(Pos, cols, cols < limit, POS_D)
        far = distances(qx, qy, qz, kx, ky, kz, POS_D)
        s += slope * far
    p = tl.exp2(s - lse[:, None])
    if MASKED or CHECK:
        keep = cols < limit
        if MASKED:
            keep = keep & (tl.load(KeyMask + cols, mask=keep, other=0) != 0)
        p = tl.where(keep[None, :], p, 0.0)
    dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
    if EXACT:
        mass += tl.sum(p, 1)
    if CARRIED:
        ds = p * tl.dot(carried, tl.trans(ones_in(BLOCK_N, 0, 16)), dp)
    elif KNOWN:
        ds = p * (dp - delta[:, None])
    else:
        ds = p * dp
        delta += tl.sum(ds, 1)
        pull = tl.dot(p.to(k.dtype), k, pull, input_precision=PRECISION)
        if POS_D > 0:
            reach += tl.sum(p * far, 1)
    if POS_D > 0:
        dslope += tl.sum(ds * far, 1)
    dq = tl.dot(ds.to(k.dtype), k, dq, input_precision=PRECISION)
    return dq, delta, pull, dslope, reach, mass


@triton.jit
def read_back(q, do, lse, delta, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale,
              D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
              POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_K: tl.constexpr, KNOWN: tl.constexpr,
              CARRIED: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """dq (without the scale), delta, the slope's gradient and 1 / sum(p) of each query, from the keys low..high.

    CARRIED: delta, which is KNOWN, comes off dp in a product as `carry` says; that pays where it is the only loop.
    Where delta is not KNOWN yet it is summed on the way, and what it will multiply is kept apart: sum(p k) and sum(p
    |r|). In float32 the sum of p is taken too and divided out: rounding leaves a large log-sum-exp off by more than
    the rest of the arithmetic is. Otherwise it counts as 1.
    """
    EXACT: tl.constexpr = q.dtype == tl.float32
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    pull = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    dslope = tl.zeros([BLOCK_M], tl.float32)
    reach = tl.zeros([BLOCK_M], tl.float32)
    mass = tl.zeros([BLOCK_M], tl.float32)
    carried = delta
    if CARRIED:
        carried = in_shared(in_columns(-delta, 16), K)
    full = high
    if not EVEN_K:
        full = low + (high - low) // BLOCK_N * BLOCK_N
    for start in tl.range(low, full, BLOCK_N, num_stages=STAGES):
        dq, delta, pull, dslope, reach, mass = _score_gradient(
            q, do, lse, delta, carried, dq, pull, dslope, reach, mass, K, V, KeyMask, Pos, slope, qx, qy, qz, start,
            high, scale, D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, MASKED, False, KNOWN, CARRIED, EXACT, PRECISION)
    if not EVEN_K:
        if full < high:
            dq, delta, pull, dslope, reach, mass = _score_gradient(
                q, do, lse, delta, carried, dq, pull, dslope, reach, mass, K, V, KeyMask, Pos, slope, qx, qy, qz, full,
                high, scale, D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, MASKED, True, KNOWN, CARRIED, EXACT, PRECISION)
    share = tl.full([BLOCK_M], 1.0, tl.float32)
    if EXACT:
        share = 1.0 / tl.where(mass > 0, mass, 1.0)
        dq = dq * share[:, None]
        dslope = dslope * share
    if not KNOWN:
        if EXACT:
            delta = delta * share
            pull = pull * share[:, None]
            reach = reach * share
        dq -= delta[:, None] * pull
        dslope -= delta * reach
    return dq, delta, dslope, share


@triton.jit
def _backward_q(Q, K, V, Out, DOut, Lse, KeyMask, Pos, Slope, DQ, Delta, Carried, Factor, DSlope, NQ, NK, H, scale,
                out_scale, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
                EVEN_K: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """Out may be None: delta is then summed on the way, which for a ball costs less than keeping its output would."""
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    K += head * NK * D
    V += head * NK * D
    q = load_rows(Q + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
    do = load_rows(DOut + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
    lse = load_lse(Lse + head * NQ, rows, NQ, not EVEN_Q)
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
    if RANGE > 0:
        low = first // RANGE * RANGE
        high = low + RANGE
    else:
        low = 0
        high = NK
    delta = tl.zeros([BLOCK_M], tl.float32)
    if Out is not None:
        o = load_rows(Out + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
        delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    dq, delta, dslope, share = read_back(
        q, do, lse, delta, K, V, KeyMask, Pos, slope, qx, qy, qz, low, high, scale, D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D,
        MASKED, EVEN_K, Out is not None, Carried is not None, PRECISION, STAGES)
    if Carried is not None:
        store_carried(Carried + head * NQ * 8, rows, lse, delta, scale, NQ)
    else:
        tl.store(Delta + head * NQ + rows, delta, mask=rows < NQ)
    if Factor is not None:
        tl.store(Factor + head * NQ + rows, share, mask=rows < NQ)
    store_rows(DQ + head * NQ * D, rows, dq * out_scale, NQ, D, BLOCK_D)
    if POS_D > 0:
        tl.store(DSlope + head * tl.num_programs(0) + tl.program_id(0), tl.sum(dslope, 0))


@triton.jit
def _read_by(k, v, Q, DOut, Lse, Delta, Factor, Gate, Pos, slope, kx, ky, kz, low, high, NQ, scale,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
             POS_D: tl.constexpr, EVEN_Q: tl.constexpr, SHIFTED: tl.constexpr, SIGNED: tl.constexpr,
             PADDED: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """dk (without the scale) and dv of a tile of keys, from the queries low..high. Gate: one branch's column.

    Factor, where given, multiplies the probabilities of each query. Without Delta, Lse holds both as `carry` says
    (there are no positions then); PADDED: in the padding of the tiles.
    """
    CARRIED: tl.constexpr = Delta is None
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    if CARRIED and not PADDED:
        lse_ones = in_shared(ones_in(BLOCK_N, 0, 16), Lse)
        delta_ones = in_shared(ones_in(BLOCK_N, 3, 16), Lse)
    for start in tl.range(low, high, BLOCK_M, num_stages=STAGES):
        rows = start + tl.arange(0, BLOCK_M)
        if PADDED:
            q = load_with_carried(Q, Lse, rows, NQ, D, BLOCK_D, not EVEN_Q)
            do = load_with_carried(DOut, Lse, rows, NQ, D, BLOCK_D, not EVEN_Q)
        else:
            q = load_rows(Q, rows, NQ, D, BLOCK_D, not EVEN_Q)
            do = load_rows(DOut, rows, NQ, D, BLOCK_D, not EVEN_Q)
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION)
        if POS_D == 0:  # ahead of the exponentials, where registers allow
            dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        if CARRIED:
            if not PADDED:
                carried = tl.trans(load_carried(Lse, rows, NQ, not EVEN_Q))
                s = tl.dot(lse_ones, carried, s)
                dp = tl.dot(delta_ones, carried, dp)
            p = tl.exp2(s * scale)
        else:
            lse, delta = _lse_and_delta(Lse, Delta, rows, NQ, SHIFTED, EVEN_Q)
            s = s * scale
            if POS_D > 0:
                qx, qy, qz = coordinates(Pos, rows, rows < NQ, POS_D)
                s += slope * distances(kx, ky, kz, qx, qy, qz, POS_D)
            p = tl.exp2(s - lse[None, :])
        if Factor is not None:
            p = p * tl.load(Factor + rows, mask=rows < NQ, other=0.0)[None, :]
        if SIGNED:
            gate = tl.load(Gate + rows * 3, mask=rows < NQ, other=0.0).to(tl.float32)
            p = tl.where(gate[None, :] < 0, -p, p)
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        if POS_D > 0:
            dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        if not CARRIED:
            dp = dp - delta[None, :]
        ds = p * dp
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    return dk, dv


@triton.jit
def _lse_and_delta(Lse, Delta, rows, limit, SHIFTED: tl.constexpr, EVEN: tl.constexpr):
    if not SHIFTED:
        lse = load_lse(Lse, rows, limit, not EVEN)
    elif EVEN:
        lse = tl.load(Lse + rows)
    else:
        lse = tl.load(Lse + rows, mask=rows < limit, other=float("inf"))
    if EVEN:
        delta = tl.load(Delta + rows)
    else:
        delta = tl.load(Delta + rows, mask=rows < limit, other=0.0)
    return lse, delta


@triton.jit
def key_tile(tile, head, piece, Q, K, V, DOut, Lse, Delta, Factor, Gate, Negative, KeyMask, Pos, Slope, DK, DV, NQ, NK,
             BH, H, scale, out_scale, part,
             D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
             RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
             EVEN_K: tl.constexpr, BRANCH: tl.constexpr, SHIFTED: tl.constexpr, FLAGGED: tl.constexpr,
             SIGNS: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """dk, dv of BLOCK_N keys of one head, from the queries part * piece .. part * (piece + 1).

    Factor, where given, multiplies the probabilities of each query, and holds its gate. SHIFTED: Lse is as exponents
    use it, in units of log 2 and +inf where there is nothing to read. Gated (BRANCH >= 0), it has log2 |gate| taken off
    as well, which gates every probability for nothing; Negative (BH, NQ / FLAGGED) says where some gate is below zero.
    SIGNS: 0 does all tiles, with a loop for each kind; 1 does the tiles without a negative gate, and 2 the others: one
    loop leaves it more registers. Delta is None: Lse holds both as `carry` says.
    """
    first = tile * BLOCK_N
    cols = first + tl.arange(0, BLOCK_N)
    PADDED: tl.constexpr = Delta is None and K.dtype.element_ty == PART and D % 8 == 0 and BLOCK_D >= D + 8
    if PADDED:
        k = load_with_ones(K + head * NK * D, cols, NK, D, D, BLOCK_D)
        v = load_with_ones(V + head * NK * D, cols, NK, D + 3, D, BLOCK_D)
    else:
        k = load_rows(K + head * NK * D, cols, NK, D, BLOCK_D, not EVEN_K)
        v = load_rows(V + head * NK * D, cols, NK, D, BLOCK_D, not EVEN_K)
    Q += head * NQ * D
    DOut += head * NQ * D
    if Delta is None:
        Lse += head * NQ * 8
    else:
        Lse += head * NQ
        Delta += head * NQ
    if Factor is not None:
        Factor += head * NQ
    slope = 0.0
    kx = tl.zeros([BLOCK_N], tl.float32)
    ky = tl.zeros([BLOCK_N], tl.float32)
    kz = tl.zeros([BLOCK_N], tl.float32)
    if POS_D > 0:
        Pos += (head // H) * NK * POS_D
        slope = tl.load(Slope + head % H).to(tl.float32) * 1.4426950408889634
        kx, ky, kz = coordinates(Pos, cols, cols < NK, POS_D)
    if RANGE > 0:
        low = first // RANGE * RANGE
        high = low + RANGE
    else:
        low = piece * part
        high = tl.minimum(low + part, NQ)
    if BRANCH >= 0:
        Gate += head * NQ * 3 + BRANCH
        Negative += head * tl.cdiv(NQ, FLAGGED)
        flag = tl.arange(0, 64)
        below = tl.zeros([64], tl.int32)
        for start in range(low // FLAGGED, tl.cdiv(high, FLAGGED), 64):
            below |= tl.load(Negative + start + flag, mask=start + flag < tl.cdiv(high, FLAGGED), other=0)
        signed = tl.max(below, 0) != 0
        if SIGNS > 0:
            mine = signed == (SIGNS == 2)
            dk, dv = _read_by(k, v, Q, DOut, Lse, Delta, Factor, Gate, Pos, slope, kx, ky, kz, low,
                              tl.where(mine, high, low), NQ, scale, D, BLOCK_D, BLOCK_M, BLOCK_N, POS_D, EVEN_Q,
                              SHIFTED, SIGNS == 2, PADDED, PRECISION, STAGES)
            cols = tl.where(mine, cols, NK)  # stores nothing
        elif signed:
            dk, dv = _read_by(k, v, Q, DOut, Lse, Delta, Factor, Gate, Pos, slope, kx, ky, kz, low, high, NQ, scale, D,
                              BLOCK_D, BLOCK_M, BLOCK_N, POS_D, EVEN_Q, SHIFTED, True, PADDED, PRECISION, STAGES)
        else:
            dk, dv = _read_by(k, v, Q, DOut, Lse, Delta, Factor, Gate, Pos, slope, kx, ky, kz, low, high, NQ, scale, D,
                              BLOCK_D, BLOCK_M, BLOCK_N, POS_D, EVEN_Q, SHIFTED, False, PADDED, PRECISION, STAGES)
    else:
        dk, dv = _read_by(k, v, Q, DOut, Lse, Delta, Factor, Gate, Pos, slope, kx, ky, kz, low, high, NQ, scale, D,
                          BLOCK_D, BLOCK_M, BLOCK_N, POS_D, EVEN_Q, SHIFTED, False, PADDED, PRECISION, STAGES)
    if MASKED:  # a masked key's probabilities were taken as if it were there
        keep = tl.load(KeyMask + (head // H) * NK + cols, mask=cols < NK, other=0) != 0
        dk = tl.where(keep[:, None], dk, 0.0)
        dv = tl.where(keep[:, None], dv, 0.0)
    offset = (head + piece * BH) * NK * D
    store_rows(DK + offset, cols, dk * out_scale, NK, D, BLOCK_D)
    store_rows(DV + offset, cols, dv, NK, D, BLOCK_D)


@triton.jit
def _backward_kv(Q, K, V, DOut, Lse, Delta, Factor, KeyMask, Pos, Slope, DK, DV, NQ, NK, BH, H, scale, out_scale, part,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                 RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
                 EVEN_K: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    key_tile(tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2), Q, K, V, DOut, Lse, Delta, Factor, None,
             None, KeyMask, Pos, Slope, DK, DV, NQ, NK, BH, H, scale, out_scale, part, D, BLOCK_D, BLOCK_M, BLOCK_N,
             RANGE, POS_D, MASKED, EVEN_Q, EVEN_K, -1, False, 1, 0, PRECISION, STAGES)


def backward_configs(d, ball, dtype, hopper=True):
    """Tile sizes (BLOCK_M, BLOCK_N, warps, stages) for the queries and for the keys. The fastest seen on an H200.

    Older matrix units hold their operands in registers, so that the same tiles would spill there.
    """
    wide = block_d(d)
    if dtype == torch.float32:
        rows = 32 if wide <= 64 else 16
        query = key = (rows, rows, 4, 2)
    elif not hopper:
        query = key = (64, 64, 4, 2) if wide < 64 else (64, 32, 4, 2) if wide == 64 else (64, 32, 8, 2)
    elif wide > 64:
        query, key = (64, 32, 8, 2), (32, 64, 4, 2)
    elif ball:
        query = (64, 32, 4, 3) if wide == 64 else (64, 32, 4, 1)
        key = (64, 64, 4, 2) if wide == 64 else (32, 32, 1, 3)
    else:
        query = (64, 64, 4, 3) if wide == 64 else (64, 64, 4, 4)
        key = (64, 128, 4, 3) if wide == 32 or (wide == 16 and padded(d, dtype)) else (64, 64, 4, 3)
    if ball:
        query, key = ((min(c[0], ball), min(c[1], ball), *c[2:]) for c in (query, key))
    return query, key


def pieces_of(queries, keys, heads, config, device):
    """How many parts the loop over queries is cut into, so that few keys still fill the chip."""
    if device.type != "cuda":
        return 1
    wanted = 2 * torch.cuda.get_device_properties(device).multi_processor_count
    programs = triton.cdiv(keys, config[1]) * heads
    return max(1, min(wanted // programs, triton.cdiv(queries, 4 * config[0]), 16))


def backward(dout, q, k, v, out, lse, key_mask=None, positions=None, slope=None, *, ball=0, configs=None, pieces=None):
    """Gradients of `attend.forward`: dq, dk, dv, dslope (None without a bias). out may be None with a ball."""
    B, H, NQ, d = q.shape
    NK = k.shape[2]
    biased = slope is not None
    query, key = configs or backward_configs(d, ball, q.dtype, is_hopper(q.device))
    delta, factor = (torch.empty(B, H, NQ, dtype=torch.float32, device=q.device) for _ in range(2))
    factor = factor if q.dtype == torch.float32 else None
    carried = None
    if not ball and pays(d, q.dtype, is_hopper(q.device)):
        carried = q.new_empty(B, H, NQ, WIDTH, dtype=DTYPE)
    dq = torch.empty_like(q)
    tiles = triton.cdiv(NQ, query[0])
    dslope = torch.empty(B, H, tiles, dtype=torch.float32, device=q.device) if biased else None
    common = dict(D=d, BLOCK_D=block_d(d), RANGE=ball, POS_D=positions.shape[-1] if biased else 0,
                  MASKED=key_mask is not None, PRECISION=precision(q.dtype))
    mask, pos = as_bytes(key_mask), positions if biased else None
    scale = 1 / math.sqrt(d)
    _backward_q[(tiles, B * H)](
        q, k, v, out, dout, lse, mask, pos, slope, dq, delta, carried, factor, dslope, NQ, NK, H, scale * LOG2E, scale,
        BLOCK_M=query[0], BLOCK_N=query[1], EVEN_Q=NQ % query[0] == 0, EVEN_K=(ball or NK) % query[1] == 0,
        STAGES=query[3], num_warps=query[2], num_stages=query[3], **common)
    pieces = pieces or (1 if ball else pieces_of(NQ, NK, B * H, key, q.device))
    part = triton.cdiv(triton.cdiv(NQ, pieces), key[0]) * key[0]
    shape, dtype = ((B, H, NK, d), k.dtype) if pieces == 1 else ((pieces, B, H, NK, d), torch.float32)
    dk, dv = (torch.empty(shape, dtype=dtype, device=q.device) for _ in range(2))
    _backward_kv[(triton.cdiv(NK, key[1]), B * H, pieces)](
        q, k, v, dout, *((lse, delta) if carried is None else (carried, None)), factor, mask, pos, slope, dk, dv,
        NQ, NK, B * H, H, scale * LOG2E, scale, part, BLOCK_M=key[0], BLOCK_N=key[1], EVEN_Q=NQ % key[0] == 0,
        EVEN_K=NK % key[1] == 0, STAGES=key[3], num_warps=key[2], num_stages=key[3], **common)
    if pieces > 1:
        dk, dv = dk.sum(0).to(k.dtype), dv.sum(0).to(v.dtype)
    if biased:
        dslope = dslope.sum((0, 2)).to(slope.dtype)
    return dq, dk, dv, dslope
