"""Mean pooling of blocks, and the gated gradient of a coarse branch."""

import torch
import triton
import triton.language as tl

from .tiles import as_bytes, block_d, load_rows, store_rows


@triton.jit
def _mean(X, Mask, Y, row, count, M, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
          SIZE: tl.constexpr):
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    for i in tl.static_range(SIZE):
        x = load_rows(X, row * SIZE + i, M * SIZE, D, BLOCK_D, True).to(tl.float32)
        if Mask is not None:
            keep = tl.load(Mask + row * SIZE + i, mask=row < M, other=0) != 0
            x = tl.where(keep[:, None], x, 0.0)
        acc += x
    store_rows(Y, row, acc / count[:, None], M, D, BLOCK_D)


@triton.jit
def _pool(A, B, C, Mask, PA, PB, PC, M, H, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
          SIZE: tl.constexpr, TENSORS: tl.constexpr):
    """Means of the real points of each run of SIZE rows, of up to three tensors."""
    head = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    fine = head * M * SIZE * D
    coarse = head * M * D
    count = tl.full([ROWS], SIZE, tl.float32)
    if Mask is not None:
        Mask += (head // H) * M * SIZE
        count = tl.zeros([ROWS], tl.float32)
        for i in tl.static_range(SIZE):
            count += tl.where(tl.load(Mask + row * SIZE + i, mask=row < M, other=0) != 0, 1.0, 0.0)
        count = tl.maximum(count, 1.0)
    _mean(A + fine, Mask, PA + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)
    if TENSORS > 1:
        _mean(B + fine, Mask, PB + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)
    if TENSORS > 2:
        _mean(C + fine, Mask, PC + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)


def pool(tensors, point_mask, size):
    """Mean over the real points of every run of `size` points of one to three (B,H,N,d) tensors, in one launch."""
    B, H, N, d = tensors[0].shape
    M = N // size
    pooled = [torch.empty(B, H, M, d, dtype=x.dtype, device=x.device) for x in tensors]
    rows = 16 if M * B * H < 1 << 16 else 64
    pad = [None] * (3 - len(tensors))
    _pool[(triton.cdiv(M, rows), B * H)](*tensors, *pad, as_bytes(point_mask), *pooled, *pad, M, H, D=d,
                                         BLOCK_D=block_d(d), ROWS=rows, SIZE=size, TENSORS=len(tensors), num_warps=4)
    return pooled


@triton.jit
def _coarse_gradient(DOut, Gate, Compression, DCoarse, DGate, M, D: tl.constexpr, BLOCK_D: tl.constexpr,
                     ROWS: tl.constexpr, SIZE: tl.constexpr):
    head = tl.program_id(1).to(tl.int64)
    block = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    o = load_rows(Compression + head * M * D, block, M, D, BLOCK_D, True).to(tl.float32)
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    for i in tl.static_range(SIZE):
        point = block * SIZE + i
        do = load_rows(DOut + head * M * SIZE * D, point, M * SIZE, D, BLOCK_D, True).to(tl.float32)
        where = (head * M * SIZE + point) * 3 + 1
        gate = tl.load(Gate + where, mask=block < M, other=0.0).to(tl.float32)
        tl.store(DGate + where, tl.sum(do * o, 1).to(DGate.dtype.element_ty), mask=block < M)
        acc += do * gate[:, None]
    store_rows(DCoarse + head * M * D, block, acc, M, D, BLOCK_D)


def coarse_gradient(dout, gate, compression, dgate, size):
    """Gradient of a coarse branch (B,H,M,d) whose rows are repeated `size` times and gated; fills dgate's column 1."""
    B, H, M, d = compression.shape
    grad = torch.empty_like(compression)
    rows = 16 if M * B * H < 1 << 16 else 64
    _coarse_gradient[(triton.cdiv(M, rows), B * H)](dout, gate, compression, grad, dgate, M, D=d, BLOCK_D=block_d(d),
                                                    ROWS=rows, SIZE=size, num_warps=4)
    return grad
