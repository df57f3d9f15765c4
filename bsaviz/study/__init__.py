"""What a model costs, and how that compares."""

from bsaviz.study.cost import cost, count_gflops
from bsaviz.study.measured import measured
from bsaviz.study.plan import SweepPlan
from bsaviz.study.sweep import Sweep
from bsaviz.study.sweep_results import open_sweep

__all__ = ["Sweep", "SweepPlan", "cost", "count_gflops", "measured", "open_sweep"]
