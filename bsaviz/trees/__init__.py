"""Ball trees and other orderings: the leaf order in which attention reads a point cloud."""

from bsaviz.trees.balltree import BallTree
from bsaviz.trees.nodes import Nodes
from bsaviz.trees.orderings import ORDERINGS, order_points

__all__ = ["ORDERINGS", "BallTree", "Nodes", "order_points"]
