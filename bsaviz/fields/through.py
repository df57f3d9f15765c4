r"""Fields through the layers: what can reach a query, and its mass rolled out, carried back layer by layer.

Both follow a query's row from the layer asked for down to the input, a vector of P numbers a query; each layer is
applied through its index structures, in chunks, so that no N x N matrix is ever held.
"""

import numpy as np
import torch

from bsaviz.fields.layerwise import AT_ONCE
from bsaviz.fields.mass import of_all, of_few, share_blocks
from bsaviz.fields.structural import READS_FEW, read_by, unit_size

# From near to far. A branch of `reach` and `rollout` goes with those before it.
NEAR_TO_FAR = ("ball", "window", "selection", "compression", "full")


def reach(traces, queries, layers, branches):
    r"""Points that can influence a query by a layer's output, through the attention of all layers up to it.

    With :math:`S_l(i)` the points that layer `l` may read for `i` (in any of the heads), and `i` itself, which the
    residual keeps,

    .. math:: R_l(i) = \bigcup_{j \in S_l(i) \cup \{i\}} R_{l-1}(j), \qquad R_{-1}(i) = \{i\}.

    Parameters
    ----------
    traces : list of LayerTrace
        Layers 0, 1, ..., up to the last one asked for.
    queries : Queries
    layers : list of int
        Layers whose output is asked about.
    branches : list of str
        An entry of the result uses only its branch and those before it in `NEAR_TO_FAR`.

    Returns
    -------
    array (Q, layers, branches, P) bool
    """
    start = _starts(traces[0], queries) > 0
    order = _near_to_far(branches)
    state = start.new_zeros(len(layers), start.shape[0], len(order), start.shape[1])
    for trace, begun in _backwards(traces, layers):
        if trace.layer in layers:
            state[layers.index(trace.layer)] = start[:, None]
        state[begun] = _reach_back(trace, state[begun].flatten(0, 1), order).unflatten(0, (len(begun), -1))
    return _as_asked(state, order, branches)


def rollout(traces, queries, layers, branches):
    r"""Attention mass rolled out through the layers (Abnar & Zuidema, arXiv 2005.00928), adapted to gated branches.

    The attention of a layer, all heads and branches together, made to sum to one, is mixed half and half with the
    residual, and the layers are multiplied:

    .. math::
        \bar A_l(i, j) = \frac{\sum_{h, b} \gamma_{h b}(i) \, p_{h b}(i, j)}
                              {\sum_{h, b, j'} \gamma_{h b}(i) \, p_{h b}(i, j')}, \qquad
        R_l = \tfrac12 (I + \bar A_l) \, R_{l-1}, \qquad R_{-1} = I.

    A row of :math:`R_l` sums to one. A query that reads nothing keeps its own row. At a coarse level, `I` and what is
    read are shared evenly over the points of a slot. Arguments as for `reach`.

    Returns
    -------
    array (Q, layers, branches, P) float32
        The mass of the paths that use a branch and no farther one (`NEAR_TO_FAR`): over the branches it sums to
        :math:`R_l`. Paths along the residual alone count for the nearest branch.
    """
    start = _starts(traces[0], queries)
    order = _near_to_far(branches)
    state = start.new_zeros(len(layers), start.shape[0], len(order), start.shape[1])
    for trace, begun in _backwards(traces, layers):
        if trace.layer in layers:
            state[layers.index(trace.layer)] = start[:, None]
        state[begun] = _roll_back(trace, state[begun].flatten(0, 1), order).unflatten(0, (len(begun), -1))
    state[:, :, 1:] -= state[:, :, :-1].clone()  # from "this and nearer" to "no farther than this"
    return _as_asked(state.clamp(min=0).float(), order, branches)


def _starts(trace, queries):
    """Rows (Q, P) that are one at a query, or spread evenly over a region."""
    start = torch.zeros(len(queries), trace.num_points, dtype=_dtype(trace))
    weight = np.repeat([1 / len(points) for points in queries.members], [len(points) for points in queries.members])
    start[queries.owners, queries.points] = torch.from_numpy(weight).to(start.dtype)
    return start.to(trace.slots.device)


def _dtype(trace):
    return torch.promote_types(trace.gate.dtype, torch.float32)


def _near_to_far(branches):
    return sorted(branches, key=NEAR_TO_FAR.index)


def _as_asked(state, order, branches):
    """(layers, Q, branches in `order`, P) as an array (Q, layers, branches as asked, P)."""
    return state[:, :, [order.index(branch) for branch in branches]].transpose(0, 1).cpu().numpy()


def _backwards(traces, layers):
    """Each layer from the last to the first, with the entries of `layers` that are on their way by then."""
    for trace in reversed(traces):
        yield trace, [at for at, layer in enumerate(layers) if layer >= trace.layer]


def _reach_back(trace, sets, order):
    """Sets (R, branches, P) of points before a layer, from those after it."""
    out = sets.clone()
    count = torch.zeros(*sets.shape[:2], trace.num_slots, dtype=torch.int32, device=sets.device)
    slots = count.index_add_(-1, trace.slots, sets.int()) > 0
    for branch in trace.branches:
        rank = order.index(branch)
        for row in range(len(sets)):
            for at in range(rank, len(order)):
                out[row, at] |= trace.points_of(_read_from(trace, branch, slots[row, at]))
    return out | trace.points_of(slots & trace.attended)


def _read_from(trace, branch, chosen):
    """Slots (N,) bool that any of the chosen slots may read."""
    if branch not in READS_FEW:
        return trace.attended & chosen.any()
    size = unit_size(trace, branch)
    units = chosen.view(-1, size).any(-1).nonzero()[:, 0]
    read, there = read_by(trace, branch, units * size)
    out = torch.zeros_like(chosen)
    out[read[there]] = True
    return out


def _roll_back(trace, rows, order):
    """Rows (R, branches, P) before a layer, from those after it."""
    reads = torch.stack([_reads_something(trace, branch) for branch in trace.branches], dim=-1)
    gate = trace.gate.to(rows.dtype) * reads
    total = gate.sum((0, 2))
    share = 0.5 * gate / torch.where(total > 0, total, 1)[:, None]  # (H, N, branches)
    weights = rows.new_zeros(*rows.shape[:2], trace.num_slots).index_add_(-1, trace.slots, rows)
    out = weights * torch.where(total > 0, 0.5, 1.0).to(rows.dtype)
    for b, branch in enumerate(trace.branches):
        rank = order.index(branch)
        out[:, rank:] += carried(trace, branch, weights[:, rank:].flatten(0, 1), share[..., b]).view_as(out[:, rank:])
    return trace.to_points(out)


def _reads_something(trace, branch):
    """(H, N) bool: queries that have something to read."""
    if branch not in READS_FEW:
        return trace.attended.any().expand(trace.num_heads, trace.num_slots)
    size = unit_size(trace, branch)
    _, there = read_by(trace, branch, torch.arange(0, trace.num_slots, size, device=trace.slots.device))
    return there.any(-1).T.repeat_interleave(size, dim=1).expand(trace.num_heads, trace.num_slots)


def carried(trace, branch, weights, share):
    r"""The product of rows with a branch's attention: :math:`\sum_{h, i} w(r, i) \, s(h, i) \, p_h(i, j)`.

    Parameters
    ----------
    trace : LayerTrace
    branch : str
    weights : tensor (R, N)
    share : tensor (H, N)

    Returns
    -------
    tensor (R, N)
    """
    return (_carried_few if branch in READS_FEW else _carried_all)(trace, branch, weights, share)


def _carried_few(trace, branch, weights, share):
    size = unit_size(trace, branch)
    out = torch.zeros_like(weights)
    active = (weights != 0).any(0).view(-1, size).any(-1).nonzero()[:, 0]
    keys = read_by(trace, branch, active[:1] * size)[0].shape[-1]
    for units in active.split(max(1, AT_ONCE // (trace.num_heads * size * keys))):
        slots = units[:, None] * size + torch.arange(size, device=units.device)
        found, read = of_few(trace, branch, slots, weights.dtype)
        found = found * share[:, slots][..., None]
        if read.shape[1] == 1:
            given = torch.einsum("rug,ugj->ruj", weights[:, slots], found.sum(0))
        else:
            given = torch.einsum("rug,hugj->ruhj", weights[:, slots], found)
        out.index_add_(-1, read.flatten(), given.flatten(1))
    return out


def _carried_all(trace, branch, weights, share):
    if branch == "compression" and trace.group_compression:
        return _carried_by_blocks(trace, weights, share)
    compressed = branch == "compression"
    out = weights.new_zeros(len(weights), trace.num_blocks if compressed else trace.num_slots)
    for slots in (weights != 0).any(0).nonzero()[:, 0].split(max(1, AT_ONCE // (trace.num_heads * out.shape[1]))):
        found = torch.einsum("hi,hij->ij", share[:, slots], of_all(trace, branch, slots, weights.dtype))
        out += weights[:, slots] @ found
    return share_blocks(trace, out) if compressed else out


def _carried_by_blocks(trace, weights, share):
    """Group compression: the queries of a block have one row."""
    by_block = torch.einsum("rmi,hmi->rhm", *(x.unflatten(-1, (trace.num_blocks, -1)) for x in (weights, share)))
    out = weights.new_zeros(len(weights), trace.num_blocks)
    active = (by_block != 0).flatten(0, 1).any(0).nonzero()[:, 0]
    for blocks in active.split(max(1, AT_ONCE // (trace.num_heads * trace.num_blocks))):
        out += torch.einsum("rhi,hij->rj", by_block[..., blocks], of_all(trace, "compression", blocks, weights.dtype))
    return share_blocks(trace, out)
