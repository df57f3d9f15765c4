"""What every kernel shares: tile loads, distances, and the choice of tile sizes.

Tensors reach the kernels contiguous as (B*H, N, d). Offsets inside one head fit 32 bits (N*d < 2**31); offsets of a
head are 64-bit. Exponentials are taken base 2, since that is what the hardware has: scores are scaled by
log2(e)/sqrt(d).
"""

import torch
import triton
import triton.language as tl

LOG2E = 1.4426950408889634


@triton.jit
def load_rows(base, rows, limit, D: tl.constexpr, BLOCK_D: tl.constexpr, CHECK: tl.constexpr):
    """Rows of a (limit, D) matrix as a (rows, BLOCK_D) tile, zeros outside. CHECK=False: every row is inside."""
    cols = tl.arange(0, BLOCK_D)
    where = base + rows[:, None] * D + cols[None, :]
    if CHECK:
        if D == BLOCK_D:
            return tl.load(where, mask=(rows < limit)[:, None], other=0.0)
        else:
            return tl.load(where, mask=(rows < limit)[:, None] & (cols < D)[None, :], other=0.0)
    else:
        if D == BLOCK_D:
            return tl.load(where)
        else:
            return tl.load(where, mask=(cols < D)[None, :], other=0.0)


@triton.jit
def store_rows(base, rows, tile, limit, D: tl.constexpr, BLOCK_D: tl.constexpr):
    cols = tl.arange(0, BLOCK_D)
    keep = (rows < limit)[:, None] & (cols < D)[None, :]
    tl.store(base + rows[:, None] * D + cols[None, :], tile.to(base.dtype.element_ty), mask=keep)


@triton.jit
def coordinates(base, rows, keep, POS_D: tl.constexpr):
    """x, y, z of the points in rows; z is zero in the plane."""
    x = tl.load(base + rows * POS_D, mask=keep, other=0.0)
    y = tl.load(base + rows * POS_D + 1, mask=keep, other=0.0)
    if POS_D == 3:
        z = tl.load(base + rows * POS_D + 2, mask=keep, other=0.0)
    else:
        z = tl.zeros_like(x)
    return x, y, z


@triton.jit
def distances(ax, ay, az, bx, by, bz, POS_D: tl.constexpr):
    """|a - b| of every pair, one row for each a."""
    dx = ax[:, None] - bx[None, :]
    dy = ay[:, None] - by[None, :]
    square = dx * dx + dy * dy
    if POS_D == 3:
        dz = az[:, None] - bz[None, :]
        square += dz * dz
    return tl.sqrt(square)


@triton.jit
def part_sums(x, ROWS: tl.constexpr, COLS: tl.constexpr, PARTS: tl.constexpr):
    """Four partial sums of each row, or one (PARTS).

    Each of four adds what one thread holds of a tile that comes from the matrix units, so that nothing moves.
    """
    if PARTS == 1:
        return tl.sum(x, 1)[:, None]
    else:
        return tl.sum(tl.sum(tl.reshape(x, [ROWS, COLS // 8, 4, 2]), 3), 1)


@triton.jit
def part_maxima(x, ROWS: tl.constexpr, COLS: tl.constexpr, PARTS: tl.constexpr):
    """Partial maxima of each row, taken like `part_sums`."""
    if PARTS == 1:
        return tl.max(x, 1)[:, None]
    else:
        return tl.max(tl.max(tl.reshape(x, [ROWS, COLS // 8, 4, 2]), 3), 1)


@triton.jit
def in_parts(COLS: tl.constexpr, PARTS: tl.constexpr):
    """Order of COLS columns in which the parts of `part_maxima` are runs of COLS / PARTS columns."""
    col = tl.arange(0, COLS)
    if PARTS == 1:
        return col
    else:
        return col % 8 // 2 * (COLS // 4) + col // 8 * 2 + col % 2


def parts(dtype: torch.dtype) -> int:
    """In how many parts `part_sums` sums: float32 products are not the matrix units' and lie otherwise."""
    return 1 if dtype == torch.float32 else 4


def block_d(d: int) -> int:
    """Width of the tile that holds d columns: a power of two, and at least the 16 that the matrix units take."""
    return max(16, triton.next_power_of_2(d))


def precision(dtype: torch.dtype) -> str:
    """How a float32 product is taken; follows PyTorch's own switch. Half precision ignores it."""
    tf32 = dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32
    return "tf32" if tf32 else "ieee"


def as_bytes(mask):
    """A boolean mask as Triton reads it, or None."""
    return None if mask is None else mask.contiguous().view(torch.uint8)


def is_hopper(device) -> bool:
    """Whether products take their operands from shared memory (compute capability 9.0 on); assumed without a GPU."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device)[0] >= 9
