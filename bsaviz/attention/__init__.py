"""Attention over points in leaf order, as modules with named probe points."""

from bsaviz.attention.ball import BallAttention
from bsaviz.attention.bsa import BallSparseAttention
from bsaviz.attention.erwin_nsa import ErwinNSAAttention
from bsaviz.attention.full import FullAttention
from bsaviz.attention.nsa import NativeSparseAttention
from bsaviz.attention.probe_point import ProbePoint

__all__ = [
    "BallAttention",
    "BallSparseAttention",
    "ErwinNSAAttention",
    "FullAttention",
    "NativeSparseAttention",
    "ProbePoint",
]
