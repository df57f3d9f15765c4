"""The order in which a layer sees the slots."""

import torch


class SlotOrder:
    """The main tree's order, or that of its rotation.

    Parameters
    ----------
    positions : Tensor (B, N, D)
        In the main tree's order.
    mask : Tensor (B, N) bool or None
        True for real points.
    rotation : Tensor (B, N) int64, optional
        Slot of the main tree for each slot of the rotated tree.
    """

    def __init__(self, positions, mask, rotation=None):
        self.order = self.inverse = None
        if rotation is not None:
            offset = torch.arange(len(rotation), device=rotation.device)[:, None] * rotation.shape[1]
            self.order = (rotation + offset).flatten()
            slots = torch.arange(len(self.order), device=rotation.device)
            self.inverse = torch.empty_like(slots).scatter_(0, self.order, slots)
        self.positions = self._take(positions, self.order)
        self.mask = None if mask is None else self._take(mask, self.order)

    def run(self, layer, x):
        """A layer's tokens from tokens (B, N, C), both in the main tree's order; the layer works in this one."""
        return self._take(layer(self._take(x, self.order), self.positions, self.mask), self.inverse)

    def _take(self, x, order):
        # index_select on rows: its gradient adds each row once, so it is the same in every run.
        return x if order is None else x.flatten(0, 1).index_select(0, order).view(x.shape)
