"""Solvers that make ground truth: flow by source panels, potentials of surface charges, heat on a mesh."""

from bsaviz.physics.heat import heat_flow
from bsaviz.physics.panels import PanelFlow, panel_flow
from bsaviz.physics.potential import surface_potential

__all__ = ["PanelFlow", "heat_flow", "panel_flow", "surface_potential"]
