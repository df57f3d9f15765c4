"""Ball Sparse Attention from its operators: for blocks that were chosen elsewhere, or with branches off."""

import torch

from bsa_kernels import Branches, ball_attention, compressed_attention, pool_mean, selected_attention


def chosen_attention(
    q, k, v, gate, positions, distance_slope, point_mask, indices, *,
    ball_size, block_size, group_size, group_compression=False, group_selection=True,
    q_coarse=None, k_coarse=None, v_coarse=None, backend="auto", branches=("ball", "compression", "selection"), **_,
):  # fmt: skip
    """Gated sum of the branches, the selection reading the given blocks.

    The arguments are those of :func:`bsa_kernels.ball_sparse_attention`; those that only serve to choose are ignored.

    Parameters
    ----------
    gate : Tensor (B, H, N, len(branches))
    indices : Tensor (B, H, G, k) int64
        Blocks of each group; -1 marks a missing slot. None where the selection is off.
    branches : sequence of {"ball", "compression", "selection"}
        Those that are on; the others are not computed.

    Returns
    -------
    out : Tensor (B, H, N, d)
    branches : Branches
        None for those that are off.
    """
    run = dict(backend=backend, return_lse=True)

    def ball():
        return ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size=ball_size, **run)

    def compression():
        coarse = lambda x, given: pool_mean(x, point_mask, block_size) if given is None else given
        block_mask = None if point_mask is None else point_mask.unflatten(1, (-1, block_size)).any(-1)
        out, lse = compressed_attention(
            coarse(q, q_coarse) if group_compression else q, coarse(k, k_coarse), coarse(v, v_coarse), block_mask,
            repeat=block_size if group_compression else 1, **run,
        )  # fmt: skip
        if point_mask is None:
            return out, lse
        return out.masked_fill(~point_mask[:, None, :, None], 0), lse.masked_fill(~point_mask[:, None], -torch.inf)

    def selection():
        group = group_size if group_selection else 1
        return selected_attention(q, k, v, indices, point_mask, block_size=block_size, group_size=group, **run)

    compute = {"ball": ball, "compression": compression, "selection": selection}
    found = {name: compute[name]() for name in branches}
    parts = [out for out, _ in found.values()]
    gate = gate.to(parts[0].dtype)  # under autocast the operators give half precision
    out = gate[..., 0:1] * parts[0]
    for i, part in enumerate(parts[1:], start=1):
        out = torch.addcmul(out, gate[..., i : i + 1], part)
    (ball, ball_lse), (compression, compression_lse), (selection, selection_lse) = (
        found.get(name, (None, None)) for name in compute
    )
    return out, Branches(ball, compression, selection, indices, ball_lse, compression_lse, selection_lse)
