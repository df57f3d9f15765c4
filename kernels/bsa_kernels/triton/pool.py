"""Mean pooling of blocks, and what masks and gates do to the gradients of a coarse branch."""

import torch
import triton
import triton.language as tl

from .tiles import as_bytes, block_d, load_rows, store_rows


@triton.jit
def _mean(X, Mask, Y, row, count, M, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
          SIZE: tl.constexpr):
    UNROLLED: tl.constexpr = SIZE if SIZE % 16 else 16  # 64 at once: four times as long to compile, and more registers
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    for first in range(0, SIZE, UNROLLED):
        for i in tl.static_range(UNROLLED):
            point = row * SIZE + first + i
            x = load_rows(X, point, M * SIZE, D, BLOCK_D, True).to(tl.float32)
            if Mask is not None:
                keep = tl.load(Mask + point, mask=row < M, other=0) != 0
                x = tl.where(keep[:, None], x, 0.0)
            acc += x
    store_rows(Y, row, acc / count[:, None], M, D, BLOCK_D)


@triton.jit
def pool_tile(tile, head, A, B, C, Mask, PA, PB, PC, BlockMask, M, H, D: tl.constexpr, BLOCK_D: tl.constexpr,
              ROWS: tl.constexpr, SIZE: tl.constexpr):
    """Means of the real points of each run of SIZE rows, of those of A, B, C that have a place to go.

    BlockMask, where given, is told which runs have a real point.
    """
    row = tile * ROWS + tl.arange(0, ROWS)
    fine = head * M * SIZE * D
    coarse = head * M * D
    count = tl.full([ROWS], SIZE, tl.float32)
    if Mask is not None:
        Mask += (head // H) * M * SIZE
        count = tl.zeros([ROWS], tl.float32)
        for i in tl.static_range(SIZE):
            count += tl.where(tl.load(Mask + row * SIZE + i, mask=row < M, other=0) != 0, 1.0, 0.0)
        if BlockMask is not None:
            if head % H == 0:
                tl.store(BlockMask + (head // H) * M + row, tl.where(count > 0, 1, 0).to(tl.uint8), mask=row < M)
        count = tl.maximum(count, 1.0)
    if PA is not None:
        _mean(A + fine, Mask, PA + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)
    if PB is not None:
        _mean(B + fine, Mask, PB + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)
    if PC is not None:
        _mean(C + fine, Mask, PC + coarse, row, count, M, D, BLOCK_D, ROWS, SIZE)


@triton.jit
def _pool(A, B, C, Mask, PA, PB, PC, BlockMask, M, H, D: tl.constexpr, BLOCK_D: tl.constexpr, ROWS: tl.constexpr,
          SIZE: tl.constexpr):
    pool_tile(tl.program_id(0), tl.program_id(1).to(tl.int64), A, B, C, Mask, PA, PB, PC, BlockMask, M, H, D, BLOCK_D,
              ROWS, SIZE)


def pool_rows(blocks, heads):
    """Blocks of a program: fewer where there are few."""
    return 16 if blocks * heads < 1 << 16 else 64


@triton.jit
def ungroup(head, block, DOut, Gate, Mask, Compression, DGate, M, H, D: tl.constexpr, BLOCK_D: tl.constexpr,
            ROWS: tl.constexpr, SIZE: tl.constexpr):
    """Output and gradient of coarse queries, whose result is repeated SIZE times and gated; the gate's gradient too."""
    o = load_rows(Compression + head * M * D, block, M, D, BLOCK_D, True)
    acc = tl.zeros([ROWS, BLOCK_D], tl.float32)
    for i in tl.static_range(SIZE):
        point = block * SIZE + i
        do = load_rows(DOut + head * M * SIZE * D, point, M * SIZE, D, BLOCK_D, True).to(tl.float32)
        if Mask is not None:
            real = tl.load(Mask + (head // H) * M * SIZE + point, mask=block < M, other=0) != 0
            do = tl.where(real[:, None], do, 0.0)
        where = (head * M * SIZE + point) * 3 + 1
        gate = tl.load(Gate + where, mask=block < M, other=0.0).to(tl.float32)
        tl.store(DGate + where, tl.sum(do * o.to(tl.float32), 1).to(DGate.dtype.element_ty), mask=block < M)
        acc += do * gate[:, None]
    return o, acc.to(DOut.dtype.element_ty)


def pool(tensors, point_mask, size):
    """Mean over the real points of every run of `size` points of one to three (B,H,N,d) tensors, in one launch."""
    B, H, N, d = tensors[0].shape
    M = N // size
    pooled = [torch.empty(B, H, M, d, dtype=x.dtype, device=x.device) for x in tensors]
    rows = pool_rows(M, B * H)
    pad = [None] * (3 - len(tensors))
    _pool[(triton.cdiv(M, rows), B * H)](*tensors, *pad, as_bytes(point_mask), *pooled, *pad, None, M, H, D=d,
                                         BLOCK_D=block_d(d), ROWS=rows, SIZE=size, num_warps=4)
    return pooled
