"""One layer of a model up to its queries and keys: what a single query reads, without the layer's attention.

A layer's own attention costs most of its time and is not needed to say what one query reads: its blocks follow from the
scores of its own group.
"""

from dataclasses import replace

import torch

from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention
from bsaviz.fields import LayerTrace
from bsaviz.fields.mass import probabilities
from bsaviz.fields.structural import readable

_RECORDED = ("q", "k", "gate", "q_coarse", "k_coarse", "v_coarse")


class _Enough(Exception):
    """Queries and keys are there; the attention itself need not run."""


class EarlyTrace:
    """Fields of any query in one layer, as `bsaviz.fields.Trace`, without that layer's attention.

    Groups choose their blocks by the same scores as in the model; where two blocks are equal to the last digit the
    choice may differ from that of the kernels.

    Parameters
    ----------
    model : PointModel
    positions : tensor (P, D)
    layer : int
    features : array (P, F), optional
    tree : BallTree
    site : AttentionSite
        Of that layer, on that tree; see `possible`.
    """

    def __init__(self, model, positions, layer, features, tree, site):
        self.layers = [layer]
        attention, seen = site.attention, {}
        last = "v_coarse" if hasattr(attention, "v_coarse") else "v"
        hooks = [attention.register_forward_pre_hook(lambda module, inputs: seen.__setitem__("inputs", inputs))]
        for name in (*_RECORDED, last):
            if hasattr(attention, name):
                keep = lambda module, inputs, output, name=name: _keep(seen, name, output, name == last)
                hooks.append(getattr(attention, name).register_forward_hook(keep))
        try:
            with torch.no_grad():
                model(positions, features=_like(model, features), tree=tree)
        except _Enough:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        self._trace = _layer_trace(layer, site, seen)

    def readable(self, query, layer, head=None):
        """As `bsaviz.fields.Trace.readable`."""
        trace, slot = self._at(query, head)
        return {branch: _union(trace, branch, slot) for branch in trace.branches}

    def mass(self, query, layer, head=None):
        """As `bsaviz.fields.Trace.mass`."""
        trace, slot = self._at(query, head)
        gate = trace.gate[:, slot[0]].double()
        weigh = lambda b, branch: (gate[:, b, None] * probabilities(trace, branch, slot)[0]).mean(0)
        found = {branch: trace.to_points(weigh(b, branch)) for b, branch in enumerate(trace.branches)}
        return {branch: mass.float().cpu().numpy() for branch, mass in found.items()}

    def _at(self, query, head):
        """The trace with the blocks of the query's group, of one head or all, and the query's slot."""
        trace = self._trace
        slot = trace.slots[query][None]
        if "selection" in trace.branches:
            trace = replace(trace, indices=_blocks_of_group(trace, int(slot) // trace.group_size))
        return (trace if head is None else trace.of_heads([head])), slot


def possible(site):
    """Whether a layer can be looked at before its attention runs."""
    attention = site.attention
    return type(attention) in (BallSparseAttention, BallAttention, FullAttention) and (
        getattr(attention, "choice", "scores") == "scores"
    )


def from_tree_alone(site, query):
    """What the branches may read that need no score, (P,) bool each; None for the others.

    Parameters
    ----------
    site : AttentionSite
    query : int
    """
    trace, slot = _layer_trace(0, site, {}), site.slots[query][None]
    return {branch: None if branch == "selection" else _union(trace, branch, slot) for branch in trace.branches}


def _like(model, features):
    """Features as the model's weights are: their device and dtype."""
    weight = next(model.parameters())
    return None if features is None else torch.as_tensor(features, dtype=weight.dtype, device=weight.device)


def _union(trace, branch, slot):
    return trace.points_of(readable(trace, branch, slot)[0].any(0)).cpu().numpy()


def _keep(seen, name, output, enough):
    seen[name] = output
    if enough:
        raise _Enough


def _layer_trace(layer, site, seen):
    attention = site.attention
    recorded = {name: seen[name][0] for name in ("q", "k", "gate", "q_coarse", "k_coarse") if name in seen}
    if "gate" not in recorded:
        recorded["gate"] = torch.ones(
            attention.num_heads, len(site.attended), len(attention.branches), device=site.slots.device
        )
    inputs = seen.get("inputs", ())
    return LayerTrace(
        layer=layer,
        name=site.name,
        attention=attention,
        inputs=inputs,
        branches=tuple(attention.branches),
        slots=site.slots,
        order=site.order,
        attended=site.attended,
        level=site.level,
        positions=inputs[1][0] if inputs else None,
        **recorded,
        **attention.trace_parameters(),
    )


def _blocks_of_group(trace, group):
    """Indices (H, G, k) in which only the row of one group is filled; that group's scores are of eq. 12 or 13."""
    options, size = trace.attention.options, trace.group_size
    first = group * size
    members = slice(first, first + size)
    if options["coarse_scores"]:
        queries = trace.q_coarse[:, group]
    else:
        real = trace.attended[members, None].to(trace.q.dtype)
        queries = (trace.q[:, members] * real).sum(1) / real.sum().clamp(min=1)
    scores = torch.einsum("hd,hmd->hm", queries, trace.k_coarse)
    admissible = trace.attended.view(-1, trace.block_size).any(1)
    if options["mask_own_ball"]:
        ball = torch.arange(len(admissible), device=scores.device) * trace.block_size // trace.ball_size
        admissible = admissible & (ball != first // trace.ball_size)
    scores = scores.masked_fill(~admissible, -torch.inf)
    best = scores.sort(dim=1, descending=True, stable=True)  # stable: ties go to the lowest block
    k = options["top_k"]
    row = best.indices[:, :k].masked_fill(best.values[:, :k].isinf(), -1)
    indices = row.new_full((trace.num_heads, trace.num_slots // size, k), -1)
    indices[:, group] = row
    return indices
