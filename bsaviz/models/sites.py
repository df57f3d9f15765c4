"""Where a model attends: what is needed to look into each of its attention layers on one tree."""

from dataclasses import dataclass

import torch
from torch import nn

from bsaviz._checks import BsavizError


@dataclass(frozen=True, eq=False)
class AttentionSite:
    """One attention layer of a model, on the tree of one sample. P points, N slots of the layer's own order.

    Attributes
    ----------
    name : str
        Path of the attention in the model, with which the names of its probe points begin: ``"layers.3.attn"``.
    attention : nn.Module
        Has ``num_heads``, the class attribute ``branches`` (their names, in the order of the gates) and
        ``trace_parameters()``: a dict of those of ``ball_size``, ``block_size``, ``group_size`` (1 where every query
        selects for itself), ``group_compression``, ``window`` and ``distance_slope`` (H,) that it has.
    slots : Tensor (P,) int64
        Slot of each input point. At a coarse level several points share one.
    attended : Tensor (N,) bool
        Slots that are read: those of real points, and with the published behaviour the padding too.
    order : Tensor (N,) int64 or None
        Input point in each slot; None at a coarse level.
    level : int
        0 is the finest. Each level of a U-Net pools neighbouring slots of the one before.
    """

    name: str
    attention: nn.Module
    slots: torch.Tensor
    attended: torch.Tensor
    order: torch.Tensor | None
    level: int = 0


def check_one_sample(tree):
    """Refuse the tree of a batch: sites are those of one sample."""
    if len(tree.order) != 1:
        raise BsavizError(
            f"attention_sites looks at one sample, but the tree has {len(tree.order)}; give the tree of one of them"
        )
