"""Ball attention: every point reads the points of its ball."""

from bsa_kernels import ball_attention
from bsaviz.attention.heads import Heads
from bsaviz.attention.position import BallPosition
from bsaviz.attention.probe_point import ProbePoint
from bsaviz.attention.slope import distance_slope


class BallAttention(Heads):
    """Ball tree attention (Erwin, arXiv 2502.17019): softmax(q k^T / sqrt(d) + sigma_h |p_i - p_j|) v in each ball.

    Probe points: ``q``, ``k``, ``v`` and ``ball`` (B, H, N, d), ``ball_lse`` (B, H, N), ``out`` (B, N, C).

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    ball_size : int
        Points in a ball; divides the number of leaf slots.
    spatial_dims : int
        2 or 3.
    train_slope : bool
        Whether sigma_h is trained; the published code does not.
    backend : {"auto", "triton", "torch"}
        Kernels that run it; may be changed at any time.
    """

    branches = ("ball",)

    def __init__(self, dim, num_heads, ball_size=256, *, spatial_dims=3, train_slope=True, backend="auto"):
        super().__init__(dim, num_heads)
        self.ball_size, self.backend = ball_size, backend
        self.ball_position = BallPosition(dim, ball_size, spatial_dims)
        self.distance_slope = distance_slope(num_heads, train_slope)
        self.ball, self.ball_lse = ProbePoint(), ProbePoint()

    def forward(self, x, positions, mask=None):
        """Tokens (B, N, C) to tokens, in leaf order; positions (B, N, D), `mask` (B, N) True for real points."""
        self.check(x, positions, mask)
        q, k, v = self.split(self.ball_position(x, positions, mask))
        ball, lse = ball_attention(
            q, k, v, positions, self.distance_slope, mask,
            ball_size=self.ball_size, backend=self.backend, return_lse=True,
        )  # fmt: skip
        self.ball_lse(lse)
        return self.merge(self.ball(ball))

    def trace_parameters(self):
        """What decides who reads whom: ``ball_size`` and ``distance_slope`` (H,)."""
        return {"ball_size": self.ball_size, "distance_slope": self.distance_slope.detach()}
