"""Levels of an Erwin transformer: pooling, layers, unpooling."""

import torch
from torch import nn

from bsaviz.attention import BallAttention
from bsaviz.attention.linear import Linear
from bsaviz.models.layer import Layer
from bsaviz.models.order import SlotOrder
from bsaviz.trees.levels import coarsen


class SlotNorm(nn.BatchNorm1d):
    """Batch normalisation of slots (B, N, C) over all samples; padding neither counts nor changes the statistics."""

    def forward(self, x, mask=None):
        x = x.to(self.weight.dtype)
        if not self.training:
            mean, variance = self.running_mean, self.running_var
        else:
            real = torch.ones_like(x[..., :1]) if mask is None else mask[..., None].to(x.dtype)
            count = real.sum()
            mean = (x * real).sum((0, 1)) / count
            variance = ((x - mean).square() * real).sum((0, 1)) / count
            self._follow(mean, variance, count)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias

    @torch.no_grad()
    def _follow(self, mean, variance, count):
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), self.momentum)


class Level:
    """Slots of one level: where they are, which are real, and the orders in which its layers see them.

    Parameters
    ----------
    positions : Tensor (B, N, D)
    mask : Tensor (B, N) bool or None
    rotation : Tensor (B, N) int64 or None
    """

    def __init__(self, positions, mask, rotation=None):
        self.positions, self.mask = positions, mask
        self.orders = [SlotOrder(positions, mask)]
        if rotation is not None:
            self.orders.append(SlotOrder(positions, mask, rotation))

    def coarser(self, stride, rotation=None):
        """The level above, with its rotated order."""
        return Level(*coarsen(self.positions, self.mask, stride), rotation)

    def children(self, coarse, stride):
        """Places of the slots relative to that of the coarse slot they are pooled into: (B, N / stride, stride D)."""
        offset = self.positions.unflatten(1, (-1, stride)) - coarse.positions[:, :, None]
        if self.mask is not None:
            offset = offset * self.mask.unflatten(1, (-1, stride))[..., None]
        return offset.flatten(2)


class Layers(nn.Module):
    """Layers of one level, odd ones in the order of its rotated tree, with its pooling or unpooling.

    Parameters
    ----------
    config : ErwinConfig
    level : int
    depth, num_heads : int
    """

    def __init__(self, config, level, depth, num_heads):
        super().__init__()
        dim, ball_size = config.dims[level], config.ball_sizes[level]
        shared = dict(spatial_dims=config.spatial_dims, train_slope=not config.published)
        self.blocks = nn.ModuleList(
            Layer(BallAttention(dim, num_heads, ball_size, **shared), config.mlp_ratio) for _ in range(depth)
        )
        self.level = level

    def forward(self, x, level):
        """Tokens (B, N, C) to tokens, in the main order of the level."""
        for i, block in enumerate(self.blocks):
            x = level.orders[i % len(level.orders)].run(block, x)
        return x


class BallPooling(nn.Module):
    """The slots of each run of `stride`, one after the other with their places, as one: BN(W [x_1, ..., r_1, ...]).

    r_i = p_i - mean p (Erwin, arXiv 2502.17019, eq. 12). Padding enters as zeros.

    Parameters
    ----------
    dim, coarse_dim : int
        Channels before and after.
    stride, spatial_dims : int
    """

    def __init__(self, dim, coarse_dim, stride, spatial_dims):
        super().__init__()
        self.stride = stride
        self.proj = Linear(stride * (dim + spatial_dims), coarse_dim)
        self.norm = SlotNorm(coarse_dim)

    def forward(self, x, fine, coarse):
        """(B, N, C) to (B, N / stride, C'), between two levels."""
        if fine.mask is not None:
            x = x * fine.mask[..., None]
        joined = torch.cat([x.unflatten(1, (-1, self.stride)).flatten(2), fine.children(coarse, self.stride)], dim=-1)
        return self.norm(self.proj(joined), coarse.mask)


class BallUnpooling(nn.Module):
    """A coarse slot back to its slots, added to what they were before pooling: BN(x_i + (W [x, r_1, ...])_i).

    (Erwin, arXiv 2502.17019, eq. 13.)

    Parameters
    ----------
    coarse_dim, dim : int
        Channels before and after.
    stride, spatial_dims : int
    """

    def __init__(self, coarse_dim, dim, stride, spatial_dims):
        super().__init__()
        self.stride = stride
        self.proj = Linear(coarse_dim + stride * spatial_dims, stride * dim)
        self.norm = SlotNorm(dim)

    def forward(self, x, before, fine, coarse):
        """(B, N / stride, C') to (B, N, C), between two levels; `before` (B, N, C) is what was pooled."""
        spread = self.proj(torch.cat([x, fine.children(coarse, self.stride)], dim=-1))
        return self.norm(before + spread.unflatten(2, (self.stride, -1)).flatten(1, 2), fine.mask)
