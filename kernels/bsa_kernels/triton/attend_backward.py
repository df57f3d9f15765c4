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

from .tiles import LOG2E, as_bytes, block_d, coordinates, distances, is_hopper, load_rows, precision, store_rows


@triton.jit
def _load_lse(Lse, rows, limit):
    """Log-sum-exp in units of log 2; +inf (probability zero) where a query reads nothing."""
    lse = tl.load(Lse + rows, mask=rows < limit, other=float("-inf"))
    return tl.where(lse == float("-inf"), float("inf"), lse * 1.4426950408889634)


@triton.jit
def _probabilities(q, k, lse, qx, qy, qz, kx, ky, kz, keep, scale, slope,
                   POS_D: tl.constexpr, MASKED: tl.constexpr, PRECISION: tl.constexpr):
    """p of one tile, and the distances (0 without a bias)."""
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    far = 0.0
    if POS_D > 0:
        far = distances(qx, qy, qz, kx, ky, kz, POS_D)
        s += slope * far
    p = tl.exp2(s - lse[:, None])
    if MASKED:
        p = tl.where(keep[None, :], p, 0.0)
    return p, far


@triton.jit
def _score_gradient(q, k, v, do, lse, delta, dq, pull, dslope, reach, qx, qy, qz, kx, ky, kz, keep, scale, slope,
                    POS_D: tl.constexpr, MASKED: tl.constexpr, KNOWN: tl.constexpr, PRECISION: tl.constexpr):
    """Adds one tile of keys to dq (without the scale) and to the slope's gradient.

    Where delta is not KNOWN yet it is summed on the way, and what it will multiply is kept apart: sum(p k) and sum(p
    |r|).
    """
    p, far = _probabilities(q, k, lse, qx, qy, qz, kx, ky, kz, keep, scale, slope, POS_D, MASKED, PRECISION)
    dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
    if KNOWN:
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
    return dq, delta, pull, dslope, reach


@triton.jit
def _backward_q(Q, K, V, Out, DOut, Lse, Gate, KeyMask, Pos, Slope, DQ, Delta, Shift, DGate, DSlope, Gated,
                NQ, NK, H, scale, out_scale,
                D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
                EVEN_K: tl.constexpr, BRANCH: tl.constexpr, ADD: tl.constexpr, PRECISION: tl.constexpr,
                STAGES: tl.constexpr):
    """BRANCH: which column of the gate this branch is (-1: not gated). ADD: add to DQ instead of overwriting it.

    Out may be None: delta is then summed on the way, which for a ball costs less than keeping its output would, and is
    more exact. Shift receives the log-sum-exp as exponents use it, Gated (where given) gate * DOut; Delta is then
    gated too.
    """
    head = tl.program_id(1).to(tl.int64)
    first = tl.program_id(0) * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    K += head * NK * D
    V += head * NK * D
    q = load_rows(Q + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
    do = load_rows(DOut + head * NQ * D, rows, NQ, D, BLOCK_D, not EVEN_Q)
    lse = _load_lse(Lse + head * NQ, rows, NQ)
    if MASKED:
        KeyMask += (head // H) * NK
    slope = 0.0
    qx = tl.zeros([BLOCK_M], tl.float32)
    qy = tl.zeros([BLOCK_M], tl.float32)
    qz = tl.zeros([BLOCK_M], tl.float32)
    kx = tl.zeros([BLOCK_N], tl.float32)
    ky = tl.zeros([BLOCK_N], tl.float32)
    kz = tl.zeros([BLOCK_N], tl.float32)
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
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    pull = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    dslope = tl.zeros([BLOCK_M], tl.float32)
    reach = tl.zeros([BLOCK_M], tl.float32)
    full = high
    if not EVEN_K:
        full = low + (high - low) // BLOCK_N * BLOCK_N
    for start in tl.range(low, full, BLOCK_N, num_stages=STAGES):
        cols = start + tl.arange(0, BLOCK_N)
        k = load_rows(K, cols, high, D, BLOCK_D, False)
        v = load_rows(V, cols, high, D, BLOCK_D, False)
        keep = cols < high
        if MASKED:
            keep = tl.load(KeyMask + cols) != 0
        if POS_D > 0:
            kx, ky, kz = coordinates(Pos, cols, cols < high, POS_D)
        dq, delta, pull, dslope, reach = _score_gradient(
            q, k, v, do, lse, delta, dq, pull, dslope, reach, qx, qy, qz, kx, ky, kz, keep, scale, slope,
            POS_D, MASKED, Out is not None, PRECISION)
    if not EVEN_K:
        if full < high:
            cols = full + tl.arange(0, BLOCK_N)
            k = load_rows(K, cols, high, D, BLOCK_D, True)
            v = load_rows(V, cols, high, D, BLOCK_D, True)
            keep = cols < high
            if MASKED:
                keep = keep & (tl.load(KeyMask + cols, mask=keep, other=0) != 0)
            if POS_D > 0:
                kx, ky, kz = coordinates(Pos, cols, cols < high, POS_D)
            dq, delta, pull, dslope, reach = _score_gradient(
                q, k, v, do, lse, delta, dq, pull, dslope, reach, qx, qy, qz, kx, ky, kz, keep, scale, slope,
                POS_D, True, Out is not None, PRECISION)
    if Out is None:
        dq -= delta[:, None] * pull
        dslope -= delta * reach
    if Gated is not None:
        gate = tl.load(Gate + (head * NQ + rows) * 3 + BRANCH, mask=rows < NQ, other=0.0).to(tl.float32)
        store_rows(Gated + head * NQ * D, rows, do.to(tl.float32) * gate[:, None], NQ, D, BLOCK_D)
        tl.store(Delta + head * NQ + rows, delta * gate, mask=rows < NQ)
    else:
        tl.store(Delta + head * NQ + rows, delta, mask=rows < NQ)
    tl.store(Shift + head * NQ + rows, lse, mask=rows < NQ)
    dq = dq * out_scale
    if BRANCH >= 0:
        where = (head * NQ + rows) * 3 + BRANCH
        gate = tl.load(Gate + where, mask=rows < NQ, other=0.0).to(tl.float32)
        tl.store(DGate + where, delta.to(DGate.dtype.element_ty), mask=rows < NQ)
        dq = dq * gate[:, None]
        dslope = dslope * gate
    DQ += head * NQ * D
    if ADD:
        dq += load_rows(DQ, rows, NQ, D, BLOCK_D, not EVEN_Q).to(tl.float32)
    store_rows(DQ, rows, dq, NQ, D, BLOCK_D)
    if POS_D > 0:
        tl.store(DSlope + head * tl.num_programs(0) + tl.program_id(0), tl.sum(dslope, 0))


@triton.jit
def _backward_kv(Q, K, V, DOut, Shift, Delta, Gate, KeyMask, Pos, Slope, DK, DV, NQ, NK, H, scale, out_scale, part,
                 D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                 RANGE: tl.constexpr, POS_D: tl.constexpr, MASKED: tl.constexpr, EVEN_Q: tl.constexpr,
                 EVEN_K: tl.constexpr, BRANCH: tl.constexpr, PRECISION: tl.constexpr, STAGES: tl.constexpr):
    """Queries part*z .. part*(z+1) only, for grid index z: DK, DV hold one partial sum for each z."""
    head = tl.program_id(1).to(tl.int64)
    piece = tl.program_id(2).to(tl.int64)
    first = tl.program_id(0) * BLOCK_N
    cols = first + tl.arange(0, BLOCK_N)
    Q += head * NQ * D
    DOut += head * NQ * D
    k = load_rows(K + head * NK * D, cols, NK, D, BLOCK_D, not EVEN_K)
    v = load_rows(V + head * NK * D, cols, NK, D, BLOCK_D, not EVEN_K)
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
        low = tl.program_id(2) * part
        high = tl.minimum(low + part, NQ)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for start in tl.range(low, high, BLOCK_M, num_stages=STAGES):
        rows = start + tl.arange(0, BLOCK_M)
        q = load_rows(Q, rows, NQ, D, BLOCK_D, not EVEN_Q)
        do = load_rows(DOut, rows, NQ, D, BLOCK_D, not EVEN_Q)
        if EVEN_Q:
            shift = tl.load(Shift + head * NQ + rows)
            delta = tl.load(Delta + head * NQ + rows)
        else:
            shift = tl.load(Shift + head * NQ + rows, mask=rows < NQ, other=float("inf"))
            delta = tl.load(Delta + head * NQ + rows, mask=rows < NQ, other=0.0)
        s = tl.dot(k, tl.trans(q), input_precision=PRECISION) * scale
        if POS_D > 0:
            qx, qy, qz = coordinates(Pos, rows, rows < NQ, POS_D)
            s += slope * distances(kx, ky, kz, qx, qy, qz, POS_D)
        p = tl.exp2(s - shift[None, :])
        if BRANCH >= 0:  # a dout gated here would have to go back to shared memory
            gate = tl.load(Gate + (head * NQ + rows) * 3 + BRANCH, mask=rows < NQ, other=0.0).to(tl.float32)
            p = p * gate[None, :]
        dv = tl.dot(p.to(do.dtype), do, dv, input_precision=PRECISION)
        dp = tl.dot(v, tl.trans(do), input_precision=PRECISION)
        ds = p * (dp - delta[None, :])
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision=PRECISION)
    if MASKED:  # a masked key's probabilities were taken as if it were there
        keep = tl.load(KeyMask + (head // H) * NK + cols, mask=cols < NK, other=0) != 0
        dk = tl.where(keep[:, None], dk, 0.0)
        dv = tl.where(keep[:, None], dv, 0.0)
    offset = (piece * tl.num_programs(1) + head) * NK * D
    store_rows(DK + offset, cols, dk * out_scale, NK, D, BLOCK_D)
    store_rows(DV + offset, cols, dv, NK, D, BLOCK_D)


def backward_configs(d, ball, dtype, hopper=True):
    """Tile sizes (BLOCK_M, BLOCK_N, warps, stages) of `_backward_q` and `_backward_kv`. The fastest seen on an H200.

    Older matrix units hold their operands in registers, so that the same tiles would spill there.
    """
    wide = block_d(d)
    if dtype == torch.float32:
        rows = 32 if wide <= 64 else 16
        query = key = (rows, rows, 4, 2)
    elif not hopper:
        query = key = (64, 64, 4, 2) if wide < 64 else (64, 32, 4, 2) if wide == 64 else (64, 32, 8, 2)
    elif wide > 64:
        query, key = (64, 32, 4, 2), (32, 64, 4, 2)
    elif ball:
        query = (64, 32, 4, 3) if wide == 64 else (64, 32, 4, 1)
        key = (128, 64, 4, 2) if wide == 64 else (64, 128, 4, 2)
    else:
        query = (64, 64, 4, 3)
        key = (32, 128, 4, 3) if wide == 64 else (64, 128, 4, 3)
    if ball:
        query, key = ((min(c[0], ball), min(c[1], ball), *c[2:]) for c in (query, key))
    return query, key


def pieces_of(queries, keys, heads, config, ball, device):
    """How many parts the loop over queries is cut into, so that few keys still fill the chip."""
    if ball or device.type != "cuda":
        return 1
    wanted = 4 * torch.cuda.get_device_properties(device).multi_processor_count
    programs = triton.cdiv(keys, config[1]) * heads
    return max(1, min(wanted // programs, triton.cdiv(queries, 8 * config[0]), 16))


def backward(dout, q, k, v, out, lse, key_mask=None, positions=None, slope=None, gate=None, branch=-1, *, ball=0,
             dq=None, dgate=None, configs=None, pieces=None):
    """Gradients of `attend.forward`: dq, dk, dv, dslope (None without a bias).

    With gate (B,H,N,3), dout is the gradient of the gated sum: column `branch` of gate multiplies it here, and the
    gate's own gradient goes to the same column of dgate. out may be None with a ball. dq given: the gradient is added
    to it in place.
    """
    B, H, NQ, d = q.shape
    NK = k.shape[2]
    biased = slope is not None
    query, key = configs or backward_configs(d, ball, q.dtype, is_hopper(q.device))
    delta, shift = (torch.empty(B, H, NQ, dtype=torch.float32, device=q.device) for _ in range(2))
    add = dq is not None
    dq = dq if add else torch.empty_like(q)
    tiles = triton.cdiv(NQ, query[0])
    dslope = torch.empty(B, H, tiles, dtype=torch.float32, device=q.device) if biased else None
    gated = torch.empty_like(dout) if branch >= 0 and not ball else None  # many readers a row: gate it once
    common = dict(D=d, BLOCK_D=block_d(d), RANGE=ball, POS_D=positions.shape[-1] if biased else 0,
                  MASKED=key_mask is not None, PRECISION=precision(q.dtype))
    mask, pos = as_bytes(key_mask), positions if biased else None
    scale = 1 / math.sqrt(d)
    _backward_q[(tiles, B * H)](
        q, k, v, out, dout, lse, gate, mask, pos, slope, dq, delta, shift, dgate, dslope, gated,
        NQ, NK, H, scale * LOG2E, scale, BRANCH=branch, ADD=add, BLOCK_M=query[0], BLOCK_N=query[1],
        EVEN_Q=NQ % query[0] == 0, EVEN_K=(ball or NK) % query[1] == 0, STAGES=query[3], num_warps=query[2],
        num_stages=query[3], **common)
    pieces = pieces or pieces_of(NQ, NK, B * H, key, ball, q.device)
    part = triton.cdiv(triton.cdiv(NQ, pieces), key[0]) * key[0]
    shape, dtype = ((B, H, NK, d), k.dtype) if pieces == 1 else ((pieces, B, H, NK, d), torch.float32)
    dk, dv = (torch.empty(shape, dtype=dtype, device=q.device) for _ in range(2))
    _backward_kv[(triton.cdiv(NK, key[1]), B * H, pieces)](
        q, k, v, dout if gated is None else gated, shift, delta, gate, mask, pos, slope, dk, dv,
        NQ, NK, H, scale * LOG2E, scale, part, BRANCH=branch if gated is None else -1, BLOCK_M=key[0],
        BLOCK_N=key[1], EVEN_Q=NQ % key[0] == 0, EVEN_K=NK % key[1] == 0, STAGES=key[3], num_warps=key[2],
        num_stages=key[3], **common)
    if pieces > 1:
        dk, dv = dk.sum(0).to(k.dtype), dv.sum(0).to(v.dtype)
    if biased:
        dslope = dslope.sum((0, 2)).to(slope.dtype)
    return dq, dk, dv, dslope
