"""Explorers for notebooks: widgets beside a live 3D scene, each one line.

>>> bsaviz.ui.ReceptiveFieldExplorer()  # doctest: +SKIP
"""

from importlib import import_module

_PUBLIC = {
    "BallTreeExplorer": "bsaviz.ui.ball_tree",
    "CompareExplorer": "bsaviz.ui.compare",
    "GateExplorer": "bsaviz.ui.gate",
    "ReceptiveFieldExplorer": "bsaviz.ui.receptive_field",
    "TradeoffExplorer": "bsaviz.ui.tradeoff",
    "TrainingMonitor": "bsaviz.ui.training_monitor",
}

__all__ = list(_PUBLIC)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'bsaviz.ui' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
