"""bsaviz: look inside sparse attention on 3D geometry.

The public names below are imported at first use, so that ``import bsaviz`` needs neither VTK nor Triton.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "load_car": "bsaviz.datasets",
    "Car": "bsaviz.datasets",
    "BallTree": "bsaviz.trees",
    "load_model": "bsaviz.training",
    "packaged_model": "bsaviz.training",
    "train": "bsaviz.training",
    "probe": "bsaviz.fields",
    "receptive_field": "bsaviz.fields",
    "gates": "bsaviz.fields",
    "cost": "bsaviz.study",
}
_PACKAGES = ("attention", "datasets", "fields", "models", "physics", "study", "training", "trees", "ui", "view")

__all__ = ["__version__", *_PUBLIC, *_PACKAGES]


def __getattr__(name):
    if name in _PACKAGES:
        return import_module(f"bsaviz.{name}")
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'bsaviz' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
