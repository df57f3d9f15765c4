"""The log-sum-exp and delta of a query ride along in the products of the backward.

A score's gradient is p (dp - delta) with p = exp2(scale s - lse). A program that owns keys needs lse and delta of every
column of its tiles: a load and a subtraction for each score, and such tiles are bound by how many instructions they
take. So every query gets eight more columns, -lse / scale and -delta in three bfloat16 each (together the 24 bits of
a float32), and a key has ones against them: the matrix units then give s - lse / scale and dp - delta. Where a tile is
padded by as many columns anyway (heads of 8) they cost nothing; otherwise a product of 16 more columns.
"""

import torch
import triton
import triton.language as tl

from .tiles import block_d

WIDTH = 8  # columns a query: three of the log-sum-exp, three of delta, two zeros
INTERPRETED = triton.knobs.runtime.interpret  # whose products know no bfloat16: one float32 then does for three
DTYPE = torch.float32 if INTERPRETED else torch.bfloat16
PART = tl.constexpr(tl.float32 if INTERPRETED else tl.bfloat16)
NEVER = tl.constexpr(-1e30)  # for -inf, which has no parts: finite, and no exponential tells it from -inf


@triton.jit
def in_columns(x, COLS: tl.constexpr):
    """Each row's number as three parts that sum to it, in the first columns of a tile; the others are zero."""
    col = tl.arange(0, COLS)[None, :]
    tile = tl.zeros([x.shape[0], COLS], PART)
    for i in tl.static_range(3):
        part = x.to(PART)
        tile = tl.where(col == i, part[:, None], tile)
        x -= part.to(tl.float32)
    return tile


@triton.jit
def ones_in(ROWS: tl.constexpr, FIRST: tl.constexpr, COLS: tl.constexpr):
    """What sums those columns up again, as the keys' side of a product."""
    col = tl.arange(0, COLS)[None, :]
    one = (col >= FIRST) & (col < FIRST + 3) & (tl.arange(0, ROWS)[:, None] >= 0)
    return tl.where(one, 1.0, 0.0).to(PART)


@triton.jit
def in_shared(tile, base):
    """The same tile as a load gives it (which is never done, and then gives this): in shared memory, not in registers.

    From registers the matrix units would take it one product after the other. base: any pointer.
    """
    row = tl.arange(0, tile.shape[0])[:, None] + tl.program_id(0)
    where = base.to(tl.pointer_type(tile.dtype)) + row + tl.arange(0, tile.shape[1])[None, :]
    return tl.load(where, mask=row < 0, other=tile)


@triton.jit
def _store_parts(where, x, keep):
    """Each row's number as three parts that sum to it, in three columns."""
    for i in tl.static_range(3):
        part = x.to(PART)
        tl.store(where + i, part, mask=keep)
        x -= part.to(tl.float32)


@triton.jit
def store_carried(base, rows, lse, delta, scale, limit):
    """lse: in units of log 2, +inf where there is nothing to read."""
    where = base + rows * 8
    keep = rows < limit
    _store_parts(where, tl.where(lse == float("inf"), NEVER, -lse / scale), keep)
    _store_parts(where + 3, -delta, keep)
    for i in tl.static_range(6, 8):
        tl.store(where + i, tl.zeros_like(lse).to(PART), mask=keep)


@triton.jit
def load_carried(base, rows, limit, CHECK: tl.constexpr):
    """(rows, 16): the eight columns and zeros. CHECK: rows beyond the limit read nothing."""
    row = rows[:, None]
    col = tl.arange(0, 16)[None, :]
    where = base + row * 8 + col
    if CHECK:
        tile = tl.load(where, mask=(row < limit) & (col < 8), other=0.0)
        return tl.where((row >= limit) & (col == 0), NEVER, tile).to(PART)
    else:
        return tl.load(where, mask=(row >= 0) & (col < 8), other=0.0)


@triton.jit
def load_with_carried(base, carried, rows, limit, D: tl.constexpr, BLOCK_D: tl.constexpr, CHECK: tl.constexpr):
    """Rows of a (limit, D) matrix with their eight columns behind them, padded to BLOCK_D."""
    row = rows[:, None]
    col = tl.arange(0, BLOCK_D)[None, :]
    where = tl.where(col < D, base + row * D + col, carried + row * 8 + col - D)
    if CHECK:
        tile = tl.load(where, mask=(row < limit) & (col < D + 8), other=0.0)
        return tl.where((row >= limit) & (col == D), NEVER, tile).to(PART)
    elif BLOCK_D == D + 8:
        return tl.load(where)
    else:
        return tl.load(where, mask=(row >= 0) & (col < D + 8), other=0.0)


@triton.jit
def load_with_ones(base, rows, limit, FIRST: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr):
    """Rows of a (limit, D) matrix, ones in the columns FIRST .. FIRST + 2 of their padding; see `in_shared`."""
    row = rows[:, None]
    col = tl.arange(0, BLOCK_D)[None, :]
    ones = ones_in(rows.shape[0], FIRST, BLOCK_D)
    return tl.load(base + row * D + col, mask=(row < limit) & (col < D), other=ones)


def pays(d: int, dtype: torch.dtype, hopper: bool) -> bool:
    """Whether this was seen to be faster: gradients of coarse keys by 6 to 9 % up to heads of 64, on an H100."""
    return hopper and dtype != torch.float32 and d <= 64


def padded(d: int, dtype: torch.dtype) -> bool:
    """Whether the tile of a head has room for the eight columns."""
    return dtype == DTYPE and d % WIDTH == 0 and block_d(d) >= d + WIDTH
