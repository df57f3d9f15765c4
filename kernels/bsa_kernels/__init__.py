"""Fused operators of Ball Sparse Attention."""
