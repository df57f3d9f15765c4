"""What one layer tells by itself: structural fields and attention mass of queries, in input order."""

import numpy as np
import torch

from bsaviz.fields.gradient import layer_gradient
from bsaviz.fields.mass import probabilities
from bsaviz.fields.structural import readable

AT_ONCE = 2**22  # entries of (query, head, slot) worked on at once: 32 MiB in float64


def gates_at(trace, queries):
    """Gate of each branch at the queries, the mean over the points of a region: (Q, H, branches) float32."""
    slots = _slots(trace, queries)
    out = np.zeros((len(queries), trace.num_heads, len(trace.branches)), np.float32)
    _gather(out, queries, slice(None), trace.gate[:, slots].transpose(0, 1).double(), mean=True)
    return out


def structural(trace, queries):
    """What each branch may read, the union over the points of a region: (Q, H, branches, P) bool."""
    out = np.zeros((len(queries), trace.num_heads, len(trace.branches), trace.num_points), bool)
    slots = _slots(trace, queries)
    for rows in chunks(trace, len(slots)):
        for b, branch in enumerate(trace.branches):
            reads = trace.points_of(readable(trace, branch, slots[rows]))
            _gather(out[:, :, b], queries, rows, reads, mean=False)
    return out


def mass(trace, queries):
    """Gate times probability, the mean over the points of a region: (Q, H, branches, P) float32."""
    out = np.zeros((len(queries), trace.num_heads, len(trace.branches), trace.num_points), np.float32)
    slots = _slots(trace, queries)
    for rows in chunks(trace, len(slots)):
        gate = trace.gate[:, slots[rows]].transpose(0, 1).double()
        for b, branch in enumerate(trace.branches):
            probability = trace.to_points(probabilities(trace, branch, slots[rows]))
            _gather(out[:, :, b], queries, rows, probability * gate[:, :, b, None], mean=True)
    return out


def gradient(trace, queries):
    """Norm of the Jacobian of each branch's output, of its mean over a region: (Q, H, branches, P) float32."""
    members = [trace.slots[torch.from_numpy(points).to(trace.slots.device)] for points in queries.members]
    return layer_gradient(trace, members).cpu().numpy()


def chunks(trace, rows):
    """Slices of so many rows that bound the memory of what is worked on at once."""
    step = max(1, AT_ONCE // (trace.num_heads * trace.num_slots))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _slots(trace, queries):
    return trace.slots[torch.from_numpy(queries.points).to(trace.slots.device)]


def _gather(out, queries, rows, values, mean):
    """Bring rows of points to their queries in `out` (Q, ...): as they are, or as union or mean over a region."""
    if queries.are_points:
        out[rows] = values.to(torch.float32 if mean else torch.bool).cpu().numpy()
        return
    owners = queries.owners[rows]
    for owner in np.unique(owners):
        own = values[torch.from_numpy(owners == owner).to(values.device)]
        if mean:
            out[owner] += (own.sum(0) / len(queries.members[owner])).float().cpu().numpy()
        else:
            out[owner] |= own.any(0).cpu().numpy()
