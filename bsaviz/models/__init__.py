"""Models over point clouds, and the import of published weights."""

from bsaviz.models.config import TransformerConfig
from bsaviz.models.golden import GoldenReport, GoldenRow, check_golden
from bsaviz.models.registry import PRESETS, VARIANTS, build, configure
from bsaviz.models.transformer import Transformer
from bsaviz.models.upstream import import_upstream

__all__ = [
    "PRESETS",
    "VARIANTS",
    "GoldenReport",
    "GoldenRow",
    "Transformer",
    "TransformerConfig",
    "build",
    "check_golden",
    "configure",
    "import_upstream",
]
