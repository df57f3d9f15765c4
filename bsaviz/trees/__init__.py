"""Ball trees: the leaf order in which attention reads a point cloud."""

from bsaviz.trees.balltree import BallTree
from bsaviz.trees.nodes import Nodes

__all__ = ["BallTree", "Nodes"]
