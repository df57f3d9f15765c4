"""Which slots each branch may read: from the tree, the mask and the chosen blocks alone."""

import torch

# Branches that read a few slots; the others read all of them.
READS_FEW = ("ball", "selection", "window")


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
    """
    shape = (len(slots), trace.num_heads, trace.num_slots)
    if branch not in READS_FEW:
        return trace.attended.expand(shape)
    read, there = read_by(trace, branch, slots)
    chosen = torch.zeros(*read.shape[:2], trace.num_slots + 1, dtype=torch.bool, device=slots.device)
    chosen.scatter_(-1, read.masked_fill(~there, trace.num_slots), True)  # one extra column takes what is not there
    return chosen[..., :-1].expand(shape)


def read_by(trace, branch, slots):
    """Slots that a branch of `READS_FEW` looks at, and which of them it may read.

    Returns
    -------
    read : tensor (Q, 1 or H, R) int64
        One row for all heads where they look at the same.
    there : tensor (Q, 1 or H, R) bool
        False for padding and for missing slots, whose number in `read` means nothing.
    """
    read, exists = _LOOKS_AT[branch](trace, slots)
    return read, exists & trace.attended[read]


def unit_size(trace, branch):
    """How many slots in a row look at the same slots in a branch of `READS_FEW`."""
    return {"ball": trace.ball_size, "selection": trace.group_size, "window": 1}[branch]


def _own_ball(trace, slots):
    read = (slots // trace.ball_size * trace.ball_size)[:, None] + torch.arange(trace.ball_size, device=slots.device)
    return read[:, None], torch.ones_like(read[:, None], dtype=torch.bool)


def _selected(trace, slots):
    blocks = trace.indices[:, slots // trace.group_size].transpose(0, 1)  # (Q, H, k); -1 is missing
    read = blocks.clamp(min=0)[..., None] * trace.block_size + torch.arange(trace.block_size, device=slots.device)
    return read.flatten(-2), (blocks >= 0).repeat_interleave(trace.block_size, dim=-1)


def _window(trace, slots):
    around = slots[:, None, None] + torch.arange(trace.window, device=slots.device) - trace.window // 2
    exists = (around >= 0) & (around < trace.num_slots)
    return around.clamp(0, trace.num_slots - 1), exists


_LOOKS_AT = {"ball": _own_ball, "selection": _selected, "window": _window}
