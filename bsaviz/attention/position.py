"""Where a point lies in its ball."""

from torch import nn

from bsaviz._checks import BsavizError
from bsaviz.attention.linear import Linear


class BallPosition(nn.Module):
    """Adds to each token a linear map of its position relative to its ball's centre of mass.

    x <- x + W (p - mean of p over the ball) + b (Erwin, arXiv 2502.17019, eq. 9). Padding does not count in the mean.

    Parameters
    ----------
    dim : int
        Channels of a token.
    ball_size : int
    spatial_dims : int
        2 or 3.
    """

    def __init__(self, dim, ball_size, spatial_dims=3):
        super().__init__()
        self.ball_size = ball_size
        self.proj = Linear(spatial_dims, dim)

    def forward(self, x, positions, mask=None):
        if positions.shape[1] % self.ball_size:
            raise BsavizError(
                f"the number of leaf slots must be a multiple of ball_size, got {positions.shape[1]} slots and "
                f"ball_size={self.ball_size}; order and pad the points with bsaviz.trees.BallTree"
            )
        if positions.shape[2] != self.proj.in_features:
            raise BsavizError(f"positions must have {self.proj.in_features} coordinates, got {positions.shape[2]}")
        relative = relative_to_ball(positions, mask, self.ball_size)
        return x + self.proj(relative.to(self.proj.weight.dtype))


def relative_to_ball(positions, mask, ball_size):
    """Positions (B, N, D) minus the mean of the real points of their ball; zero at padding."""
    balls = positions.unflatten(1, (-1, ball_size))
    if mask is None:
        return (balls - balls.mean(2, keepdim=True)).flatten(1, 2)
    real = mask.unflatten(1, (-1, ball_size))[..., None]
    mean = (balls * real).sum(2, keepdim=True) / real.sum(2, keepdim=True).clamp(min=1)
    return ((balls - mean) * real).flatten(1, 2)
