"""The top-k blocks of every group, without ever storing the scores.

Two passes. The first streams the scores in tiles of TILE blocks and keeps, for every group, only the k tiles of
highest maximum. A block among the k best must lie in one of those: k tiles with a higher maximum would hold k better
blocks. The second pass scores the k kept tiles again and takes the k best blocks. Both order by (score, lower index
first), so that ties go to the lowest block.
"""

import torch
import triton
import triton.language as tl

from .tiles import as_bytes, block_d, load_rows

TILE = 64  # of the first pass when it rides along with group compression
NEVER = tl.constexpr(2147483647)


@triton.jit
def tile_best(s, cols, start, low, high, ball, balls_k, OWN: tl.constexpr, TILE: tl.constexpr):
    """Maximum of each row of a tile of scores: of all, and without the row's own ball.

    Blocks low..high are of the rows' balls. The plain maximum is taken outside the branch: a product that only a
    branch uses does not go through the pipeliner of Triton 3.6.
    """
    highest = tl.max(s, 1)
    best = highest
    if OWN:
        if (start < high) & (start + TILE > low):
            best = tl.max(tl.where(ball[:, None] == (cols // balls_k)[None, :], float("-inf"), s), 1)
    return highest, best


@triton.jit
def insert(value, index, new_value, new_index):
    """Keep the larger value in place and hand on the smaller; an equal newcomer, of higher index, is handed on."""
    better = new_value > value
    return (tl.where(better, new_value, value), tl.where(better, new_index, index),
            tl.where(better, value, new_value), tl.where(better, index, new_index))


@triton.jit
def _scan(Q, K, BlockMask, Tiles, G, M, H, balls_q, balls_k,
          D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr,
          OWN: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr, STAGES: tl.constexpr):
    """Tiles (B*H, G, KEPT) int32: the tiles of highest maximum; -1 where there are fewer that hold any block.

    balls_q, balls_k: groups and blocks of a ball. OWN: leave out the blocks of the group's own ball.
    """
    head = tl.program_id(1).to(tl.int64)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    K += head * M * D
    q = load_rows(Q + head * G * D, rows, G, D, BLOCK_D, True)
    if MASKED:
        BlockMask += (head // H) * M
    ball = rows // balls_q
    low = tl.program_id(0) * BLOCK_M // balls_q * balls_k
    high = (tl.program_id(0) * BLOCK_M + BLOCK_M - 1) // balls_q * balls_k + balls_k
    none = tl.full([BLOCK_M], float("-inf"), tl.float32)
    nowhere = tl.full([BLOCK_M], -1, tl.int32)
    if KEPT == 4:  # four registers a row: the default, and the fast way
        v0, v1, v2, v3 = none, none, none, none
        i0, i1, i2, i3 = nowhere, nowhere, nowhere, nowhere
    else:
        slots = tl.arange(0, KEPT)
        values = tl.full([BLOCK_M, KEPT], float("-inf"), tl.float32)
        tiles = tl.zeros([BLOCK_M, KEPT], tl.int32) - 1 - slots[None, :]
    for start in tl.range(0, M, TILE, num_stages=STAGES):
        cols = start + tl.arange(0, TILE)
        k = load_rows(K, cols, M, D, BLOCK_D, not EVEN)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED or not EVEN:
            keep = cols < M
            if MASKED:
                keep = keep & (tl.load(BlockMask + cols, mask=keep, other=0) != 0)
            s = tl.where(keep[None, :], s, float("-inf"))
        _, best = tile_best(s, cols, start, low, high, ball, balls_k, OWN, TILE)
        here = tl.full([BLOCK_M], start // TILE, tl.int32)
        if KEPT == 4:
            v0, i0, best, here = insert(v0, i0, best, here)
            v1, i1, best, here = insert(v1, i1, best, here)
            v2, i2, best, here = insert(v2, i2, best, here)
            v3, i3, best, here = insert(v3, i3, best, here)
        else:  # replace the worst kept tile: lowest maximum, then highest index
            worst = tl.min(values, 1)
            last = tl.max(tl.where(values == worst[:, None], tiles, -2147483648), 1)
            out = (values == worst[:, None]) & (tiles == last[:, None]) & (best > worst)[:, None]
            values = tl.where(out, best[:, None], values)
            tiles = tl.where(out, here[:, None], tiles)
    where = Tiles + (head * G + rows) * KEPT
    if KEPT == 4:
        tl.store(where, i0, mask=rows < G)
        tl.store(where + 1, i1, mask=rows < G)
        tl.store(where + 2, i2, mask=rows < G)
        tl.store(where + 3, i3, mask=rows < G)
    else:
        tl.store(where[:, None] + slots[None, :], tiles, mask=(rows < G)[:, None])


@triton.jit
def _pick(Q, K, BlockMask, Tiles, Indices, G, M, H, balls_q, balls_k,
          D: tl.constexpr, CHUNK_D: tl.constexpr, TILE: tl.constexpr, KEPT: tl.constexpr, TOP_K: tl.constexpr,
          OWN: tl.constexpr, MASKED: tl.constexpr):
    """One group: scores of the kept tiles in full precision, then their TOP_K best blocks, best first."""
    row = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    candidate = tl.arange(0, KEPT * TILE)
    tile = tl.load(Tiles + (head * G + row) * KEPT + candidate // TILE)
    cols = tile * TILE + candidate % TILE
    keep = (tile >= 0) & (cols < M)
    if MASKED:
        keep = keep & (tl.load(BlockMask + (head // H) * M + cols, mask=keep, other=0) != 0)
    if OWN:
        keep = keep & (cols // balls_k != row // balls_q)
    s = tl.zeros([KEPT * TILE], tl.float32)
    for first in tl.static_range(0, D, CHUNK_D):
        depth = first + tl.arange(0, CHUNK_D)
        q = tl.load(Q + (head * G + row) * D + depth, mask=depth < D, other=0.0).to(tl.float32)
        k = tl.load(K + head * M * D + cols[:, None] * D + depth[None, :], mask=keep[:, None] & (depth < D)[None, :],
                    other=0.0).to(tl.float32)
        s += tl.sum(q[None, :] * k, 1)
    s = tl.where(keep, s, float("-inf"))
    for slot in tl.static_range(TOP_K):
        best = tl.max(s, 0)
        chosen = tl.min(tl.where((s == best) & keep, cols, NEVER), 0)
        found = best > float("-inf")
        tl.store(Indices + (head * G + row) * TOP_K + slot, tl.where(found, chosen, -1).to(Indices.dtype.element_ty))
        s = tl.where(cols == chosen, float("-inf"), s)


def scan_config(d, kept, dtype):
    """Rows and warps and stages of the first pass, blocks of a tile, warps and depth of the second."""
    if kept > 8:  # many candidates: smaller tiles hold the second pass in registers
        return 32, 4, 2, 32, 4, 8
    if dtype == torch.float32 or block_d(d) > 64:
        return 32, 4, 2, 64, 4, 8
    if kept > 4:
        return 64, 4, 3, 64, 4, 8
    return (128, 4, 3, 32, 1, 16) if block_d(d) == 64 else (64, 4, 4, 32, 1, 8)


def select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball, *,
                  tiles=None, dtype=torch.int64, config=None):
    """Indices (B,H,G,top_k) of the blocks of highest score; see the module's text.

    tiles: what the first pass would find, where another kernel has found it on its way.
    """
    B, H, G, d = score_q.shape
    M = k_coarse.shape[2]
    score_q, k_coarse, mask = score_q.contiguous(), k_coarse.contiguous(), as_bytes(block_mask)
    kept = max(4, triton.next_power_of_2(top_k))
    rows, warps, stages, tile, pick_warps, depth = config or scan_config(d, kept, score_q.dtype)
    indices = torch.empty(B, H, G, top_k, dtype=dtype, device=score_q.device)
    sizes = G, M, H, ball_size // group_size, ball_size // block_size
    common = dict(D=d, KEPT=kept, OWN=mask_own_ball, MASKED=mask is not None)
    if tiles is None:
        tiles = torch.empty(B, H, G, kept, dtype=torch.int32, device=score_q.device)
        _scan[(triton.cdiv(G, rows), B * H)](
            score_q, k_coarse, mask, tiles, *sizes, BLOCK_D=block_d(d), BLOCK_M=rows, TILE=tile, EVEN=M % tile == 0,
            STAGES=stages, num_warps=warps, num_stages=stages, **common)
    else:
        tile = TILE
    _pick[(G, B * H)](score_q, k_coarse, mask, tiles, indices, *sizes, CHUNK_D=depth, TILE=tile, TOP_K=top_k,
                      num_warps=pick_warps, **common)
    return indices
