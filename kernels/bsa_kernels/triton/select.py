"""The top-k blocks of every group, without ever storing the scores.

Two passes. The first streams the scores in tiles of blocks and keeps, for every group, only the k tiles of highest
maximum. A block among the k best must lie in one of those: k tiles with a higher maximum would hold k better blocks.
The second pass scores the k kept tiles again and takes the k best blocks. Both order by (score, lower index first), so
that ties go to the lowest block.

For up to four blocks the first pass keeps four lists a row, one for each quarter of its columns, as the matrix units
hand them out: no thread waits for another until the lists are merged at the end. (In float32, one list.)
"""

import torch
import triton
import triton.language as tl

from .tiles import as_bytes, block_d, in_parts, load_rows, part_maxima, parts

NEVER = tl.constexpr(2147483647)


@triton.jit
def insert(value, index, new_value, new_index):
    """Keep the larger value in place and hand on the smaller; an equal newcomer, of higher index, is handed on."""
    better = new_value > value
    return (tl.where(better, new_value, value), tl.where(better, new_index, index),
            tl.where(better, value, new_value), tl.where(better, index, new_index))


@triton.jit
def insert_parts(s, cols, start, low, high, ball, balls_k: tl.constexpr, v0, v1, v2, v3, i0, i1, i2, i3,
                 ROWS: tl.constexpr, TILE: tl.constexpr, PARTS: tl.constexpr, OWN: tl.constexpr):
    """Puts the PARTS runs of blocks of a tile of scores into the rows' lists; gives their plain maxima too.

    Blocks low..high are of the rows' balls. The plain maximum is taken outside the branch: a product that only a
    branch uses does not go through the pipeliner of Triton 3.6.
    """
    highest = part_maxima(s, ROWS, TILE, PARTS)
    best = highest
    if OWN:
        if (start < high) & (start + TILE > low):
            own = ball[:, None] == (cols // balls_k)[None, :]
            best = part_maxima(tl.where(own, float("-inf"), s), ROWS, TILE, PARTS)
    here = (start // TILE * PARTS + tl.arange(0, PARTS))[None, :] + tl.zeros([ROWS, PARTS], tl.int32)
    v0, i0, best, here = insert(v0, i0, best, here)
    v1, i1, best, here = insert(v1, i1, best, here)
    v2, i2, best, here = insert(v2, i2, best, here)
    v3, i3, best, here = insert(v3, i3, best, here)
    return highest, v0, v1, v2, v3, i0, i1, i2, i3


@triton.jit
def merge_parts(Tiles, keep, v0, v1, v2, v3, i0, i1, i2, i3):
    """Stores the best four of each row's lists; -1 where there are fewer that hold any block."""
    for slot in tl.static_range(4):
        best = tl.max(v0, 1)
        found = best > float("-inf")
        tile = tl.min(tl.where(v0 == best[:, None], i0, NEVER), 1)
        tl.store(Tiles + slot, tl.where(found, tile, -1), mask=keep)
        taken = i0 == tile[:, None]
        v0 = tl.where(taken, v1, v0)
        i0 = tl.where(taken, i1, i0)
        v1 = tl.where(taken, v2, v1)
        i1 = tl.where(taken, i2, i1)
        v2 = tl.where(taken, v3, v2)
        i2 = tl.where(taken, i3, i2)
        v3 = tl.where(taken, float("-inf"), v3)


@triton.jit
def scan_tile(tile, head, Q, K, BlockMask, Tiles, G, M, H, balls_q: tl.constexpr, balls_k: tl.constexpr,
              D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr, OWN: tl.constexpr,
              MASKED: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr):
    """First pass for BLOCK_M groups of one head: Tiles (B*H, G, 4) int32, runs of TILE / PARTS blocks."""
    first = tile * BLOCK_M
    rows = first + tl.arange(0, BLOCK_M)
    K += head * M * D
    q = load_rows(Q + head * G * D, rows, G, D, BLOCK_D, True)
    if MASKED:
        BlockMask += (head // H) * M
    ball = rows // balls_q
    low = first // balls_q * balls_k
    high = (first + BLOCK_M - 1) // balls_q * balls_k + balls_k
    PARTS: tl.constexpr = 1 if q.dtype == tl.float32 else 4
    v0 = tl.full([BLOCK_M, PARTS], float("-inf"), tl.float32)
    i0 = tl.full([BLOCK_M, PARTS], -1, tl.int32)
    v1, v2, v3 = v0, v0, v0
    i1, i2, i3 = i0, i0, i0
    for start in tl.range(0, M, TILE, num_stages=STAGES):
        cols = start + in_parts(TILE, PARTS)
        k = load_rows(K, cols, M, D, BLOCK_D, not EVEN)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED or not EVEN:
            keep = cols < M
            if MASKED:
                keep = keep & (tl.load(BlockMask + cols, mask=keep, other=0) != 0)
            s = tl.where(keep[None, :], s, float("-inf"))
        highest, v0, v1, v2, v3, i0, i1, i2, i3 = insert_parts(
            s, cols, start, low, high, ball, balls_k, v0, v1, v2, v3, i0, i1, i2, i3, BLOCK_M, TILE, PARTS, OWN)
    merge_parts(Tiles + (head * G + rows) * 4, rows < G, v0, v1, v2, v3, i0, i1, i2, i3)


@triton.jit
def _scan(Q, K, BlockMask, Tiles, G, M, H, balls_q: tl.constexpr, balls_k: tl.constexpr,
          D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr,
          OWN: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr):
    """Tiles (B*H, G, KEPT) int32: the tiles of highest maximum; -1 where there are fewer that hold any block.

    balls_q, balls_k: groups and blocks of a ball. OWN: leave out the blocks of the group's own ball.
    """
    head = tl.program_id(1).to(tl.int64)
    if KEPT == 4:
        scan_tile(tl.program_id(0), head, Q, K, BlockMask, Tiles, G, M, H, balls_q, balls_k, D, BLOCK_D, BLOCK_M,
                  TILE, OWN, MASKED, EVEN, STAGES)
        return
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    K += head * M * D
    q = load_rows(Q + head * G * D, rows, G, D, BLOCK_D, True)
    if MASKED:
        BlockMask += (head // H) * M
    slots = tl.arange(0, KEPT)
    values = tl.full([BLOCK_M, KEPT], float("-inf"), tl.float32)
    tiles = tl.zeros([BLOCK_M, KEPT], tl.int32) - 1 - slots[None, :]
    for start in tl.range(0, M, TILE, num_stages=STAGES):
        cols = start + tl.arange(0, TILE)
        k = load_rows(K, cols, M, D, BLOCK_D, not EVEN)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        keep = (cols < M)[None, :]
        if MASKED:
            keep = keep & (tl.load(BlockMask + cols, mask=cols < M, other=0) != 0)[None, :]
        if OWN:
            keep = keep & ((rows // balls_q)[:, None] != (cols // balls_k)[None, :])
        best = tl.max(tl.where(keep, s, float("-inf")), 1)
        # Replace the worst kept tile: lowest maximum, then highest index.
        worst = tl.min(values, 1)
        last = tl.max(tl.where(values == worst[:, None], tiles, -2147483648), 1)
        out = (values == worst[:, None]) & (tiles == last[:, None]) & (best > worst)[:, None]
        values = tl.where(out, best[:, None], values)
        tiles = tl.where(out, start // TILE, tiles)
    tl.store(Tiles + (head * G + rows[:, None]) * KEPT + slots[None, :], tiles, mask=(rows < G)[:, None])


@triton.jit
def pick_rows(rows, head, Q, K, BlockMask, Tiles, Indices, G, M, H, balls_q: tl.constexpr, balls_k: tl.constexpr,
              ROWS: tl.constexpr, D: tl.constexpr, CHUNK_D: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr,
              TOP_K: tl.constexpr, OWN: tl.constexpr, MASKED: tl.constexpr):
    """Second pass for a few groups: scores of the kept tiles in full precision, then their best blocks, best first.

    Stored, and given as (ROWS, 4) where they are no more.
    """
    Q += head * G * D
    K += head * M * D
    candidate = tl.arange(0, KEPT * TILE)[None, :]
    row = tl.minimum(rows, G - 1)  # rows past the end do the last one's work again, and store nothing
    tile = tl.load(Tiles + (head * G + row[:, None]) * KEPT + candidate // TILE)
    cols = tile * TILE + candidate % TILE
    keep = (tile >= 0) & (cols < M)
    if MASKED:
        keep = keep & (tl.load(BlockMask + (head // H) * M + cols, mask=keep, other=0) != 0)
    if OWN:
        keep = keep & (cols // balls_k != (row // balls_q)[:, None])
    col = tl.where(keep, cols, 0)  # loads without a condition are quicker; what they read is hidden below
    s = tl.zeros([ROWS, KEPT * TILE], tl.float32)
    for first in tl.static_range(0, D, CHUNK_D):
        depth = first + tl.arange(0, CHUNK_D)[None, None, :]
        if D % CHUNK_D == 0:
            q = tl.load(Q + row[:, None, None] * D + depth)
            k = tl.load(K + col[:, :, None] * D + depth)
        else:
            q = tl.load(Q + row[:, None, None] * D + depth, mask=depth < D, other=0.0)
            k = tl.load(K + col[:, :, None] * D + depth, mask=depth < D, other=0.0)
        s += tl.sum(q.to(tl.float32) * k.to(tl.float32), 2)
    s = tl.where(keep, s, float("-inf"))
    picks = tl.full([ROWS, 4], -1, tl.int32)
    for slot in tl.static_range(TOP_K):
        best = tl.max(s, 1)
        chosen = tl.min(tl.where((s == best[:, None]) & keep, cols, NEVER), 1)
        s = tl.where(cols == chosen[:, None], float("-inf"), s)
        chosen = tl.where(best > float("-inf"), chosen, -1)
        tl.store(Indices + (head * G + rows) * TOP_K + slot, chosen.to(Indices.dtype.element_ty), mask=rows < G)
        if slot < 4:
            picks = tl.where(tl.arange(0, 4)[None, :] == slot, chosen[:, None], picks)
    return picks


@triton.jit
def _pick(Q, K, BlockMask, Tiles, Indices, G, M, H, balls_q: tl.constexpr, balls_k: tl.constexpr,
          ROWS: tl.constexpr, D: tl.constexpr, CHUNK_D: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr,
          TOP_K: tl.constexpr, OWN: tl.constexpr, MASKED: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    pick_rows(rows, tl.program_id(1).to(tl.int64), Q, K, BlockMask, Tiles, Indices, G, M, H, balls_q, balls_k, ROWS, D,
              CHUNK_D, TILE, KEPT, TOP_K, OWN, MASKED)


def scan_config(d, kept, dtype):
    """Rows, blocks of a tile, warps and stages of the first pass."""
    if kept > 8:  # many candidates: smaller tiles hold the second pass in registers
        return 32, 32, 4, 2
    if dtype == torch.float32 and block_d(d) >= 64:
        return 32, 32, 4, 2
    if dtype == torch.float32 or block_d(d) > 64:
        return 32, 64, 4, 2
    return 64, 64, 4, 3


def kept_tile(kept, tile, dtype):
    """Blocks of one of the tiles that the first pass keeps."""
    return tile // parts(dtype) if kept == 4 else tile


def pick_config(candidates):
    """Groups, warps and depth of a program of the second pass."""
    return (2, 1, 16) if candidates <= 64 else (1, 1 if candidates <= 128 else 4, 8)


def select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball, *,
                  dtype=torch.int64, config=None):
    """Indices (B,H,G,top_k) of the blocks of highest score; see the module's text."""
    B, H, G, d = score_q.shape
    M = k_coarse.shape[2]
    score_q, k_coarse, mask = score_q.contiguous(), k_coarse.contiguous(), as_bytes(block_mask)
    kept = max(4, triton.next_power_of_2(top_k))
    rows, tile, warps, stages = config or scan_config(d, kept, score_q.dtype)
    indices = torch.empty(B, H, G, top_k, dtype=dtype, device=score_q.device)
    tiles = torch.empty(B, H, G, kept, dtype=torch.int32, device=score_q.device)
    sizes = G, M, H, ball_size // group_size, ball_size // block_size
    common = dict(D=d, KEPT=kept, OWN=mask_own_ball, MASKED=mask is not None)
    _scan[(triton.cdiv(G, rows), B * H)](
        score_q, k_coarse, mask, tiles, *sizes, BLOCK_D=block_d(d), BLOCK_M=rows, TILE=tile, EVEN=M % tile == 0,
        STAGES=stages, num_warps=warps, num_stages=stages, **common)
    part = kept_tile(kept, tile, score_q.dtype)
    picked, pick_warps, depth = pick_config(kept * part)
    _pick[(triton.cdiv(G, picked), B * H)](score_q, k_coarse, mask, tiles, indices, *sizes, ROWS=picked, CHUNK_D=depth,
                                           TILE=part, TOP_K=top_k, num_warps=pick_warps, **common)
    return indices
