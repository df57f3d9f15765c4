"""Erwin: ball attention in a U-Net over the levels of a ball tree."""

from dataclasses import replace

import torch
from torch import nn

from bsaviz.attention.linear import Linear
from bsaviz.models.erwin_config import ErwinConfig
from bsaviz.models.erwin_parts import BallPooling, BallUnpooling, Layers, Level
from bsaviz.models.messages import MessageModel
from bsaviz.models.sites import AttentionSite, check_one_sample
from bsaviz.trees import BallTree
from bsaviz.trees.levels import coarse_rotations, coarsen, with_rotation


class Erwin(MessageModel):
    """The Erwin transformer (Zhdanov, Welling, van de Meent, arXiv 2502.17019): a U-Net over the levels of a ball tree.

    Points are embedded, exchange messages with their neighbours (:class:`~bsaviz.attention.mpnn.MessagePassing`), and
    are put in the leaf order of a ball tree. Level i has N / (s_0 ... s_{i-1}) slots. In every layer a slot reads the
    slots of its ball at that level,

    .. math:: softmax(q k^T / \\sqrt d + \\sigma_h |p_i - p_j|) v

    (eq. 8-10), odd layers in the order of the level's rotated tree. Between levels, s consecutive slots are pooled into
    one at their mean place (eq. 12), and on the way back spread again and added to what was there (eq. 13). The balls
    keep their number of slots, so they cover more points at every level.

    What differs from the published code, unless ``config.published``: padding is masked at every level (it is never
    read, pooled as zeros and left out of the batch norms' statistics), N is padded to whole balls of every level
    instead of to a power of two, and the slopes sigma are trained. In both: a pooled place is the mean of real slots;
    messages are summed with fewer products; a radius graph has all neighbours, where torch_cluster stops at 32.

    Probe points: ``embed`` (B, N, C), and for every layer ``encoder.0.blocks.1.input``, ``.attn.q``, ``.attn.ball``,
    ..., ``bottleneck.blocks.0...``, ``decoder.0...`` (the decoder's first is its coarsest), in the order of the slots
    that the layer reads.

    Parameters
    ----------
    config : ErwinConfig
        See :func:`bsaviz.models.build` for named ones.
    """

    def __init__(self, config=None):
        config = ErwinConfig() if config is None else config
        dims, dims_in_space = config.dims, config.spatial_dims
        channels = dims[0] if config.decode else dims[-1]
        super().__init__(config, config.out_features or channels, dims[0])
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        for i, stride in enumerate(config.strides):
            stage = Layers(config, i, config.enc_depths[i], config.enc_num_heads[i])
            stage.pool = BallPooling(dims[i], dims[i + 1], stride, dims_in_space) if stride > 1 else None
            self.encoder.append(stage)
        last = len(dims) - 1
        self.bottleneck = Layers(config, last, config.enc_depths[last], config.enc_num_heads[last])
        for i in reversed(range(last if config.decode else 0)):
            stage = Layers(config, i, config.dec_depths[i], config.dec_num_heads[i])
            stage.unpool = BallUnpooling(dims[i + 1], dims[i], config.strides[i], dims_in_space)
            self.decoder.append(stage)
        width = config.out_features
        self.head = nn.Sequential(Linear(channels, channels), nn.GELU(), Linear(channels, width)) if width else None

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
            With ``decode=False`` (Q, out_features): one row for each of the Q slots of the coarsest level that hold a
            point, sample after sample in leaf order (see :meth:`coarse_batch`).

        Raises
        ------
        BsavizError
            For positions, features or edges of a wrong shape or with NaN, an empty cloud, or a tree of other sizes.
        """
        config = self.config
        self.check_points(positions, features)
        if tree is None:
            tree = self.tree(positions, batch)
        else:
            angle = config.rotation_angle if config.rotates else None
            self.check_tree(tree, positions, multiple=config.slot_multiple, angle=angle)
        values = self.forward_leaves(**self.leaf_arguments(positions, features, tree, edges))
        return tree.scatter(values) if config.decode else values[self._coarse_mask(tree)]

    def leaf_arguments(self, positions, features, tree, edges=None):
        """What :meth:`forward_leaves` takes, for these points and their tree."""
        return {
            **self.point_arguments(positions, features, tree, edges),
            "mask": None if self.config.published or tree.mask.numel() == tree.num_points else tree.mask,
            "rotations": self._rotations(tree),
        }

    def forward_leaves(self, positions, features=None, edges=None, order=None, inverse=None, mask=None, rotations=()):
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
            True for real points; None where all are, or where padding is read like points (published).
        rotations : sequence of Tensor (B, N_i) int64 or None
            Rotated order of each level, None for a level where no layer reads it; empty where no level has one.

        Returns
        -------
        Tensor (B, N, out_features), in leaf order; with ``decode=False`` (B, N_coarse, out_features)
        """
        config = self.config
        x, places = self.embedded(positions, features, edges, order, inverse)
        rotations = rotations or (None,) * len(config.dims)
        levels, skipped = [Level(places, mask, rotations[0])], []
        for stage, stride, rotation in zip(self.encoder, config.strides, rotations[1:]):
            x = stage(x, levels[-1])
            skipped.append(x)
            levels.append(levels[-1].coarser(stride, rotation))
            x = x if stage.pool is None else stage.pool(x, *levels[-2:])
        x = self.bottleneck(x, levels[-1])
        for stage in self.decoder:
            fine, coarse = levels[stage.level : stage.level + 2]
            x = stage(stage.unpool(x, skipped[stage.level], fine, coarse), fine)
        return x if self.head is None else self.head(x)

    @torch.no_grad()
    def tree(self, positions, batch=None):
        """The tree that :meth:`forward` builds for these points; its blocks are the runs that are pooled first.

        Its number of slots is a multiple of the balls of every level.
        """
        config = self.config
        tree = BallTree.build(
            positions,
            batch,
            ball_size=config.slot_multiple,
            block_size=config.ball_size,
            padding="power_of_two" if config.published else "multiple",
        )
        tree = replace(tree, ball_size=config.ball_size, block_size=config.strides[0] if config.strides else 1)
        if not config.rotates:
            return tree
        return with_rotation(tree, config.rotation_angle, config.ball_size, published=config.published)

    def attention_sites(self, tree):
        """See :meth:`PointModel.attention_sites`: the encoder's layers, the bottleneck's, the decoder's."""
        check_one_sample(tree)
        rotations = self._rotations(tree)
        level_mask = torch.ones_like(tree.mask) if self.config.published else tree.mask
        masks = [coarsen(tree.positions, level_mask, total)[1] for total in self.config.totals]
        stages = [(f"encoder.{i}", stage) for i, stage in enumerate(self.encoder)]
        stages += [("bottleneck", self.bottleneck)]
        stages += [(f"decoder.{i}", stage) for i, stage in enumerate(self.decoder)]
        sites = []
        for name, stage in stages:
            for i, block in enumerate(stage.blocks):
                rotation = rotations[stage.level][0] if rotations and i % 2 else None
                place = self._place(tree, stage.level, masks[stage.level][0], rotation)
                sites.append(AttentionSite(f"{name}.blocks.{i}.attn", block.attn, *place, stage.level))
        return sites

    @property
    def rotated_levels(self):
        """Levels in which some layer reads the rotated tree."""
        stages = [*self.encoder, self.bottleneck, *self.decoder]
        return sorted({stage.level for stage in stages if self.config.rotates and len(stage.blocks) > 1})

    def coarse_batch(self, tree):
        """Sample of each row that a model without a decoder gives, (Q,) int64."""
        return self._coarse_mask(tree).nonzero()[:, 0]

    def _place(self, tree, level, attended, rotation):
        """Slot of each point, slots that are read, and point in each slot, in the order of one layer."""
        total = self.config.totals[level]
        slots, order = tree.inverse // total, tree.order[0] if total == 1 else None
        if rotation is not None:
            slots, attended = rotation.argsort()[slots], attended[rotation]
            order = None if order is None else order[rotation]
        return slots, attended, order

    def _rotations(self, tree):
        config = self.config
        if not config.rotates:
            return ()
        coarse = coarse_rotations(tree, config.strides, config.ball_sizes[1:], published=config.published)
        return (tree.rotation, *coarse)

    def _coarse_mask(self, tree):
        total = self.config.totals[-1]
        mask = torch.ones_like(tree.mask) if self.config.published else tree.mask
        return mask.unflatten(1, (-1, total)).any(-1)
