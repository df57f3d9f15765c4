"""The linear layer of every module here."""

from torch import nn


class Linear(nn.Linear):
    """A linear layer that starts, as in the published model, from a truncated normal of width 0.02 and zero bias."""

    def reset_parameters(self):
        nn.init.trunc_normal_(self.weight, std=0.02)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
