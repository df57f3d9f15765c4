"""Models over point clouds, and the import of published weights."""

from bsaviz.models.config import TransformerConfig
from bsaviz.models.registry import PRESETS, VARIANTS, build, configure
from bsaviz.models.transformer import Transformer

__all__ = ["PRESETS", "VARIANTS", "Transformer", "TransformerConfig", "build", "configure"]
