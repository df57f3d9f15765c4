r"""How much a layer's output at a query changes with the tokens that it reads.

For head `h` and branch `b`, with the gated output :math:`o_{h b}(i) = \gamma_{h b}(i) \sum_j p_{h b}(i, j) v_h(j)` of
query `i`, its d channels, and the tokens `x` (C channels each) that the attention is given,

.. math:: g_{h b}(i, j) = \Big\lVert \frac{\partial o_{h b}(i)}{\partial x_j} \Big\rVert_F
          = \Big( \sum_{c=1}^{d} \sum_{c'=1}^{C} \Big( \frac{\partial o_{h b c}(i)}{\partial x_{j c'}} \Big)^2
          \Big)^{1/2},

with the chosen blocks held fixed, as in training. Of a region, `o` is the mean over its points. Every row of the
Jacobian is exact: automatic differentiation down to q, k and v, one vector-Jacobian product a channel for all heads at
once (heads do not mix before the output projection), then the weights that made them of the tokens.
"""

from contextlib import ExitStack
from dataclasses import replace

import torch

from bsaviz.fields.mass import of_all, of_few, query_rows
from bsaviz.fields.structural import READS_FEW

_LIVE = ("q", "k", "v", "q_coarse", "k_coarse", "v_coarse", "gate")
AT_ONCE = 2**23  # entries of (channel, head, slot, channel of q, k and v) held at once


def layer_gradient(trace, members):
    """Norm of the Jacobian of a layer's output, for each query, head and branch: (Q, H, branches, P) float32.

    Where several slots hold a point (padding that is read), their tokens count as one; the points of a coarse slot
    share its norm evenly.

    Parameters
    ----------
    trace : LayerTrace
        Of an attention whose q, k and v are a linear map ``qkv`` of the tokens.
    members : list of tensor int64
        Slots of each query: one, or those of a region.
    """
    with torch.enable_grad():
        layer = _Layer(trace)
        norms = [torch.stack([layer.norm(slots, branch) for branch in trace.branches], dim=1) for slots in members]
    return torch.stack(norms)


class _Layer:
    """A layer run again with a graph: what its outputs depend on."""

    def __init__(self, trace):
        tokens = trace.inputs[0].detach().clone().requires_grad_()
        record = _run(trace.attention, (tokens, *trace.inputs[1:]))
        self.heads = list(trace.heads or range(trace.num_heads))
        self.qkv = [record[name] for name in ("q", "k", "v")]
        of_heads = {name: value[0][self.heads] for name, value in record.items()}
        self.values, self.values_coarse = of_heads.pop("v"), of_heads.pop("v_coarse", None)
        self.trace = replace(trace, **of_heads)
        self.gate_moves = [_by_token(gate, tokens) for gate in self.trace.gate.unbind(-1)]  # (H, N, C) a branch
        # (H, 3 d, C): the tokens' part in q, k and v of each head
        weight = trace.attention.qkv.weight.detach().unflatten(0, (3, trace.attention.num_heads, -1))
        self.weight = weight[:, self.heads].transpose(0, 1).flatten(1, 2)
        self.gram = self.weight @ self.weight.mT

    def norm(self, slots, branch):
        """Norm for one query, (H, P) float32; `slots` (S,) are those of its points."""
        b = self.trace.branches.index(branch)
        each = self._outputs(branch, slots)
        gate = self.trace.gate[:, slots, b].detach()
        mean = (gate[..., None] * each).mean(1)  # (H, d)
        held = torch.zeros(len(slots), self.trace.num_slots, dtype=gate.dtype, device=slots.device)
        held[torch.arange(len(slots)), slots] = 1 / len(slots)
        held = self.trace.to_points(held)  # (S, P): the part that each point has in the tokens of the query
        square = torch.zeros(len(gate), held.shape[1], dtype=torch.float64, device=slots.device)
        at_once = max(1, AT_ONCE // (3 * self.qkv[0].numel()))
        for some in torch.arange(mean.shape[1], device=slots.device).split(at_once):
            rows = self.trace.to_points(self._rows(mean, some))
            moved = (each.detach()[..., some].to(gate.dtype), self.gate_moves[b][:, slots], held)
            square += self._square(rows, *moved)
        return square.sqrt().float()

    def _outputs(self, branch, slots):
        """What a branch gives at some slots before its gate: (H, S, d)."""
        trace = self.trace
        if branch in READS_FEW:
            found, read = of_few(trace, branch, slots[:, None])
            heads = torch.arange(trace.num_heads, device=slots.device)[:, None, None]
            values = self.values[heads, read.transpose(0, 1)]
            return torch.einsum("hsr,hsrd->hsd", found[:, :, 0], values.to(found.dtype))
        found = of_all(trace, branch, query_rows(trace, branch, slots))
        values = self.values_coarse if branch == "compression" else self.values
        return found @ values.to(found.dtype)

    def _rows(self, out, channels):
        """Gradient of some channels of `out` (H, d) by q, k and v of each head: (channels, H, 3 d, N)."""
        chosen = torch.zeros(len(channels), *out.shape, dtype=out.dtype, device=out.device)
        chosen[torch.arange(len(channels)), :, channels] = 1
        options = dict(retain_graph=True, is_grads_batched=True, allow_unused=True)
        found = torch.autograd.grad(out, self.qkv, chosen, **options)
        none = self.qkv[0].new_zeros(len(channels), *self.qkv[0].shape)
        joined = torch.cat([none if rows is None else rows for rows in found], dim=-1)
        return joined[:, 0, self.heads].transpose(-1, -2)

    def _square(self, rows, each, gate_moves, held):
        """Squared norm (H, P) over some channels, of their rows (channels, H, 3 d, P) carried on to the tokens.

        The query's own tokens move its gate too, by `gate_moves` (H, S, C), and with it the outputs `each` (H, S,
        channels).
        """
        square = torch.einsum("chap,hab,chbp->hp", rows, self.gram, rows)
        points = held.any(0).nonzero()[:, 0]
        through_read = torch.einsum("chap,hak->chpk", rows[..., points], self.weight)
        through_gate = torch.einsum("hsc,hsk,sp->chpk", each, gate_moves, held[:, points])
        square[:, points] = (through_read + through_gate).square().sum((0, 3))
        return square


def _run(attention, inputs):
    """What an attention makes on the way, by name, with its graph."""
    record = {}
    with ExitStack() as hooks:  # `probe` would also keep gradients, which the batches of rows here do not fit
        for name in _LIVE:
            if hasattr(attention, name):
                keep = lambda module, given, made, name=name: record.__setitem__(name, made)
                hooks.callback(getattr(attention, name).register_forward_hook(keep).remove)
        attention(*inputs)
    return record


def _by_token(gate, tokens):
    """Gradient of the gate (H, N) of every slot by its own token, (H, N, C): a gate depends on no other token."""
    if not gate.requires_grad:
        return tokens.new_zeros(*gate.shape, tokens.shape[-1])
    rows = [torch.autograd.grad(one.sum(), tokens, retain_graph=True, allow_unused=True)[0] for one in gate]
    return torch.stack([torch.zeros_like(tokens[0]) if row is None else row[0] for row in rows])
