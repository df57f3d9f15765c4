r"""Attention mass: gate times softmax probability, spread over the points that were read.

With the gates :math:`\gamma_b` of query :math:`i` and the probability :math:`p_b(i, s)` that branch `b` gives to slot
`s`, the mass is :math:`\gamma_b p_b(i, s)`, so that over all branches and points it sums to :math:`\sum_b \gamma_b`
(over the branches that have something to read). Equations 5 to 14 of Ball Sparse Attention, arXiv 2506.12541.
"""

import torch

from bsaviz.fields.structural import selected_blocks, window_slots


def probabilities(trace, branch, slots):
    """Softmax probability of every slot in one branch, for each query and head.

    The softmax is done anew, in float64, from q and k of the queries asked for: O(N) per query, never N x N.
    A compressed block's probability is shared evenly over its attended slots. With ``pooling="mlp"`` that is a
    convention: the pooling weighs the points of a block in a way that is not linear in them. Under group compression a
    query has the probabilities of the coarse query of its block.

    Parameters
    ----------
    trace : LayerTrace
        One layer, in its own leaf order.
    branch : str
        One of `trace.branches`.
    slots : tensor (Q,) int64
        Leaf slots of the queries.

    Returns
    -------
    tensor (Q, H, N) float64
        Each row sums to one, or is zero where the branch has nothing to read.
    """
    rows, read = attention_rows(trace, branch, slots)
    if branch == "compression":
        return share_blocks(trace, rows)
    return rows if read is None else _spread(trace, rows, read)


def attention_rows(trace, branch, slots):
    """Probabilities of the keys that each query has in one branch, and where those keys are.

    Differentiable in q, k, q_coarse and k_coarse of the trace.

    Returns
    -------
    rows : tensor (Q, H, R) float64
    read : tensor (Q, 1 or H, R) int64, or None
        Slot of each key; None where the keys are all slots in order, or (compression) all blocks in order.
    """
    return _ROWS[branch](trace, slots)


def share_blocks(trace, of_block):
    """Values (..., M) of the blocks, shared evenly over the attended slots of each: (..., N)."""
    shared = of_block / attended_in_blocks(trace).clamp(min=1).to(of_block.dtype)
    return shared.repeat_interleave(trace.block_size, dim=-1) * trace.attended


def attended_in_blocks(trace):
    """How many slots of each block are read, (M,) int64."""
    return trace.attended.view(trace.num_blocks, trace.block_size).sum(-1)


def _full(trace, slots):
    return _softmax(_scores(_rows(trace.q, slots), trace.k), trace.attended), None


def _ball(trace, slots):
    size = trace.ball_size
    within = (slots // size * size)[:, None] + torch.arange(size, device=slots.device)  # (Q, m)
    scores = _scores(_rows(trace.q, slots)[:, :, None], trace.k[:, within].transpose(0, 1))[:, :, 0]
    if trace.distance_slope is not None:
        distance = (trace.positions[slots][:, None] - trace.positions[within]).double().norm(dim=-1)
        scores = scores + trace.distance_slope.double()[:, None] * distance[:, None]
    return _softmax(scores, trace.attended[within][:, None]), within[:, None]


def _compression(trace, slots):
    coarse = trace.group_compression
    queries = _rows(trace.q_coarse, slots // trace.block_size) if coarse else _rows(trace.q, slots)
    return _softmax(_scores(queries, trace.k_coarse), attended_in_blocks(trace) > 0), None


def _selection(trace, slots):
    blocks = selected_blocks(trace, slots)  # (Q, H, k)
    offsets = torch.arange(trace.block_size, device=slots.device)
    read = (blocks.clamp(min=0)[..., None] * trace.block_size + offsets).flatten(-2)  # (Q, H, k l)
    there = (blocks >= 0).repeat_interleave(trace.block_size, dim=-1) & trace.attended[read]
    heads = torch.arange(trace.num_heads, device=slots.device)[:, None]
    scores = _scores(_rows(trace.q, slots)[:, :, None], trace.k[heads, read])[:, :, 0]
    return _softmax(scores, there), read


def _window(trace, slots):
    read, there = window_slots(trace, slots)
    scores = _scores(_rows(trace.q, slots)[:, :, None], trace.k[:, read].transpose(0, 1))[:, :, 0]
    return _softmax(scores, (there & trace.attended[read])[:, None]), read[:, None]


_ROWS = {"ball": _ball, "compression": _compression, "selection": _selection, "window": _window, "full": _full}


def _rows(queries, slots):
    """Rows of (H, N, d) as (Q, H, d)."""
    return queries[:, slots].transpose(0, 1)


def _scores(queries, keys):
    """Scaled products: one query (Q, H, d) with the keys (H, M, d), or rows (Q, H, 1, d) with (Q, H, M, d)."""
    queries, keys = queries.double(), keys.double()
    scale = queries.shape[-1] ** -0.5
    if keys.ndim == 3:
        return torch.einsum("qhd,hmd->qhm", queries, keys) * scale
    return queries @ keys.transpose(-1, -2) * scale


def _softmax(scores, allowed):
    """Softmax over the allowed entries of the last axis; zeros where none is allowed."""
    allowed = allowed.expand(scores.shape)
    scores = scores.masked_fill(~allowed, -torch.inf)
    highest = scores.amax(dim=-1, keepdim=True).detach()
    weights = (scores - highest.masked_fill(highest.isinf(), 0)).exp()
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)


def _spread(trace, values, slots):
    """Put values (Q, H, R) at their slots (Q, 1 or H, R) of N."""
    spread = values.new_zeros(*values.shape[:2], trace.num_slots)
    return spread.scatter_add_(-1, slots.expand(values.shape), values)
