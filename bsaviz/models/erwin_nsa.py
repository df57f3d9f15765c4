"""Erwin-NSA: message passing, then layers of Native Sparse Attention over a ball tree, without a U-Net."""

from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bsaviz.attention import ErwinNSAAttention
from bsaviz.attention.linear import Linear
from bsaviz.models.erwin_nsa_config import ErwinNSAConfig
from bsaviz.models.layer import Layer
from bsaviz.models.messages import MessageModel
from bsaviz.models.order import SlotOrder
from bsaviz.models.sites import AttentionSite, check_one_sample
from bsaviz.trees import order_points


class ErwinNSA(MessageModel):
    """Erwin with Native Sparse Attention (Lapautre, Marchenko, Patiño, Zhou, arXiv 2508.10758).

    Points are embedded, exchange messages with their neighbours
    (:class:`~bsaviz.attention.mpnn.MessagePassing`), and are put in the leaf order of a ball tree. Every layer is
    x + attention(RMSNorm(x)), x + SwiGLU(RMSNorm(x)) over all points: what Erwin's U-Net carries far by pooling, the
    compression and selection branches of :class:`~bsaviz.attention.ErwinNSAAttention` read directly. Odd layers read
    the rotated tree, where the configuration has one.

    What differs from the published code is said there; here, too, padding is no part of the model, N is padded to whole
    balls instead of to a power of two, and a batch may hold several samples.

    Probe points: ``embed`` (B, N, C) in leaf order, and those of :class:`~bsaviz.models.layer.Layer` and of the
    attention, as ``layers.0.input``, ``layers.0.attn.q``, ... A layer's are in the order that the layer reads.

    Parameters
    ----------
    config : ErwinNSAConfig
        See :func:`bsaviz.models.build` for named ones.
    """

    def __init__(self, config=None):
        config = ErwinNSAConfig() if config is None else config
        super().__init__(config, config.out_features or config.dim, config.embed_dim)
        self.widen = Linear(config.embed_dim, config.dim) if config.embed_dim != config.dim else None
        self.layers = nn.ModuleList(Layer(_attention(config), config.mlp_ratio) for _ in range(config.depth))
        dim, width = config.dim, config.out_features
        self.head = nn.Sequential(Linear(dim, dim), nn.GELU(), Linear(dim, width)) if width else None

    def forward(self, positions, features=None, batch=None, tree=None, edges=None):
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
        edges : Tensor (2, E) int64, optional
            Senders and receivers of the messages; by default those of :meth:`graph`.

        Returns
        -------
        Tensor (P, out_features), in input order

        Raises
        ------
        BsavizError
            For positions, features or edges of a wrong shape or with NaN, an empty cloud, or a tree of other sizes.
        """
        config = self.config
        self.check_points(positions, features)
        if tree is None:
            tree = self.tree(positions, batch, edges)
        else:
            angle = config.rotation_angle if config.rotates else None
            self.check_tree(tree, positions, multiple=config.ball_size, angle=angle)
        return tree.scatter(self.forward_leaves(**self.leaf_arguments(positions, features, tree, edges)))

    def leaf_arguments(self, positions, features, tree, edges=None):
        """What :meth:`forward_leaves` takes, for these points and their tree."""
        return {
            **self.point_arguments(positions, features, tree, edges),
            "mask": None if tree.mask.numel() == tree.num_points else tree.mask,
            "rotation": tree.rotation,
        }

    def forward_leaves(self, positions, features=None, edges=None, order=None, inverse=None, mask=None, rotation=None):
        """The model as one graph of tensors, for torch.compile and for meta tensors.

        Parameters
        ----------
        positions, features, edges
            As in :meth:`forward`.
        order : Tensor (B, N) int64
            Point in each slot.
        inverse : Tensor (P,) int64
            Flat slot of each point.
        mask : Tensor (B, N) bool, optional
            True for real points; None where all are.
        rotation : Tensor (B, N) int64, optional
            Slot of the main order for each slot of the second, where the configuration has one.

        Returns
        -------
        Tensor (B, N, out_features), in leaf order
        """
        x, places = self.embedded(positions, features, edges, order, inverse)
        orders = [SlotOrder(places, mask)]
        if self.config.rotates:
            orders.append(SlotOrder(places, mask, rotation))
        for i, layer in enumerate(self.layers):
            if self.config.recompute and torch.is_grad_enabled():
                layer = partial(checkpoint, layer, use_reentrant=False)
            x = orders[i % len(orders)].run(layer, x)
        return x if self.head is None else self.head(x)

    @torch.no_grad()
    def tree(self, positions, batch=None, edges=None):
        """The order of the points that :meth:`forward` makes; `edges` (2, E) are read by ``ordering="graph"``."""
        config = self.config
        return order_points(
            positions,
            batch,
            ordering=config.ordering,
            ball_size=config.ball_size,
            block_size=config.block_size,
            rotation_angle=config.rotation_angle if config.rotates else None,
            edges=edges if config.ordering == "graph" else None,
        )

    def attention_sites(self, tree):
        """See :meth:`PointModel.attention_sites`; odd layers have the second order."""
        check_one_sample(tree)
        orders = [tree, tree.rotated] if self.config.rotates else [tree]
        sites = []
        for i, layer in enumerate(self.layers):
            own = orders[i % len(orders)]
            sites.append(AttentionSite(f"layers.{i}.attn", layer.attn, own.inverse, own.mask[0], own.order[0]))
        return sites


def _attention(config):
    return ErwinNSAAttention(
        config.dim,
        config.num_heads,
        config.ball_size,
        config.block_size,
        config.top_k,
        group_size=config.group_size,
        pooling=config.pooling,
        spatial_dims=config.spatial_dims,
        keep_heads=config.recompute,  # a layer that is computed again makes them again anyway
    )
