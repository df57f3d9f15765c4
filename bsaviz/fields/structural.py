"""Which slots each branch may read: from the tree, the mask and the chosen blocks alone."""

import torch


def readable(trace, branch, slots):
    """Slots that a branch may read from, for each query and head.

    =============== =========================================================================
    branch          reads
    =============== =========================================================================
    ``ball``        the attended slots of the query's own ball, in this layer's (rotated) tree
    ``compression`` every attended slot (also under group compression)
    ``selection``   the attended slots of the blocks that the query's group chose, head by head
    ``full``        every attended slot
    =============== =========================================================================

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
    tensor (Q, H, N) bool
    """
    chosen = _READS[branch](trace, slots) & trace.attended
    return chosen.expand(len(slots), trace.num_heads, trace.num_slots)


def selected_blocks(trace, slots):
    """Blocks chosen by the group of each query: (Q, H, k) int64, best first, -1 where a slot is missing."""
    return trace.indices[:, slots // trace.group_size].transpose(0, 1)


def _whole_cloud(trace, slots):
    return torch.ones(1, 1, 1, dtype=torch.bool, device=slots.device)


def _own_ball(trace, slots):
    ball_of_slot = torch.arange(trace.num_slots, device=slots.device) // trace.ball_size
    return (ball_of_slot == (slots // trace.ball_size)[:, None])[:, None]


def _selected(trace, slots):
    blocks = selected_blocks(trace, slots)
    missing = trace.num_blocks  # one extra column takes the missing slots
    chosen = torch.zeros(*blocks.shape[:2], trace.num_blocks + 1, dtype=torch.bool, device=slots.device)
    chosen.scatter_(-1, blocks.masked_fill(blocks < 0, missing), True)
    return chosen[..., :missing].repeat_interleave(trace.block_size, dim=-1)


_READS = {"ball": _own_ball, "compression": _whole_cloud, "selection": _selected, "full": _whole_cloud}
