"""The linear layer of every module here."""

import torch
from torch import nn


class Linear(nn.Linear):
    """A linear layer that starts, as in the published model, from a truncated normal of width 0.02 and zero bias."""

    def reset_parameters(self):
        nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def rounded(x):
    """x as autocast, where it is on, would give it to a linear layer: once for all that read it, and kept once."""
    kind = x.device.type
    if kind == "meta" or x.dtype == torch.float64 or not torch.is_autocast_enabled(kind):
        return x
    return x.to(torch.get_autocast_dtype(kind))
