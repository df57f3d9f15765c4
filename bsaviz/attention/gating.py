"""How much of each branch a token takes: weights (B, H, N, 3) for (ball, compression, selection), or some of them."""

import torch
from torch import nn

from bsaviz.attention.linear import Linear


class TokenGate(nn.Module):
    """Every token weighs every branch of every head: sigmoid(Linear(C -> 3H)) (BSA, arXiv 2506.12541, eq. 9)."""

    def __init__(self, dim, num_heads, num_branches=3):
        super().__init__()
        self.shape = (num_heads, num_branches)
        self.proj = Linear(dim, num_branches * num_heads)

    def forward(self, x):
        return self.proj(x).unflatten(-1, self.shape).transpose(1, 2).contiguous().sigmoid()


class StaticGate(nn.Module):
    """Two learnt numbers per head weigh compression and selection for all tokens; the ball weighs one."""

    def __init__(self, num_heads):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_heads, 2))

    def forward(self, x):
        gate = torch.cat([torch.ones_like(self.weight[:, :1]), self.weight.sigmoid()], dim=1)
        return gate[None, :, None].expand(x.shape[0], -1, x.shape[1], -1)
