"""What an Erwin-NSA is made of, and its settings by name."""

from dataclasses import dataclass

from bsaviz._checks import BsavizError
from bsaviz.attention.bsa import check_variant
from bsaviz.models.settings import check_choices, check_counts, check_messages, check_points
from bsaviz.trees import ORDERINGS


@dataclass(frozen=True)
class ErwinNSAConfig:
    """Configuration of an :class:`~bsaviz.models.ErwinNSA`; the defaults are those published for ShapeNet-Car.

    Attributes
    ----------
    embed_dim : int
        Channels of the embedding and of the message passing (`c_in` in the published code).
    dim, depth, num_heads : int
        Channels, layers and heads of the attention; `dim` is a multiple of `num_heads`.
    ball_size : int
        Points of a ball of the local attention.
    block_size : int
        Points of a small ball that is compressed and selected; `ball_size` is a multiple.
    top_k : int
        Small balls that a query selects.
    group_size : int
        Queries that select together; 1, as published: every query for itself. In groups of 8 an eighth of the choices
        is made and kept; as many keys are read (``data/measurements/family.json``).
    pooling : {"mean", "mlp"}
    mp_steps : int
        Steps of message passing before the attention; 0 leaves it out, and the graph with it.
    neighbours : int
        Nearest points, the point itself among them, that send messages to a point where no edges are given.
    radius : float or None
        Instead of nearest points: all within this distance, in the units that the model sees (see `position_scaling`).
    ordering : {"balltree", "morton", "hilbert", "kmeans", "graph"}
        See :func:`bsaviz.trees.order_points`; "graph" cuts along the edges, where they are given.
    in_features, out_features, fourier_features, spatial_dims, position_scaling, mlp_ratio, rotation_angle
        As in :class:`TransformerConfig`.
    coordinates : bool
        The positions themselves are among a point's features.
    recompute : bool
        Each layer is computed a second time in the backward pass instead of keeping what it needs: of a layer, only its
        input tokens stay in memory. Without it, what is cheap is made again all the same: the perceptron's hidden
        values, the messages on the edges, q, k and v, and with kernels every query's own choice.
    """

    embed_dim: int = 64
    dim: int = 64
    depth: int = 6
    num_heads: int = 16
    ball_size: int = 512
    block_size: int = 32
    top_k: int = 16
    group_size: int = 1
    pooling: str = "mean"
    mp_steps: int = 3
    neighbours: int = 8
    radius: float | None = None
    ordering: str = "balltree"
    in_features: int = 0
    out_features: int = 1
    fourier_features: int = 64
    coordinates: bool = False
    mlp_ratio: int = 4
    rotation_angle: float | None = None
    spatial_dims: int = 3
    position_scaling: str = "length"
    recompute: bool = False

    def __post_init__(self):
        check_choices(self, ordering=ORDERINGS)
        check_counts(self, 1, "embed_dim", "dim", "depth", "num_heads", "mlp_ratio")
        check_variant(self.pooling, "token", self.ball_size, self.block_size, self.group_size, self.top_k)
        if self.dim % self.num_heads:
            raise BsavizError(f"dim must be a multiple of num_heads, got dim={self.dim} and num_heads={self.num_heads}")
        check_points(self)
        check_messages(self)

    @property
    def inputs(self):
        """Numbers that are known of a point before the embedding."""
        return self.fourier_features + self.in_features + self.coordinates * self.spatial_dims

    @property
    def rotates(self):
        """Whether odd layers read the second order."""
        return bool(self.rotation_angle) and self.depth > 1


# Those named after a task are the published ones (arXiv 2508.10758 and its training scripts: compress_ball_size,
# local_ball_size, num_selected_blocks, c_in, c_hidden). Features of the tasks are no part of a preset, as for Erwin.
ERWIN_NSA_PRESETS = {
    "tiny": dict(
        embed_dim=16, dim=32, depth=4, num_heads=2, ball_size=64, block_size=16, top_k=4, mp_steps=1,
        fourier_features=16, rotation_angle=45.0,
    ),
    "small": dict(dim=64, depth=6, num_heads=4, ball_size=128, block_size=32, top_k=8, rotation_angle=45.0),
    "shapenet": dict(depth=6, ball_size=512),
    "cosmology": dict(
        depth=12, ball_size=128, neighbours=10, rotation_angle=45.0, coordinates=True, fourier_features=0,
        position_scaling="none", out_features=3,
    ),
    "md": dict(
        embed_dim=16, depth=6, ball_size=32, rotation_angle=45.0, fourier_features=16, out_features=6,
    ),
}  # fmt: skip
ERWIN_NSA_PRESETS["published"] = ERWIN_NSA_PRESETS["shapenet"]
