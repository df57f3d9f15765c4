r"""Attention mass: gate times softmax probability, spread over the points that were read.

With the gates :math:`\gamma_b` of query :math:`i` and the probability :math:`p_b(i, s)` that branch `b` gives to slot
`s`, the mass is :math:`\gamma_b p_b(i, s)`, so that over all branches and points it sums to :math:`\sum_b \gamma_b`
(over the branches that have something to read). Equations 5 to 14 of Ball Sparse Attention, arXiv 2506.12541.
"""

import torch

from bsaviz.fields.structural import READS_FEW, read_by


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
    if branch in READS_FEW:
        found, read = of_few(trace, branch, slots[:, None])
        rows = found[:, :, 0].transpose(0, 1)
        spread = rows.new_zeros(*rows.shape[:2], trace.num_slots)
        return spread.scatter_add_(-1, read.expand(rows.shape), rows)
    rows = of_all(trace, branch, query_rows(trace, branch, slots)).transpose(0, 1)
    return share_blocks(trace, rows) if branch == "compression" else rows


def of_few(trace, branch, slots, dtype=torch.float64):
    """Probabilities in a branch that reads few slots, for units of queries that look at the same ones.

    Differentiable in q and k of the trace.

    Parameters
    ----------
    slots : tensor (U, g) int64
        Units of g queries.

    Returns
    -------
    found : tensor (H, U, g, R)
    read : tensor (U, 1 or H, R) int64
        Slot of each key.
    """
    read, there = read_by(trace, branch, slots[:, 0])
    heads = torch.arange(trace.num_heads, device=slots.device)[:, None, None]
    by_head, allowed = read.transpose(0, 1), there.transpose(0, 1)[:, :, None]  # (1 or H, U, R), (1 or H, U, 1, R)
    scores = scaled_scores(trace.q[:, slots].to(dtype), trace.k[heads, by_head].to(dtype))
    if branch == "ball" and trace.distance_slope is not None:
        apart = trace.positions[slots].to(dtype)[:, :, None] - trace.positions[read[:, 0]].to(dtype)[:, None]
        scores = scores + trace.distance_slope.to(dtype)[:, None, None, None] * apart.norm(dim=-1)
    return softmax(scores, allowed), read


def query_rows(trace, branch, slots):
    """Row of `of_all` that holds each query: its slot, or its block under group compression."""
    coarse = branch == "compression" and trace.group_compression
    return slots // trace.block_size if coarse else slots


def of_all(trace, branch, rows, dtype=torch.float64):
    """Probabilities (H, rows, slots or blocks) in a branch that reads everything, for the rows of `query_rows`."""
    compressed = branch == "compression"
    queries = trace.q_coarse if compressed and trace.group_compression else trace.q
    keys, allowed = (trace.k_coarse, attended_in_blocks(trace) > 0) if compressed else (trace.k, trace.attended)
    return softmax(scaled_scores(queries[:, rows].to(dtype), keys.to(dtype)), allowed)


def share_blocks(trace, of_block):
    """Values (..., M) of the blocks, shared evenly over the attended slots of each: (..., N)."""
    shared = of_block / attended_in_blocks(trace).clamp(min=1).to(of_block.dtype)
    return shared.repeat_interleave(trace.block_size, dim=-1) * trace.attended


def attended_in_blocks(trace):
    """How many slots of each block are read, (M,) int64."""
    return trace.attended.view(trace.num_blocks, trace.block_size).sum(-1)


def scaled_scores(queries, keys):
    """q k^T / sqrt(d) of the last two axes."""
    return queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5


def softmax(scores, allowed):
    """Softmax over the allowed entries of the last axis; zeros where none is allowed."""
    scores = scores.masked_fill(~allowed, -torch.inf)
    highest = scores.detach().amax(dim=-1, keepdim=True)
    weights = (scores - highest.masked_fill(highest.isinf(), 0)).exp()
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(weights.dtype).tiny)
