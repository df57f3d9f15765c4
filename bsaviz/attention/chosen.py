"""Ball Sparse Attention with blocks that were chosen elsewhere, put together from its operators."""

import torch

from bsa_kernels import Branches, ball_attention, compressed_attention, pool_mean, selected_attention


def chosen_attention(
    q, k, v, gate, positions, distance_slope, point_mask, indices, *,
    ball_size, block_size, group_size, group_compression=False, group_selection=True,
    q_coarse=None, k_coarse=None, v_coarse=None, backend="auto", **_,
):  # fmt: skip
    """Gated sum of the three branches, the selection reading the given blocks.

    The arguments are those of :func:`bsa_kernels.ball_sparse_attention`; those that only serve to choose are ignored.

    Parameters
    ----------
    indices : Tensor (B, H, G, k) int64
        Blocks of each group; -1 marks a missing slot.

    Returns
    -------
    out : Tensor (B, H, N, d)
    branches : Branches
    """
    run = dict(backend=backend, return_lse=True)
    coarse = lambda x, given: pool_mean(x, point_mask, block_size) if given is None else given
    block_mask = None if point_mask is None else point_mask.unflatten(1, (-1, block_size)).any(-1)
    ball, ball_lse = ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size=ball_size, **run)
    compression, compression_lse = compressed_attention(
        coarse(q, q_coarse) if group_compression else q, coarse(k, k_coarse), coarse(v, v_coarse), block_mask,
        repeat=block_size if group_compression else 1, **run,
    )  # fmt: skip
    if point_mask is not None:
        compression = compression.masked_fill(~point_mask[:, None, :, None], 0)
        compression_lse = compression_lse.masked_fill(~point_mask[:, None], -torch.inf)
    group = group_size if group_selection else 1
    selection, selection_lse = selected_attention(
        q, k, v, indices, point_mask, block_size=block_size, group_size=group, **run
    )
    gate = gate.to(ball.dtype)  # under autocast the operators give half precision
    out = gate[..., 0:1] * ball
    out = torch.addcmul(out, gate[..., 1:2], compression)
    out = torch.addcmul(out, gate[..., 2:3], selection)
    return out, Branches(ball, compression, selection, indices, ball_lse, compression_lse, selection_lse)
