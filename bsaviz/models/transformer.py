"""A transformer over point clouds, with full, ball, ball sparse or native sparse attention."""

import torch
from torch import nn

from bsaviz.attention import ProbePoint
from bsaviz.attention.linear import Linear
from bsaviz.models.base import PointModel
from bsaviz.models.config import TransformerConfig
from bsaviz.models.encoding import FourierEncoding, scaled_to_length
from bsaviz.models.layer import Layer, attention
from bsaviz.models.order import SlotOrder
from bsaviz.models.sites import AttentionSite, check_one_sample
from bsaviz.trees import BallTree, order_points


class Transformer(PointModel):
    """Predicts numbers for every point of a cloud (BSA, arXiv 2506.12541, section 4).

    Positions are encoded, embedded, put in the leaf order of a ball tree, sent through the layers (odd ones in the
    order of a rotated tree), put back in input order and read by the head. Another ordering may take the tree's place,
    see :func:`bsaviz.trees.order_points`.

    Probe points: ``embed`` (B, N, C) in leaf order, and those of :class:`~bsaviz.models.layer.Layer` and of the
    attention, as ``layers.0.input``, ``layers.0.attn.q``, ... A layer's are in the leaf order of its own tree.

    Parameters
    ----------
    config : TransformerConfig
        See :func:`bsaviz.models.build` for named ones.
    """

    def __init__(self, config=None):
        config = TransformerConfig() if config is None else config
        super().__init__(config, config.out_features or config.dim)
        encoded = config.fourier_features
        self.encoding = FourierEncoding(config.spatial_dims, encoded) if encoded else None
        self.embedding = Linear(config.inputs, config.dim)
        self.embed = ProbePoint()
        self.layers = nn.ModuleList(Layer(attention(config, i), config.mlp_ratio) for i in range(config.depth))
        dim, width = config.dim, config.out_features
        self.head = nn.Sequential(Linear(dim, dim), nn.GELU(), Linear(dim, width)) if width else None

    def forward(self, positions, features=None, batch=None, tree=None):
        """Normalised predictions for every point.

        Parameters
        ----------
        positions : Tensor (P, D)
            Points of all samples, one after the other.
        features : Tensor (P, in_features), optional
            Features of the points, where the configuration has any.
        batch : Tensor (P,) int64, optional
            Sample of each point, ascending; None is one sample.
        tree : BallTree, optional
            A tree of these positions made before, e.g. by :meth:`tree`.

        Returns
        -------
        Tensor (P, out_features), in input order

        Raises
        ------
        BsavizError
            For positions or features of a wrong shape or with NaN, an empty cloud, or a tree of other sizes.
        """
        self.check_points(positions, features)
        tree = self.tree(positions, batch) if tree is None else self._checked_tree(tree, positions)
        return tree.scatter(self.forward_leaves(**self.leaf_arguments(positions, features, tree)))

    def leaf_arguments(self, positions, features, tree):
        """What :meth:`forward_leaves` takes, for these points and their tree."""
        return {
            "positions": tree.positions,
            "features": None if features is None else tree.gather(features),
            "mask": None if self.config.as_published("padding") or tree.mask.numel() == tree.num_points else tree.mask,
            "rotation": tree.rotation,
        }

    def forward_leaves(self, positions, features=None, mask=None, rotation=None):
        """The model on points that are in leaf order already: one graph for torch.compile, and for meta tensors.

        Parameters
        ----------
        positions : Tensor (B, N, D)
            N a multiple of the ball size.
        features : Tensor (B, N, in_features), optional
        mask : Tensor (B, N) bool, optional
            True for real points; None where all are, or where padding is read like points (published).
        rotation : Tensor (B, N) int64, optional
            Slot of the main tree for each slot of the rotated tree, where the configuration has one.

        Returns
        -------
        Tensor (B, N, out_features), in leaf order
        """
        if self.config.position_scaling == "length":
            positions = scaled_to_length(positions)
        # Under autocast the sums of residuals stay in the weights' precision; only what is added to them is rounded.
        x = self.embed(self.embedding(self.point_features(positions, features)).to(self.embedding.weight.dtype))
        orders = [SlotOrder(positions, mask)]
        if self.config.rotates:
            orders.append(SlotOrder(positions, mask, rotation))
        residual = x
        for i, layer in enumerate(self.layers):
            x = orders[i % len(orders)].run(layer, x)
            if (i + 1) % self.config.residual_every == 0 or i + 1 == len(self.layers):
                x = residual = x + residual
        return x if self.head is None else self.head(x)

    @torch.no_grad()
    def tree(self, positions, batch=None, edges=None):
        """The tree, or other ordering, that :meth:`forward` makes for these points.

        Full attention reads every point alike: its leaves are padded only to the largest sample of a batch. `edges`
        (2, E) are read by ``ordering="graph"``; by default it takes each point's nearest.
        """
        config = self.config
        if config.attention == "full" and not config.as_published("padding"):
            return BallTree.build(positions, batch, ball_size=1, block_size=1)
        return order_points(
            positions,
            batch,
            ordering=config.ordering,
            ball_size=config.ball_size,
            block_size=config.block_size,
            rotation_angle=config.rotation_angle if config.rotates else None,
            padding="power_of_two" if config.as_published("padding") else "multiple",
            rotate_to="ball" if config.as_published("trees") else "block",
            edges=edges if config.ordering == "graph" else None,
        )

    def attention_sites(self, tree):
        """See :meth:`PointModel.attention_sites`; odd layers have the order of the rotated tree."""
        check_one_sample(tree)
        sites = []
        for i, layer in enumerate(self.layers):
            own = tree.rotated if self.config.rotates and i % 2 else tree
            attended = torch.ones_like(own.mask[0]) if self.config.as_published("padding") else own.mask[0]
            sites.append(AttentionSite(f"layers.{i}.attn", layer.attn, own.inverse, attended, own.order[0]))
        return sites

    def _checked_tree(self, tree, positions):
        config = self.config
        multiple = 1 if config.attention == "full" else config.ball_size
        return self.check_tree(
            tree, positions, multiple=multiple, angle=config.rotation_angle if config.rotates else None
        )
