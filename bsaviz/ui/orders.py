"""A cloud in one order: the nodes of a level, their radii, their padding, and colours for all of it."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bsaviz import trees
from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree
from bsaviz.ui.palette import distinct

NAMES = {
    "rotated": "Rotated ball tree",
    "morton": "Morton order",
    "hilbert": "Hilbert order",
    "kmeans": "Balanced k-means",
    "graph": "Cuts of the neighbour graph",
}


@dataclass(frozen=True)
class TreeSettings:
    """What the ball trees and the curves are made with."""

    ball_size: int
    block_size: int
    level: int
    angle: float
    padding: str


class Order:
    """The nodes of one level of a tree, point by point, in input order.

    Attributes
    ----------
    name : str
        Title of the picture.
    node : (P,) int64
        Node of each point.
    place : (P,) int64
        Slot of each point: its place in the leaf order.
    radius : (P,) float
        Radius of the point's node, in lengths of the cloud (longest side of its bounding box).
    padding : (P,) float
        Share of the slots of the point's node that are padding, percent.
    """

    def __init__(self, name, tree, level, length):
        self.name, self.tree, self.level = name, tree, level
        self.place = tree.inverse.numpy()
        self.node = self.place // level
        self._nodes = tree.nodes(level)
        self.radii = self._nodes.radii[0].numpy() / (length or 1.0)
        self.counts = self._nodes.counts[0].numpy()

    @property
    def radius(self):
        return self.radii[self.node]

    @property
    def padding(self):
        return 100 * (1 - self.counts[self.node] / self.level)

    @cached_property
    def repeated(self):
        """Points that padding slots repeat, (k,) int64."""
        return np.unique(self.tree.order[0][~self.tree.mask[0]].numpy())

    def colours(self, pairs):
        """(P,) rows of `palette.DISTINCT`: nodes that touch differ. `pairs` are those of `palette.touching`."""
        return distinct(self.node, pairs)[self.node]

    def members(self, point):
        """Points of the node that holds `point`, (k,) int64."""
        return np.flatnonzero(self.node == self.node[point])

    def numbers(self):
        """Texts for the table: nodes, points of a node, mean and largest radius, padding."""
        held = self.counts > 0
        low, high = self.counts[held].min(), self.counts[held].max()
        slots = self.counts.size * self.level
        return (
            f"{held.sum():,}",
            f"{low:,}" if low == high else f"{low:,} to {high:,}",
            f"{self.radii[held].mean():.4f}",
            f"{self.radii[held].max():.4f}",
            f"{100 * (slots - self.counts.sum()) / slots:.1f} %",
        )


def check(settings, num_points):
    """Refuse settings that no tree of this cloud can have."""
    ball, block, level = settings.ball_size, settings.block_size, settings.level
    if ball > num_points:
        raise BsavizError(
            f"a ball of {ball:,} points is larger than this cloud of {num_points:,}; lower the ball size to "
            f"{1 << (num_points.bit_length() - 1):,} or less"
        )
    if ball % block:
        raise BsavizError(
            f"a block of {block} points does not divide a ball of {ball}; lower the block size to {ball} or less"
        )
    if level > ball and settings.padding != "power_of_two":
        raise BsavizError(
            f"nodes of {level:,} slots lie above the balls of {ball}, and those levels are even only when the number "
            "of balls is a power of two; set the padding to a power of two, or lower the level"
        )


def main_and_second(positions, settings, second):
    """The ball tree's order, and another to compare it with.

    Parameters
    ----------
    positions : tensor (P, D)
    settings : TreeSettings
    second : str
        ``"rotated"``, or one of `bsaviz.trees.ORDERINGS`.

    Returns
    -------
    (Order, Order)
    """
    check(settings, len(positions))
    angle = settings.angle if second == "rotated" else 0.0
    tree = BallTree.build(
        positions,
        ball_size=settings.ball_size,
        block_size=settings.block_size,
        rotation_angle=angle,
        padding=settings.padding,
    )
    level = min(settings.level, tree.order.shape[1])
    length = float(np.ptp(positions.numpy(), axis=0).max())
    if second != "rotated":
        name = NAMES.get(second, second)
        other = trees.order_points(
            positions,
            ordering=second,
            ball_size=settings.ball_size,
            block_size=settings.block_size,
            padding=settings.padding,
        )
    elif angle:
        name, other = f"Ball tree turned by {angle:g}°", tree.rotated
    else:
        name, other = "Ball tree turned by 0°: the same", tree
    return Order("Ball tree", tree, level, length), Order(name, other, level, length)
