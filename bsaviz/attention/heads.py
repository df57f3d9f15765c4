"""What all attentions share: projections to heads and back, with their probe points."""

from contextlib import nullcontext

import torch
from torch import nn
from torch.nn import functional as F

from bsaviz._checks import BsavizError
from bsaviz.attention.linear import Linear
from bsaviz.attention.probe_point import ProbePoint
from bsaviz.attention.remade import made_again


class Heads(nn.Module):
    """Base of the attentions: q, k, v of every head from the tokens, and the tokens from the heads' outputs.

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    keep_heads : bool
        Keep q, k, v for the backward pass; False: make them again there, by one product more.

    Attributes
    ----------
    branches : tuple of str
        Names of the branches, in the order of their gates.
    """

    branches: tuple[str, ...] = ()

    def __init__(self, dim, num_heads, keep_heads=True):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise BsavizError(f"dim must be a multiple of num_heads, got dim={dim} and num_heads={num_heads}")
        self.dim, self.num_heads, self.keep_heads = dim, num_heads, keep_heads
        self.qkv = Linear(dim, 3 * dim)
        self.out_proj = Linear(dim, dim)
        self.q, self.k, self.v, self.out = ProbePoint(), ProbePoint(), ProbePoint(), ProbePoint()

    def trace_parameters(self):
        """Numbers and tensors, by name, that decide who reads whom; none where every point reads every point."""
        return {}

    def split(self, x):
        """q, k, v of shape (B, H, N, d) from tokens (B, N, C)."""
        heads = self._in_heads(self.qkv(x))
        return self.q(heads[0]), self.k(heads[1]), self.v(heads[2])

    def kept(self, x, *heads):
        """Context of the attention to q, k, v of tokens x: unless `keep_heads`, x alone is kept for the gradient.

        x is as :func:`~bsaviz.attention.linear.rounded` gives it. A compiled model plans its memory itself.
        """
        if self.keep_heads or not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return nullcontext()
        tokens, weight, bias = x.detach(), self.qkv.weight, self.qkv.bias
        again = lambda: self._in_heads(F.linear(tokens, weight.to(x.dtype), bias.to(x.dtype)))
        return made_again(again, heads)

    def _in_heads(self, x):
        # One copy for all three; kernels would else make three, and three more when they come back for the gradient.
        return x.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).contiguous()

    def merge(self, heads):
        """Tokens (B, N, C) from the heads' outputs (B, H, N, d)."""
        return self.out(self.out_proj(heads.transpose(1, 2).flatten(2)))

    def check(self, x, positions, mask):
        """Refuse inputs that do not fit each other."""
        if x.dim() != 3 or x.shape[-1] != self.dim:
            raise BsavizError(f"x must be (B, N, {self.dim}) in leaf order, got {tuple(x.shape)}")
        if positions is not None and (positions.dim() != 3 or positions.shape[:2] != x.shape[:2]):
            expected = f"({x.shape[0]}, {x.shape[1]}, D)"
            raise BsavizError(f"positions must be (B, N, D) = {expected}, got {tuple(positions.shape)}")
        if mask is not None and mask.shape != x.shape[:2]:
            raise BsavizError(f"mask must be (B, N) = {tuple(x.shape[:2])}, got {tuple(mask.shape)}")
