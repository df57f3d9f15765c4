"""What a model costs, and how that compares."""

from bsaviz.study.cost import cost, count_gflops

__all__ = ["cost", "count_gflops"]
