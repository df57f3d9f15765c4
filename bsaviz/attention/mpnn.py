"""Message passing between neighbours, before the attention."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from bsaviz.attention.linear import Linear


class MessagePassing(nn.Module):
    """Erwin's message passing (arXiv 2502.17019, section 3.2; Gilmer et al., arXiv 1704.01212), a number of steps.

    .. math::
        m_{ij} = LN(GELU(W_m [h_j, h_i, p_j - p_i])), \\quad
        h_i \\leftarrow h_i + LN(W_u [h_i, mean_j m_{ij}])

    over the edges from sender j to receiver i; a point without an edge gets a zero mean. What is on the edges, several
    times what is on the points, is not kept for the backward pass but made again there, a step at a time.

    The products with h_j and h_i are taken once for each point and added on the edges: the same sums as over the
    concatenation, with fewer multiplications and without an (E, 2C + D) matrix.

    Parameters
    ----------
    dim : int
        Channels C.
    steps : int
    spatial_dims : int
        2 or 3.
    """

    def __init__(self, dim, steps, spatial_dims=3):
        super().__init__()
        self.dim = dim
        self.message = nn.ModuleList(Linear(2 * dim + spatial_dims, dim) for _ in range(steps))
        self.message_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(steps))
        self.update = nn.ModuleList(Linear(2 * dim, dim) for _ in range(steps))
        self.update_norm = nn.ModuleList(nn.LayerNorm(dim) for _ in range(steps))

    def forward(self, x, positions, edges):
        """Channels (P, C) to channels, over edges (2, E) int64 from senders to receivers; positions (P, D)."""
        sender, receiver = edges
        step = (positions[sender] - positions[receiver]).to(x.dtype)
        count = torch.zeros_like(x[:, :1]).index_add(0, receiver, torch.ones_like(step[:, :1])).clamp(min=1)
        for parts in zip(self.message, self.message_norm, self.update, self.update_norm):
            run = partial(checkpoint, self._step, use_reentrant=False, preserve_rng_state=False)
            x = (run if torch.is_grad_enabled() else self._step)(x, step, count, sender, receiver, *parts)
        return x

    def _step(self, x, step, count, sender, receiver, message, message_norm, update, update_norm):
        of_sender, of_receiver, of_step = message.weight.split([self.dim, self.dim, step.shape[1]], dim=1)
        sent, received = F.linear(x, of_sender), F.linear(x, of_receiver, message.bias)
        on_edges = sent.index_select(0, sender) + received.index_select(0, receiver) + F.linear(step, of_step)
        messages = message_norm(F.gelu(on_edges)).to(x.dtype)
        mean = torch.zeros_like(x).index_add(0, receiver, messages) / count
        return x + update_norm(update(torch.cat([x, mean], dim=1)))
