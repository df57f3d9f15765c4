"""The learnt slope of the ball branch's distance bias."""

import torch
from torch import nn


def distance_slope(num_heads, trained=True):
    """sigma_h of every head, near -1: a point one unit away weighs about 1/e as much (Erwin, arXiv 2502.17019, eq. 10).

    The published code never trains it (`trained` False).
    """
    return nn.Parameter(-1 + 0.01 * torch.randn(num_heads), requires_grad=trained)
