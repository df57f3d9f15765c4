"""The operators of Ball Sparse Attention (arXiv 2506.12541): plain PyTorch and fused, behind one interface."""

from bsa_kernels import flops as _flops  # noqa: F401  (registers the FLOP formulas)
from bsa_kernels.api import (
    ball_attention,
    ball_sparse_attention,
    compressed_attention,
    pool_mean,
    select_blocks,
    selected_attention,
)
from bsa_kernels.reference import Branches
from bsa_kernels.tree import BallTreeOrder, build_ball_tree

__all__ = [
    "BallTreeOrder",
    "Branches",
    "ball_attention",
    "ball_sparse_attention",
    "build_ball_tree",
    "compressed_attention",
    "pool_mean",
    "select_blocks",
    "selected_attention",
]
