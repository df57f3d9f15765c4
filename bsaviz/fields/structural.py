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
    ``window``      the attended ones of the slots around the query's, in this layer's order
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
        Broadcast over the heads where they all read the same.
    """
    chosen = _READS[branch](trace, slots) & trace.attended
    return chosen.expand(len(slots), trace.num_heads, trace.num_slots)


def selected_blocks(trace, slots):
    """Blocks chosen by the group of each query: (Q, H, k) int64, best first, -1 where a slot is missing."""
    return trace.indices[:, slots // trace.group_size].transpose(0, 1)


def window_slots(trace, slots):
    """Slots in the window around each of `slots`, (Q, w) int64, and which of them exist; the others are given as 0."""
    around = slots[:, None] + torch.arange(trace.window, device=slots.device) - trace.window // 2
    there = (around >= 0) & (around < trace.num_slots)
    return around.masked_fill(~there, 0), there


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


def _window(trace, slots):
    around, there = window_slots(trace, slots)
    counts = torch.zeros(len(slots), trace.num_slots, dtype=torch.int32, device=slots.device)
    return (counts.scatter_add_(1, around, there.int()) > 0)[:, None]


_READS = {
    "ball": _own_ball,
    "compression": _whole_cloud,
    "selection": _selected,
    "window": _window,
    "full": _whole_cloud,
}
