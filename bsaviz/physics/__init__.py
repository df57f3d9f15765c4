"""Solvers that make ground truth: potential flow by source panels."""

from bsaviz.physics.panels import PanelFlow, panel_flow

__all__ = ["PanelFlow", "panel_flow"]
