"""One layer of the transformer."""

from torch import nn

from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention, NativeSparseAttention, ProbePoint
from bsaviz.models.swiglu import SwiGLU


class Layer(nn.Module):
    """x + attention(RMSNorm(x)), then x + SwiGLU(RMSNorm(x)). Probe points: ``input``, ``output`` (B, N, C).

    Parameters
    ----------
    attn : nn.Module
        Its channels ``dim`` are the layer's.
    mlp_ratio : int
        Hidden width of the SwiGLU over the channels.
    """

    def __init__(self, attn, mlp_ratio):
        super().__init__()
        self.input, self.output = ProbePoint(), ProbePoint()
        self.norm1, self.norm2 = nn.RMSNorm(attn.dim), nn.RMSNorm(attn.dim)
        self.attn = attn
        self.mlp = SwiGLU(attn.dim, mlp_ratio * attn.dim)

    def forward(self, x, positions, mask=None):
        """Tokens (B, N, C) to tokens, in the leaf order of this layer's tree."""
        x = self.input(x)
        x = x + self.attn(self.norm1(x), positions, mask)
        return self.output(x + self.mlp(self.norm2(x)))


def attention(config, layer=0):
    """The attention module that a configuration asks for, of the layer with this number."""
    if config.attention == "full":
        return FullAttention(config.dim, config.num_heads)
    if config.attention == "nsa":
        return NativeSparseAttention(
            config.dim, config.num_heads, config.block_size, config.top_k, config.window,
            group_size=config.group_size if config.group_selection else 1, pooling=config.pooling,
        )  # fmt: skip
    shared = dict(spatial_dims=config.spatial_dims, train_slope=not config.as_published("slopes"))
    if config.attention == "ball":
        return BallAttention(config.dim, config.num_heads, config.ball_size, **shared)
    variant = ("pooling", "group_compression", "coarse_scores", "group_selection", "mask_own_ball", "gate", "branches",
               "selection")  # fmt: skip
    return BallSparseAttention(
        config.dim, config.num_heads, config.ball_size, config.block_size, config.group_size, config.top_k,
        **{name: getattr(config, name) for name in variant}, **shared, seed=config.selection_seed + layer,
        own_ball_leaks=config.as_published("leak"),
    )  # fmt: skip
