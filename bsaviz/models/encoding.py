"""From coordinates to features."""

import torch
from torch import nn

LENGTH = 4.0


class FourierEncoding(nn.Module):
    """cos and sin of learnt directions: Linear(D -> width / 2, no bias), its weights drawn from N(0, 1).

    Parameters
    ----------
    spatial_dims : int
    width : int
        Features given; even.
    """

    def __init__(self, spatial_dims, width):
        super().__init__()
        self.linear = nn.Linear(spatial_dims, width // 2, bias=False)
        nn.init.normal_(self.linear.weight)

    def forward(self, positions):
        angles = self.linear(positions)
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def scaled_to_length(positions, length=LENGTH):
    """Each sample (B, N, D) centred on its bounding box and scaled so that its longest side is `length`.

    Padding repeats points of its sample, so it does not move the box. A single place stays at the origin.
    """
    low, high = positions.amin(1, keepdim=True), positions.amax(1, keepdim=True)
    side = (high - low).amax(2, keepdim=True)
    return (positions - (low + high) / 2) * (length / torch.where(side > 0, side, length))
