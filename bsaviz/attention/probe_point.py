"""Named places in a model where something can be looked at."""

from torch import nn


class ProbePoint(nn.Module):
    """Hands its input on unchanged, so that a forward hook can see it.

    A model's probe points are its submodules of this class; the name of one is its path in the model, e.g.
    ``layers.0.attn.q``. What is costly to have (the branches before their gates) is only computed while it is observed.
    """

    def forward(self, x):
        return x

    @property
    def observed(self):
        """Whether a forward hook is attached."""
        return len(self._forward_hooks) > 0
