"""The operators as plain PyTorch: the definition that every backend is held to.

Each function is its formula, differentiable by autograd, for any float dtype and device. Nothing here is fast or lean:
use the functions of :mod:`bsa_kernels.api` for work, and these to check them.

An attention operator gives ``(out, lse)``: the natural log-sum-exp of the scaled and biased scores that a query saw,
``-inf`` where it saw none; such a query's output is zero. ``lse`` carries no gradient.
"""

from math import sqrt
from typing import NamedTuple

import torch


class Branches(NamedTuple):
    """What :func:`ball_sparse_attention` computed on the way, before the gates.

    Attributes
    ----------
    ball, compression, selection : Tensor (B, H, N, d)
        Output of each branch.
    indices : Tensor (B, H, G, k) int64
        Blocks chosen by each group, best first; -1 marks a missing slot. G is N / group_size, or N when every query
        selects for itself.
    ball_lse, compression_lse, selection_lse : Tensor (B, H, N)
        Natural log-sum-exp of the scores each query saw in each branch; -inf where it saw none.
    """

    ball: torch.Tensor
    compression: torch.Tensor
    selection: torch.Tensor
    indices: torch.Tensor
    ball_lse: torch.Tensor
    compression_lse: torch.Tensor
    selection_lse: torch.Tensor


def attend(q, k, v, allowed, bias=None):
    """softmax(q k^T / sqrt(d) + bias) v over the allowed keys.

    Parameters
    ----------
    q, k, v : Tensor (..., Q, d), (..., K, d), (..., K, d)
    allowed : Tensor bool, broadcastable to (..., Q, K)
        Which query may read which key.
    bias : Tensor, broadcastable to (..., Q, K), optional
    """
    scores = q @ k.mT / sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias
    allowed = allowed.expand_as(scores)
    # A finite floor keeps rows that may read nothing free of NaN, forward and backward.
    weights = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min).softmax(-1)
    weights = weights * allowed.any(-1, keepdim=True)
    lse = scores.detach().masked_fill(~allowed, -torch.inf).logsumexp(-1)
    return weights @ v, lse


def pool_mean(x, point_mask, size):
    """Mean over the real points of every run of `size`, zero if none is real: (B, H, N, d) to (B, H, N / size, d)."""
    batch, _, n, _ = x.shape
    real = _real_points(point_mask, batch, n, x.device).view(batch, 1, n // size, size, 1)
    total = (x.unflatten(2, (n // size, size)) * real).sum(3)
    return total / real.sum(3).clamp(min=1)


def ball_attention(q, k, v, positions=None, distance_slope=None, point_mask=None, *, ball_size):
    """Attention of every point to the points of its ball, biased by distance (Erwin, arXiv 2502.17019, eq. 10)."""
    batch, _, n, _ = q.shape
    balls = (n // ball_size, ball_size)
    real = _real_points(point_mask, batch, n, q.device).view(batch, 1, *balls)
    allowed = real[..., :, None] & real[..., None, :]
    bias = None
    if distance_slope is not None:
        points = positions.detach().to(q.dtype).unflatten(1, balls)
        distance = (points[:, :, :, None] - points[:, :, None]).square().sum(-1).sqrt()
        bias = distance_slope.to(q.dtype).view(1, -1, 1, 1, 1) * distance[:, None]
    out, lse = attend(q.unflatten(2, balls), k.unflatten(2, balls), v.unflatten(2, balls), allowed, bias)
    return out.flatten(2, 3), lse.flatten(2, 3)


def compressed_attention(q, k_coarse, v_coarse, block_mask=None):
    """Attention of every query to one coarse key per block (NSA, arXiv 2502.11089, eq. 7). ``block_mask`` (B, M)."""
    real = _real_points(block_mask, q.shape[0], k_coarse.shape[2], q.device)
    return attend(q, k_coarse, v_coarse, real[:, None, None, :])


def select_blocks(score_q, k_coarse, block_mask=None, *, ball_size, block_size, group_size, top_k, mask_own_ball=True):
    """The `top_k` blocks of highest score ``score_q . k_coarse`` of every group (BSA, arXiv 2506.12541, eq. 12-14).

    Blocks without a real point, and those in the group's own ball when ``mask_own_ball``, are not admissible. Highest
    score first, ties to the lowest block, -1 where there are fewer admissible blocks than `top_k`.
    """
    groups, blocks = score_q.shape[2], k_coarse.shape[2]
    scores = score_q.detach() @ k_coarse.detach().mT
    admissible = _real_points(block_mask, score_q.shape[0], blocks, score_q.device)[:, None, None, :]
    if mask_own_ball:
        ball_of_group = torch.arange(groups, device=scores.device) * group_size // ball_size
        ball_of_block = torch.arange(blocks, device=scores.device) * block_size // ball_size
        admissible = admissible & (ball_of_group[:, None] != ball_of_block)
    scores = scores.masked_fill(~admissible, -torch.inf)
    best, indices = scores.sort(dim=-1, descending=True, stable=True)
    return indices[..., :top_k].masked_fill(best[..., :top_k] == -torch.inf, -1)


def selected_attention(q, k, v, indices, point_mask=None, *, block_size, group_size):
    """Attention of all queries of a group to the points of its selected blocks (BSA, eq. 9-11)."""
    batch, heads, n, d = q.shape
    groups, top_k = indices.shape[2:]
    real = _real_points(point_mask, batch, n, q.device)
    offsets = torch.arange(block_size, device=q.device)
    points = (indices.clamp(min=0)[..., None] * block_size + offsets).flatten(2)
    keys, values = (torch.gather(x, 2, points[..., None].expand(-1, -1, -1, d)) for x in (k, v))
    present = (indices >= 0).repeat_interleave(block_size, 3)
    read = torch.gather(real[:, None].expand(-1, heads, -1), 2, points).view(batch, heads, groups, top_k * block_size)
    allowed = (present & read)[..., None, :] & real.view(batch, 1, groups, group_size, 1)
    keys, values = (x.unflatten(2, (groups, top_k * block_size)) for x in (keys, values))
    out, lse = attend(q.unflatten(2, (groups, group_size)), keys, values, allowed)
    return out.flatten(2, 3), lse.flatten(2, 3)


def ball_sparse_attention(
    q, k, v, gate, positions=None, distance_slope=None, point_mask=None, *,
    ball_size=256, block_size=8, group_size=8, top_k=4, q_coarse=None, k_coarse=None, v_coarse=None,
    group_compression=False, coarse_scores=False, group_selection=True, mask_own_ball=True,
):  # fmt: skip
    """Gated sum of the three branches (BSA, arXiv 2506.12541, eq. 9). Gives ``(out, Branches)``."""
    batch, _, n, _ = q.shape
    real = _real_points(point_mask, batch, n, q.device)
    block_mask = real.unflatten(1, (-1, block_size)).any(-1)
    k_coarse = pool_mean(k, point_mask, block_size) if k_coarse is None else k_coarse
    v_coarse = pool_mean(v, point_mask, block_size) if v_coarse is None else v_coarse
    q_coarse = pool_mean(q, point_mask, block_size) if q_coarse is None else q_coarse

    ball, ball_lse = ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size=ball_size)

    repeat = block_size if group_compression else 1
    compression, compression_lse = compressed_attention(
        q_coarse if group_compression else q, k_coarse, v_coarse, block_mask
    )
    compression = compression.repeat_interleave(repeat, 2) * real[:, None, :, None]
    compression_lse = compression_lse.repeat_interleave(repeat, 2).masked_fill(~real[:, None], -torch.inf)

    group = group_size if group_selection else 1
    score_q = q_coarse if coarse_scores else pool_mean(q, point_mask, group)
    sizes = dict(block_size=block_size, group_size=group)
    indices = select_blocks(
        score_q, k_coarse, block_mask, ball_size=ball_size, top_k=top_k, mask_own_ball=mask_own_ball, **sizes
    )
    indices = indices.masked_fill(~real.unflatten(1, (-1, group)).any(-1)[:, None, :, None], -1)
    selection, selection_lse = selected_attention(q, k, v, indices, point_mask, **sizes)

    out = gate[..., 0:1] * ball + gate[..., 1:2] * compression + gate[..., 2:3] * selection
    return out, Branches(ball, compression, selection, indices, ball_lse, compression_lse, selection_lse)


def _real_points(mask, batch, n, device):
    return torch.ones(batch, n, dtype=torch.bool, device=device) if mask is None else mask
