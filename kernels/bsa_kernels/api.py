"""The public operators: checked arguments, autocast, and the composition of Ball Sparse Attention.

Positions are constants here: no gradient flows to them. Under autocast, queries, keys, values and gates are cast to the
autocast dtype; positions and slopes keep theirs, since distances of close points do not survive 8 bits of mantissa.
"""

import torch

from bsa_kernels import _validate, backends, ops
from bsa_kernels.reference import Branches


def ball_attention(
    q, k, v, positions=None, distance_slope=None, point_mask=None, *, ball_size, backend="auto", return_lse=False
):
    """Attention of every point to the points of its ball.

    .. math:: o_i = \\sum_{j \\in ball(i)} softmax_j(q_i k_j / \\sqrt d + \\sigma_h |p_i - p_j|) v_j

    (Erwin, arXiv 2502.17019, eq. 10).

    Parameters
    ----------
    q, k, v : Tensor (B, H, N, d)
        In leaf order: the points of ball b are b * ball_size to (b + 1) * ball_size - 1.
    positions : Tensor (B, N, D), optional
        Coordinates, with `distance_slope`. A constant: it receives no gradient.
    distance_slope : Tensor (H,), optional
        sigma_h; the bias is sigma_h times the distance.
    point_mask : Tensor (B, N) bool, optional
        True for real points. A masked point is never read, and its output is zero.
    ball_size : int
        Points in a ball; divides N.
    backend : {"auto", "triton", "torch"}
        "auto" is Triton on a CUDA device where it can run the call, else torch.
    return_lse : bool
        Also give the log-sum-exp (B, H, N) of the scores; -inf where a query reads nothing.

    Returns
    -------
    Tensor (B, H, N, d), or (out, lse)
    """
    _validate.backend(backend)
    _validate.attention_inputs(q, k, v)
    _validate.sizes(q.shape[2], ball_size=ball_size)
    _validate.distance_bias(q, positions, distance_slope)
    _validate.mask("point_mask", point_mask, q.shape[0], q.shape[2], q.device)
    q, k, v = _autocast(q, k, v)
    result = ops.ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size, backend)
    return result if return_lse else result[0]


def compressed_attention(q, k_coarse, v_coarse, block_mask=None, *, repeat=1, backend="auto", return_lse=False):
    """Attention of every query to the coarse key of every block.

    (NSA, arXiv 2502.11089, eq. 7; BSA, arXiv 2506.12541, eq. 8.)

    Parameters
    ----------
    q : Tensor (B, H, Q, d)
        Queries, or coarse queries under group compression.
    k_coarse, v_coarse : Tensor (B, H, M, d)
        One key and value for each block.
    block_mask : Tensor (B, M) bool, optional
        True for blocks that hold a real point; the others are never read.
    repeat : int
        How often each result is repeated along the points: the block size under group compression.
    backend, return_lse
        As in :func:`ball_attention`.

    Returns
    -------
    Tensor (B, H, Q * repeat, d), or (out, lse)
    """
    _validate.backend(backend)
    _validate.attention_inputs(q, k_coarse, v_coarse, ("q", "k_coarse", "v_coarse"), same_length=False)
    _validate.mask("block_mask", block_mask, q.shape[0], k_coarse.shape[2], q.device)
    if isinstance(repeat, bool) or not isinstance(repeat, int) or repeat < 1:
        raise ValueError(f"repeat must be a positive integer, got {repeat!r}")
    out, lse = ops.compressed_attention(*_autocast(q, k_coarse, v_coarse), block_mask, backend)
    if repeat > 1:
        out, lse = out.repeat_interleave(repeat, 2), lse.repeat_interleave(repeat, 2)
    return (out, lse) if return_lse else out


def select_blocks(
    score_q, k_coarse, block_mask=None, *,
    ball_size, block_size, group_size, top_k, mask_own_ball=True, backend="auto",
):  # fmt: skip
    """The blocks each group reads: those of highest score ``score_q . k_coarse`` (BSA, arXiv 2506.12541, eq. 12-14).

    Parameters
    ----------
    score_q : Tensor (B, H, G, d)
        One query for each group: the mean of its queries (eq. 12), or coarse queries (eq. 13-14).
    k_coarse : Tensor (B, H, M, d)
        One key for each block.
    block_mask : Tensor (B, M) bool, optional
        True for blocks that hold a real point; the others are never chosen.
    ball_size, block_size, group_size : int
        Points in a ball, block and group; `group_size` is 1 where every query selects for itself.
    top_k : int
        Blocks a group reads, at most M.
    mask_own_ball : bool
        Leave out the blocks of the group's own ball, which the ball branch reads anyway.
    backend
        As in :func:`ball_attention`.

    Returns
    -------
    Tensor (B, H, G, top_k) int64
        Best first, ties to the lowest block, -1 where there are fewer admissible blocks. Carries no gradient.
    """
    _validate.backend(backend)
    _validate.attention_inputs(score_q, k_coarse, k_coarse, ("score_q", "k_coarse", "k_coarse"), same_length=False)
    groups, blocks = score_q.shape[2], k_coarse.shape[2]
    _validate.sizes(
        blocks * block_size, ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k
    )
    if groups * group_size != blocks * block_size:
        raise ValueError(
            f"{groups} groups of {group_size} and {blocks} blocks of {block_size} are not the same points; "
            "score_q must have one query per group and k_coarse one key per block"
        )
    _validate.mask("block_mask", block_mask, score_q.shape[0], blocks, score_q.device)
    score_q, k_coarse = _autocast(score_q.detach(), k_coarse.detach())
    return ops.select_blocks(
        score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball, backend
    )


def selected_attention(
    q, k, v, indices, point_mask=None, *, block_size, group_size, backend="auto", return_lse=False
):
    """Attention of all queries of a group to the points of the blocks chosen for it (BSA, arXiv 2506.12541, eq. 9-11).

    Parameters
    ----------
    q, k, v : Tensor (B, H, N, d)
        In leaf order: block b holds the points b * block_size to (b + 1) * block_size - 1.
    indices : Tensor (B, H, G, k) int64
        Blocks of each of the G = N / group_size groups; -1 marks a missing slot. Values are not checked.
    point_mask : Tensor (B, N) bool, optional
        True for real points. A masked point is never read, and its output is zero.
    block_size, group_size : int
        Points in a block and queries in a group; 1 where every query selects for itself.
    backend, return_lse
        As in :func:`ball_attention`.

    Returns
    -------
    Tensor (B, H, N, d), or (out, lse)
    """
    _validate.backend(backend)
    _validate.attention_inputs(q, k, v)
    _validate.sizes(q.shape[2], block_size=block_size, group_size=group_size)
    _validate.indices(indices, q, q.shape[2] // group_size)
    _validate.mask("point_mask", point_mask, q.shape[0], q.shape[2], q.device)
    q, k, v = _autocast(q, k, v)
    result = ops.selected_attention(q, k, v, indices, point_mask, block_size, group_size, backend)
    return result if return_lse else result[0]


def ball_sparse_attention(
    q, k, v, gate, positions=None, distance_slope=None, point_mask=None, *,
    ball_size=256, block_size=8, group_size=8, top_k=4, q_coarse=None, k_coarse=None, v_coarse=None,
    group_compression=False, coarse_scores=False, group_selection=True, mask_own_ball=True,
    backend="auto", return_aux=False,
):  # fmt: skip
    """Ball Sparse Attention (arXiv 2506.12541): the gated sum of its ball, compression and selection branches.

    Parameters
    ----------
    q, k, v : Tensor (B, H, N, d)
        In leaf order, N a multiple of `ball_size`.
    gate : Tensor (B, H, N, 3)
        Weights of (ball, compression, selection), after the sigmoid.
    positions : Tensor (B, N, D), optional
        Coordinates for the distance bias, with `distance_slope`. A constant: it receives no gradient.
    distance_slope : Tensor (H,), optional
        sigma_h of the ball branch's bias sigma_h * distance.
    point_mask : Tensor (B, N) bool, optional
        True for real points. A masked point is never read; a block without a real point is never read or chosen; the
        output at a masked point is zero.
    ball_size, block_size, group_size : int
        Points in a ball (m), compression block (l) and selection group (g); `ball_size` is a multiple of the others.
    top_k : int
        Blocks a group selects (k*), at most N / `block_size`.
    q_coarse, k_coarse, v_coarse : Tensor (B, H, N / block_size, d), optional
        Learnt pooling of each block; by default the mean over its real points.
    group_compression : bool
        Coarse queries in the compression branch, each result repeated for its block.
    coarse_scores : bool
        Choose blocks with coarse queries (eq. 13-14) instead of the group's mean query (eq. 12).
    group_selection : bool
        False: every query selects for itself, and `group_size` is not used.
    mask_own_ball : bool
        Selection leaves out the blocks of the group's own ball.
    backend : {"auto", "triton", "torch"}
        "auto" is Triton on a CUDA device where it can run the call, else torch.
    return_aux : bool
        Also give :class:`Branches`: the branches before their gates, the chosen blocks, the log-sum-exps.

    Returns
    -------
    Tensor (B, H, N, d), or (out, Branches)

    Raises
    ------
    ValueError, TypeError
        When an argument does not fit; the message says what was expected and what to do.
    """
    n = q.shape[2] if isinstance(q, torch.Tensor) and q.dim() == 4 else 0
    _validate.backend(backend)
    _validate.attention_inputs(q, k, v)
    _validate.sizes(n, ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k)
    _validate.gate(gate, q)
    _validate.distance_bias(q, positions, distance_slope)
    _validate.mask("point_mask", point_mask, q.shape[0], n, q.device)
    for name, x in (("q_coarse", q_coarse), ("k_coarse", k_coarse), ("v_coarse", v_coarse)):
        _validate.coarse(name, x, q, n // block_size)
    switches = dict(group_compression=group_compression, coarse_scores=coarse_scores, group_selection=group_selection)
    _validate.switches(block_size=block_size, group_size=group_size, **switches)

    q, k, v, gate, q_coarse, k_coarse, v_coarse = _autocast(q, k, v, gate, q_coarse, k_coarse, v_coarse)
    sizes = dict(ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k)
    options = dict(**sizes, **switches, mask_own_ball=mask_own_ball)
    dims = 0 if positions is None else positions.shape[2]
    whole = None if return_aux else backends.fused(backend, q, **options, spatial_dims=dims)
    if whole is not None:
        return whole(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, **options)
    branches = _branches(
        q, k, v, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, **options, backend=backend
    )
    out = gate[..., 0:1] * branches.ball
    out = torch.addcmul(out, gate[..., 1:2], branches.compression)
    out = torch.addcmul(out, gate[..., 2:3], branches.selection)
    return (out, branches) if return_aux else out


def _branches(
    q, k, v, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, *,
    ball_size, block_size, group_size, top_k,
    group_compression, coarse_scores, group_selection, mask_own_ball, backend,
):  # fmt: skip
    group = group_size if group_selection else 1
    block_mask = None if point_mask is None else point_mask.unflatten(1, (-1, block_size)).any(-1)
    k_coarse = pool_mean(k, point_mask, block_size) if k_coarse is None else k_coarse
    v_coarse = pool_mean(v, point_mask, block_size) if v_coarse is None else v_coarse
    if q_coarse is None and (group_compression or coarse_scores):
        q_coarse = pool_mean(q, point_mask, block_size)

    ball, ball_lse = ops.ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size, backend)

    compression, compression_lse = ops.compressed_attention(
        q_coarse if group_compression else q, k_coarse, v_coarse, block_mask, backend
    )
    if group_compression:
        compression = compression.repeat_interleave(block_size, 2)
        compression_lse = compression_lse.repeat_interleave(block_size, 2)
    if point_mask is not None:
        compression = compression.masked_fill(~point_mask[:, None, :, None], 0)
        compression_lse = compression_lse.masked_fill(~point_mask[:, None], -torch.inf)

    score_q = (q_coarse if coarse_scores else pool_mean(q.detach(), point_mask, group)).detach()
    indices = ops.select_blocks(
        score_q, k_coarse.detach(), block_mask, ball_size, block_size, group, top_k, mask_own_ball, backend
    )
    if point_mask is not None:
        group_mask = point_mask.unflatten(1, (-1, group)).any(-1)
        indices = indices.masked_fill(~group_mask[:, None, :, None], -1)
    selection, selection_lse = ops.selected_attention(q, k, v, indices, point_mask, block_size, group, backend)
    return Branches(ball, compression, selection, indices, ball_lse, compression_lse, selection_lse)


def pool_mean(x, point_mask, size):
    """Mean over the real points of every run of `size` points: (B, H, N, d) to (B, H, N / size, d).

    Half precision is summed in float32. A run without a real point gives zero.
    """
    if size == 1:
        return x
    runs = x.unflatten(2, (-1, size))
    if point_mask is None:
        return runs.mean(3)
    real = point_mask.unflatten(1, (-1, size))[:, None, :, :, None]
    total = runs.masked_fill(~real, 0).sum(3, dtype=torch.promote_types(x.dtype, torch.float32))
    return (total / real.sum(3).clamp(min=1)).to(x.dtype)


def _autocast(*tensors):
    """Cast to the autocast dtype where autocast is on; float64 is left alone, as autocast does."""
    if not _validate.autocasting(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return tuple(x if x is None or x.dtype == torch.float64 else x.to(dtype) for x in tensors)
