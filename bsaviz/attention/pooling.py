"""Learnt pooling of a block of points into one coarse vector."""

from torch import nn

from bsaviz.attention.linear import Linear


class BlockMLP(nn.Sequential):
    """phi of BSA (arXiv 2506.12541): the l vectors of a block, one after the other, through a two-layer perceptron.

    Shared by the heads. Padding points enter as zeros.

    Parameters
    ----------
    block_size : int
        Points l of a block.
    head_dim : int
        Channels d of a head.
    """

    def __init__(self, block_size, head_dim):
        width = block_size * head_dim
        super().__init__(Linear(width, 2 * width), nn.ReLU(), Linear(2 * width, head_dim))
        self.block_size = block_size

    def forward(self, x, mask=None):
        """(B, H, N, d) to (B, H, N / l, d)."""
        if mask is not None:
            x = x.masked_fill(~mask[:, None, :, None], 0)
        return super().forward(x.unflatten(2, (-1, self.block_size)).flatten(3))
