"""Full attention: every point reads every point."""

from torch.nn import functional as F

from bsaviz.attention.heads import Heads


class FullAttention(Heads):
    """Multi-head attention softmax(q k^T / sqrt(d)) v over the whole cloud.

    Probe points: ``q``, ``k``, ``v`` (B, H, N, d) and ``out`` (B, N, C).

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    """

    branches = ("full",)

    def forward(self, x, positions=None, mask=None):
        """Tokens (B, N, C) to tokens (B, N, C); `mask` (B, N) is True for real points, the only ones read."""
        self.check(x, positions, mask)
        q, k, v = self.split(x)
        readable = None if mask is None else mask[:, None, None, :]
        return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=readable))
