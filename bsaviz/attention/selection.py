"""Choice of blocks without learning: at random, or the nearest. Baselines for the learnt selection."""

from contextlib import nullcontext

import torch

from bsa_kernels import pool_mean, select_blocks

SELECTIONS = ("scores", "random", "nearest")


def random_blocks(q, mask=None, *, ball_size, block_size, group_size, top_k, mask_own_ball=True, seed=0):
    """Blocks drawn at random for every group and head, as in BigBird (Zaheer et al., arXiv 2007.14062).

    A group draws `top_k` different admissible blocks, all alike likely. What it draws depends on the seed, the head,
    the group and the numbers of blocks alone: it is the same in every call and on every device, and for a sample in a
    batch as for the sample alone.

    Parameters
    ----------
    q : Tensor (B, H, N, d)
        Queries, of which only the shape counts.
    mask : Tensor (B, N) bool, optional
        True for real points. Blocks and groups without one are not chosen and do not choose.
    ball_size, block_size, group_size, top_k, mask_own_ball
        As in :func:`bsa_kernels.select_blocks`.
    seed : int

    Returns
    -------
    Tensor (B, H, N / group_size, top_k) int64
        -1 marks a missing slot.
    """
    batch, heads, n = q.shape[:3]
    real = q.new_ones(batch, n, dtype=torch.bool) if mask is None else mask
    block_real = real.unflatten(1, (-1, block_size)).any(-1)
    first_real = (~block_real).to(torch.uint8).sort(dim=1, stable=True).indices  # real blocks, in order, come first
    before = torch.nn.functional.pad(block_real.cumsum(1), (1, 0))
    own = torch.arange(n // group_size, device=real.device) * group_size // ball_size * (ball_size // block_size)
    own_start = before[:, own]
    own_count = before[:, own + ball_size // block_size] - own_start if mask_own_ball else torch.zeros_like(own_start)
    admissible = (before[:, -1:] - own_count)[:, None]  # (B, 1, G)
    draws = _uniform(n // group_size, heads, top_k, seed, real.device)
    taken = torch.empty(batch, heads, n // group_size, 0, dtype=torch.int64, device=real.device)
    drawn = []
    for slot in range(top_k):
        left = admissible - slot
        rank = (draws[slot] * left.clamp(min=1)).long()
        for other in taken.unbind(-1):  # count past those drawn before
            rank = rank + (rank >= other)
        taken = torch.cat([taken, rank[..., None]], -1).sort(-1).values
        rank = rank + own_count[:, None] * (rank >= own_start[:, None])
        rank = rank.clamp(max=first_real.shape[1] - 1)
        drawn.append(first_real[:, None].expand(-1, heads, -1).gather(2, rank).masked_fill(left < 1, -1))
    group_real = real.unflatten(1, (-1, group_size)).any(-1)
    return torch.stack(drawn, -1).masked_fill(~group_real[:, None, :, None], -1)


def nearest_blocks(
    q, positions, mask=None, *, ball_size, block_size, group_size, top_k, mask_own_ball=True, backend="auto"
):
    """The blocks whose mean positions c are nearest to that of the group, g, the same for every head.

    The k smallest (g - c)^2 are the k largest g . c - c^2 / 2: a product of vectors of one more dimension, which
    :func:`bsa_kernels.select_blocks` ranks without making the matrix of all of them.

    Parameters
    ----------
    q, mask, ball_size, block_size, group_size, top_k, mask_own_ball
        As in :func:`random_blocks`.
    positions : Tensor (B, N, D)
    backend : {"auto", "triton", "torch"}

    Returns
    -------
    Tensor (B, H, N / group_size, top_k) int64
        Nearest first; -1 marks a missing slot.
    """
    x = positions.detach()[:, None]
    x = x - pool_mean(x, mask, x.shape[2])  # around the middle, where squares keep their digits
    group, block = pool_mean(x, mask, group_size), pool_mean(x, mask, block_size)
    query = torch.cat([group, torch.ones_like(group[..., :1])], -1)
    key = torch.cat([block, -0.5 * block.square().sum(-1, keepdim=True)], -1)
    block_mask = None if mask is None else mask.unflatten(1, (-1, block_size)).any(-1)
    autocast = nullcontext() if x.device.type == "meta" else torch.autocast(x.device.type, enabled=False)
    with autocast:  # half precision would not tell near blocks apart
        indices = select_blocks(
            query, key, block_mask, ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k,
            mask_own_ball=mask_own_ball, backend=backend,
        )  # fmt: skip
    if mask is not None:
        indices = indices.masked_fill(~mask.unflatten(1, (-1, group_size)).any(-1)[:, None, :, None], -1)
    return indices.expand(-1, q.shape[1], -1, -1)


def fill_from_own_ball(indices, *, ball_size, block_size, group_size):
    """Put blocks of the group's own ball, in order, into slots that are missing (-1).

    The published code hides the own ball by lowering its scores and takes the `top_k` highest all the same: where fewer
    blocks are admissible, the rest comes from the own ball, which of its blocks being left to ``torch.topk``.

    Parameters
    ----------
    indices : Tensor (B, H, N / group_size, top_k) int64
    ball_size, block_size, group_size : int
    """
    missing = indices < 0
    first = torch.arange(indices.shape[2], device=indices.device) * group_size // ball_size * (ball_size // block_size)
    return torch.where(missing, first[:, None] + missing.cumsum(-1) - 1, indices)


def _uniform(groups, heads, draws, seed, device):
    """Numbers in [0, 1) for each draw, head and group, (draws, heads, groups) float64, by hashing their indices.

    The mixer is that of splitmix64 (Steele et al., OOPSLA 2014); a stream of a generator would change with the size.
    """
    count = lambda n, shape: torch.arange(n, device=device).view(shape)
    x = count(groups, (1, 1, -1)) * 64 + count(draws, (-1, 1, 1))
    start = (seed + 1) * 0x9E3779B97F4A7C15 % 2**63  # steps of the golden ratio, so that near seeds are far apart
    x = x * 4096 + count(heads, (1, -1, 1)) + start
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        x = (x ^ _shifted(x, shift)) * factor
    return _shifted(x ^ _shifted(x, 31), 11).double() * 2.0**-53


def _shifted(x, bits):
    """Logical shift to the right of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
