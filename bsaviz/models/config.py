"""What a Transformer is made of."""

from dataclasses import dataclass, fields

from bsaviz._checks import BsavizError
from bsaviz.attention.bsa import check_selection, check_variant, checked_branches
from bsaviz.models.settings import check_choices, check_counts, check_points
from bsaviz.trees import ORDERINGS

ATTENTIONS = ("bsa", "full", "ball", "nsa")
PUBLISHED_PARTS = ("trees", "slopes", "padding", "leak")


@dataclass(frozen=True)
class TransformerConfig:
    """Configuration of a :class:`~bsaviz.models.Transformer`; every default is the published one unless said.

    Attributes
    ----------
    attention : {"bsa", "full", "ball", "nsa"}
    dim, depth, num_heads : int
        Channels C, layers, heads; `dim` is a multiple of `num_heads`.
    ball_size, block_size, group_size, top_k : int
        m, l, g and k* of BSA; `ball_size` is a multiple of the block and group size.
    pooling : {"mean", "mlp"}
    group_compression, coarse_scores, group_selection, mask_own_ball : bool
    gate : {"token", "static"}
        See :class:`~bsaviz.attention.BallSparseAttention`.
    branches : tuple of {"ball", "compression", "selection"}
        Those of BSA that are on; without the others it is an ablation.
    selection : {"scores", "random", "nearest"}
        How BSA chooses blocks: learnt, or one of two baselines that learn nothing.
    selection_seed : int
        Of the random choice; each layer has a choice of its own.
    window : int
        Slots of NSA's sliding window; it has no balls, and `ball_size` is only what its slots are padded to.
    ordering : {"balltree", "morton", "hilbert", "kmeans", "graph"}
        What puts the points in order, see :func:`bsaviz.trees.order_points`.
    in_features : int
        Features of a point besides its position; 0 for none.
    out_features : int
        Numbers predicted for a point; 0 leaves out the head, and the model gives its `dim` channels.
    fourier_features : int
        Width of the position encoding, cos and sin of learnt directions; even, 0 leaves it out.
    mlp_ratio : int
        Hidden width of the SwiGLU over `dim`.
    residual_every : int
        Layers spanned by an extra residual.
    rotation_angle : float or None
        Degrees by which the tree of odd layers is rotated; None or 0: one tree for all. With another ordering, any
        angle gives odd layers its second order.
    spatial_dims : int
        2 or 3.
    position_scaling : {"length", "none"}
        "length" centres each sample on its bounding box and makes its longest side 4, so that a model trained on one
        car opens on a cloud in any unit; "none" (published) takes positions as they are.
    published : bool or tuple of {"trees", "slopes", "padding", "leak"}
        Reproduce the published code, in all or in some of what differs: "trees", rotated ones are split only down to
        the ball; "slopes" of the distance bias are not trained; "padding", N is padded to a power of two and the
        padding read like points; "leak", blocks of the own ball are selected where there are too few others.
    """

    attention: str = "bsa"
    dim: int = 64
    depth: int = 18
    num_heads: int = 8
    ball_size: int = 256
    block_size: int = 8
    group_size: int = 8
    top_k: int = 4
    pooling: str = "mean"
    group_compression: bool = False
    coarse_scores: bool = False
    group_selection: bool = True
    mask_own_ball: bool = True
    gate: str = "token"
    branches: tuple[str, ...] = ("ball", "compression", "selection")
    selection: str = "scores"
    selection_seed: int = 0
    window: int = 256
    ordering: str = "balltree"
    in_features: int = 0
    out_features: int = 1
    fourier_features: int = 64
    mlp_ratio: int = 4
    residual_every: int = 6
    rotation_angle: float | None = 45.0
    spatial_dims: int = 3
    position_scaling: str = "length"
    published: bool | tuple[str, ...] = False

    def __post_init__(self):
        check_choices(self, attention=ATTENTIONS, ordering=ORDERINGS)
        check_counts(self, 1, "dim", "depth", "num_heads", "mlp_ratio", "residual_every", "window")
        check_points(self)
        check_variant(self.pooling, self.gate, self.ball_size, self.block_size, self.group_size, self.top_k)
        check_selection(self.selection, self.selection_seed, self.coarse_scores)
        object.__setattr__(self, "branches", checked_branches(self.branches, self.gate))
        object.__setattr__(self, "published", _published(self.published))
        if self.dim % self.num_heads:
            raise BsavizError(f"dim must be a multiple of num_heads, got dim={self.dim} and num_heads={self.num_heads}")
        if self.coarse_scores and self.group_size != self.block_size:
            raise BsavizError(
                f"coarse_scores needs group_size == block_size, got {self.group_size} and {self.block_size}; "
                "make them equal"
            )
        if not self.group_selection and (self.group_compression or self.coarse_scores):
            raise BsavizError("group_compression and coarse_scores need group_selection=True; turn them off or it on")

    def as_published(self, part):
        """Whether a part of ``PUBLISHED_PARTS`` behaves as in the published code."""
        return self.published is True or (self.published is not False and part in self.published)

    @property
    def inputs(self):
        """Numbers that are known of a point before the embedding."""
        return self.fourier_features + self.in_features

    @property
    def rotates(self):
        """Whether odd layers read a rotated tree. To full attention the order of the points is all one."""
        return bool(self.rotation_angle) and self.attention != "full" and self.depth > 1


def _published(given):
    """True, False, or a tuple of parts."""
    if isinstance(given, bool):
        return given
    parts = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    unknown = [part for part in parts if part not in PUBLISHED_PARTS]
    if unknown:
        raise BsavizError(
            f"published must be True, False or some of {', '.join(map(repr, PUBLISHED_PARTS))}, got {given!r}"
        )
    kept = tuple(part for part in PUBLISHED_PARTS if part in parts)
    return False if not kept else True if kept == PUBLISHED_PARTS else kept


def check_settings(config, settings):
    """Refuse settings that a class of configurations does not have."""
    known = [field.name for field in fields(config)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        kind = with_article(config.__name__.removesuffix("Config"))
        raise BsavizError(f"unknown setting {', '.join(unknown)} of {kind}; there are {', '.join(known)}")


def with_article(name):
    """``"a Transformer"``, ``"an Erwin"``."""
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}"
