"""What the kernels are timed against: dense attention, and Ball Sparse Attention as PyTorch's own tools make it.

Sizes are the published ones: balls of 256, blocks and groups of 8, top-k 4.
"""

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BALL, BLOCK, TOP_K = 256, 8, 4
DENSE = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
FLEX_BLOCK = 128
NOTES = {
    "plain": "plain PyTorch (attention of balls and of compression by SDPA, scores of all blocks, gathered keys), "
    "compiled by torch.compile for this size",
    "flex": "FlexAttention, compiled, for the ball branch (distance bias as score_mod, its slope without a gradient) "
    "and for the selection branch: its mask works in tiles of 128 keys, so it computes every tile that any of the 16 "
    "groups of a tile of queries reads and masks the rest; compression by SDPA. The choice of blocks and the block "
    "masks are made before and not timed",
}


def dense(backend):
    """PyTorch's dense attention by one of its kernels."""

    def attend(q, k, v):
        with sdpa_kernel(DENSE[backend]):
            return F.scaled_dot_product_attention(q, k, v)

    return attend


def plain(q, k, v, gate, positions, slope, *, group_compression=False):
    """Ball Sparse Attention in plain PyTorch, written to be compiled: no custom kernel, no loop."""
    pool = lambda x: x.unflatten(2, (-1, BLOCK)).mean(3)
    k_coarse, v_coarse = pool(k), pool(v)
    ball = _plain_ball(q, k, v, positions, slope)
    queries = pool(q) if group_compression else q
    compression = F.scaled_dot_product_attention(queries, k_coarse, v_coarse)
    if group_compression:
        compression = compression.repeat_interleave(BLOCK, 2)
    selection = _plain_selection(q, k, v, pool(q.detach()), k_coarse.detach())
    return gate[..., :1] * ball + gate[..., 1:2] * compression + gate[..., 2:] * selection


def _plain_ball(q, k, v, positions, slope):
    batch, heads, n, d = q.shape
    balls = lambda x: x.unflatten(2, (-1, BALL)).transpose(1, 2).flatten(0, 1)
    points = positions.view(-1, BALL, positions.shape[2])
    distance = (points[:, :, None] - points[:, None]).square().sum(-1).sqrt()
    bias = (slope.view(1, -1, 1, 1) * distance[:, None]).to(q.dtype)
    out = F.scaled_dot_product_attention(balls(q), balls(k), balls(v), attn_mask=bias)
    return out.unflatten(0, (batch, -1)).transpose(1, 2).reshape(batch, heads, n, d)


def _plain_selection(q, k, v, score_q, k_coarse):
    batch, heads, n, d = q.shape
    blocks = n // BLOCK
    own = torch.arange(blocks, device=q.device) * BLOCK // BALL
    scores = (score_q @ k_coarse.mT).masked_fill(own[:, None] == own[None, :], float("-inf"))
    chosen = scores.topk(TOP_K, dim=-1).indices.flatten(2)[..., None].expand(-1, -1, -1, BLOCK * d)
    gather = lambda x: x.reshape(batch, heads, blocks, BLOCK * d).gather(2, chosen).view(batch, heads, blocks, -1, d)
    weights = (q.unflatten(2, (-1, BLOCK)) @ gather(k).mT * d**-0.5).softmax(-1)
    return (weights @ gather(v)).flatten(2, 3)


class Flex:
    """Ball Sparse Attention with FlexAttention, for the blocks `indices` (B, H, G, k) that were chosen before.

    Parameters
    ----------
    indices : Tensor (1, H, G, k)
        Of non-negative block indices.
    attend : callable
        FlexAttention, compiled or not.
    """

    def __init__(self, indices, attend=flex_attention):
        self.attend = attend
        groups = indices.shape[2]
        tiles, device = groups * BLOCK // FLEX_BLOCK, indices.device
        per_tile = FLEX_BLOCK // BLOCK
        read = torch.zeros(*indices.shape[:2], tiles, tiles, dtype=torch.bool, device=device)
        read.scatter_(3, (indices // per_tile).view(*indices.shape[:2], tiles, -1), True)
        chosen = indices.int()

        def is_chosen(b, h, i, j):
            found = chosen[b, h, i // BLOCK, 0] == j // BLOCK
            for slot in range(1, TOP_K):
                found = found | (chosen[b, h, i // BLOCK, slot] == j // BLOCK)
            return found

        own = torch.arange(tiles, device=device) * FLEX_BLOCK // BALL
        in_ball = (own[:, None] == own[None, :])[None, None]
        self.selection = _block_mask(read, is_chosen, whole=False)
        self.ball = _block_mask(in_ball, lambda b, h, i, j: i // BALL == j // BALL, whole=True)

    def __call__(self, q, k, v, gate, positions, slope):
        points, slope = positions[0].detach(), slope.detach()

        def bias(score, b, h, i, j):
            squared = (points[i, 0] - points[j, 0]) ** 2
            squared = squared + (points[i, 1] - points[j, 1]) ** 2 + (points[i, 2] - points[j, 2]) ** 2
            return score + slope[h] * torch.sqrt(squared)

        pool = lambda x: x.unflatten(2, (-1, BLOCK)).mean(3)
        ball = self.attend(q, k, v, score_mod=bias, block_mask=self.ball)
        compression = F.scaled_dot_product_attention(q, pool(k), pool(v))
        selection = self.attend(q, k, v, block_mask=self.selection)
        return gate[..., :1] * ball + gate[..., 1:2] * compression + gate[..., 2:] * selection


def _block_mask(read, mask_mod, whole):
    """FlexAttention's mask from the tiles (B, H, tiles, tiles) that are read, all of them whole or none."""
    number = read.sum(-1, dtype=torch.int32)
    order = read.int().argsort(dim=-1, descending=True, stable=True).int()
    full = (number, order) if whole else (None, None)
    partial = torch.zeros_like(number) if whole else number
    return BlockMask.from_kv_blocks(partial, order, *full, BLOCK_SIZE=FLEX_BLOCK, mask_mod=mask_mod)
