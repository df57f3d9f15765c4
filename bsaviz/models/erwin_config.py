"""What an Erwin transformer is made of."""

from dataclasses import dataclass
from math import lcm, prod

from bsaviz._checks import BsavizError
from bsaviz.models.settings import check_count, check_messages, check_points

_LEVELS = ("dims", "ball_sizes", "enc_depths", "enc_num_heads")  # one for each level, the coarsest last
_BETWEEN = ("strides", "dec_depths", "dec_num_heads")  # one for each level but the coarsest


@dataclass(frozen=True)
class ErwinConfig:
    """Configuration of an :class:`~bsaviz.models.Erwin`; names are those of the published code where it has them.

    Attributes
    ----------
    dims : tuple of int
        Channels of each level, from the finest to the bottleneck.
    ball_sizes : tuple of int
        Slots of a ball at each level.
    strides : tuple of int
        Slots pooled into one between a level and the next; 1 keeps the level's slots (and its channels).
    enc_depths, enc_num_heads : tuple of int
        Layers and heads of the encoder's levels, the bottleneck last.
    dec_depths, dec_num_heads : tuple of int
        Layers and heads of the decoder's levels, the finest first.
    decode : bool
        False: no decoder, the model answers at the coarsest level.
    mp_steps : int
        Steps of message passing before the attention; 0 leaves it out, and the graph with it.
    neighbours : int
        Nearest points, the point itself among them, that send messages to a point where no edges are given.
    radius : float or None
        Instead of nearest points: all within this distance, in the units that the model sees (see `position_scaling`).
    in_features, out_features, fourier_features, spatial_dims, position_scaling, mlp_ratio, rotation_angle
        As in :class:`TransformerConfig`; odd layers of every level read that level's rotated tree.
    coordinates : bool
        The positions themselves are among a point's features.
    published : bool
        Reproduce the published code: N padded to a power of two and the padding read like points, slopes not trained.
    """

    dims: tuple[int, ...] = (32, 64, 128, 256)
    ball_sizes: tuple[int, ...] = (128, 128, 128, 128)
    strides: tuple[int, ...] = (2, 2, 2)
    enc_depths: tuple[int, ...] = (2, 2, 6, 2)
    enc_num_heads: tuple[int, ...] = (2, 4, 8, 16)
    dec_depths: tuple[int, ...] = (2, 2, 2)
    dec_num_heads: tuple[int, ...] = (2, 4, 8)
    decode: bool = True
    mp_steps: int = 3
    neighbours: int = 8
    radius: float | None = None
    in_features: int = 0
    out_features: int = 1
    fourier_features: int = 32
    coordinates: bool = False
    mlp_ratio: int = 4
    rotation_angle: float | None = 45.0
    spatial_dims: int = 3
    position_scaling: str = "length"
    published: bool = False

    def __post_init__(self):
        for name in (*_LEVELS, *_BETWEEN):
            self._check_counts(name)
        check_count("mlp_ratio", self.mlp_ratio, 1)
        self._check_levels()
        check_points(self)
        check_messages(self)

    @property
    def inputs(self):
        """Numbers that are known of a point before the embedding."""
        return self.fourier_features + self.in_features + self.coordinates * self.spatial_dims

    @property
    def totals(self):
        """Slots of the finest level in one slot of each level."""
        return tuple(prod(self.strides[:i]) for i in range(len(self.dims)))

    @property
    def slot_multiple(self):
        """The number of slots of a tree is a multiple of this: whole balls at every level."""
        return lcm(*(total * size for total, size in zip(self.totals, self.ball_sizes)))

    @property
    def ball_size(self):
        """Slots of a ball at the finest level."""
        return self.ball_sizes[0]

    @property
    def depth(self):
        """Layers in all."""
        return sum(self.enc_depths) + (sum(self.dec_depths) if self.decode else 0)

    @property
    def rotates(self):
        """Whether any layer reads a rotated tree."""
        depths = (*self.enc_depths, *(self.dec_depths if self.decode else ()))
        return bool(self.rotation_angle) and max(depths) > 1

    def _check_levels(self):
        levels = len(self.dims)
        for names, wanted in ((_LEVELS, levels), (_BETWEEN, levels - 1)):
            for name in names:
                if len(getattr(self, name)) != wanted:
                    raise BsavizError(
                        f"{name} must have {wanted} numbers, as there are {levels} dims, got {getattr(self, name)}; "
                        "the coarsest level has no stride and no decoder"
                    )
        for kind, dims in (("enc_num_heads", self.dims), ("dec_num_heads", self.dims[:-1])):
            for dim, heads in zip(dims, getattr(self, kind)):
                if dim % heads:
                    raise BsavizError(f"each of dims must be a multiple of its {kind}, got {dim} and {heads}")
        for stride, fine, coarse in zip(self.strides, self.dims, self.dims[1:]):
            if stride == 1 and fine != coarse:
                raise BsavizError(f"a stride of 1 keeps the channels, got dims {fine} and {coarse}; make them equal")

    def _check_counts(self, name):
        values = getattr(self, name)
        if not isinstance(values, tuple | list) or (not values and name in _LEVELS):
            raise BsavizError(f"{name} must be a tuple of integers, one for each level, got {values!r}")
        for value in values:
            check_count(f"each of {name}", value, 1)
        object.__setattr__(self, name, tuple(values))
