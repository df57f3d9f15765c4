"""What every model over point clouds has."""

import torch
from torch import nn

from bsaviz._checks import BsavizError


class PointModel(nn.Module):
    """Base of the models: numbers for every point of a cloud, with one set of methods and checks.

    A model defines ``forward(positions, features=None, batch=None, tree=None)``, ``tree(positions, batch=None)``,
    ``attention_sites(tree)``, and the two steps of its forward: ``leaf_arguments(positions, features, tree)``, a dict
    of tensors that are read off the points, and ``forward_leaves(**arguments)``, one graph of tensors for torch.compile
    and for meta tensors. Its configuration, a frozen dataclass, has ``spatial_dims``, ``in_features`` and
    ``out_features`` among its fields.

    Parameters
    ----------
    config : dataclass
    width : int
        Numbers that the model gives for a point.

    Attributes
    ----------
    output_mean, output_std : Tensor (width,)
        Buffers that turn what is trained on (normalised) into physical units; :meth:`predict` applies them.
    """

    def __init__(self, config, width):
        super().__init__()
        self.config = config
        self.register_buffer("output_mean", torch.zeros(width))
        self.register_buffer("output_std", torch.ones(width))

    @torch.no_grad()
    def predict(self, positions, features=None, batch=None, tree=None, **inputs):
        """Predictions in physical units: (P,) for one number a point, else (P, out_features).

        Further keyword arguments are those of the model's ``forward``.
        """
        values = self(positions, features, batch, tree, **inputs) * self.output_std + self.output_mean
        return values[:, 0] if self.config.out_features == 1 else values

    def attention_sites(self, tree):
        """The model's attention layers on the tree of one sample, in the order in which they run.

        Parameters
        ----------
        tree : BallTree
            Of one sample, as :meth:`tree` makes it.

        Returns
        -------
        list of AttentionSite
            The `layer` of a field is the place in this list.
        """
        raise NotImplementedError  # every family has its own

    def point_features(self, positions, features):
        """What is known of the points before the embedding: encoded positions, positions, features, as configured."""
        dtype = self.embedding.weight.dtype
        parts = [] if self.encoding is None else [self.encoding(positions.to(dtype))]
        parts += [positions.to(dtype)] if getattr(self.config, "coordinates", False) else []
        parts += [] if features is None else [features.to(dtype)]
        return torch.cat(parts, dim=-1)

    def check_points(self, positions, features):
        """Refuse positions and features that the model cannot read."""
        dims, width = self.config.spatial_dims, self.config.in_features
        if not isinstance(positions, torch.Tensor) or positions.dim() != 2 or positions.shape[1] != dims:
            came = tuple(positions.shape) if isinstance(positions, torch.Tensor) else type(positions).__name__
            raise BsavizError(f"positions must be a tensor (P, {dims}), got {came}")
        if len(positions) == 0:
            raise BsavizError("the cloud is empty: positions has no points; give at least one")
        if not width and features is not None:
            raise BsavizError(
                f"features {tuple(features.shape)} were given, but this model has in_features=0; leave them out, or "
                f"build the model with in_features={features.shape[-1]}"
            )
        if width and (features is None or tuple(features.shape) != (len(positions), width)):
            came = "None" if features is None else tuple(features.shape)
            raise BsavizError(
                f"features must be ({len(positions)}, {width}), since this model has in_features={width}, got {came}"
            )
        if features is not None and not features.isfinite().all():
            raise BsavizError("features hold NaN or infinite values; remove those points or fill them in")

    def check_tree(self, tree, positions, *, multiple=1, angle=None):
        """Refuse a tree of other points, of no multiple of so many slots, or without the rotated tree that is read.

        Gives the tree back.
        """
        if tree.num_points != len(positions):
            raise BsavizError(
                f"the tree has {tree.num_points} points but positions has {len(positions)}; give a tree of these points"
            )
        if tree.order.shape[1] % multiple:
            raise BsavizError(
                f"the tree has {tree.order.shape[1]} slots, no multiple of {multiple}: whole balls of this model; "
                "make it with model.tree(positions)"
            )
        if angle and tree.rotation is None:
            raise BsavizError(
                f"odd layers of this model read a tree rotated by {angle} degrees, and the tree has none; make it with "
                "model.tree(positions)"
            )
        return tree
