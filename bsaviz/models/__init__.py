"""Models over point clouds, and the import of published weights."""

from bsaviz.models.about import About, about
from bsaviz.models.base import PointModel
from bsaviz.models.config import TransformerConfig
from bsaviz.models.erwin import Erwin
from bsaviz.models.erwin_config import ErwinConfig
from bsaviz.models.erwin_nsa import ErwinNSA
from bsaviz.models.erwin_nsa_config import ErwinNSAConfig
from bsaviz.models.golden import GoldenReport, GoldenRow, check_golden
from bsaviz.models.registry import FAMILIES, PRESETS, VARIANTS, build, configure, presets, rebuild
from bsaviz.models.sites import AttentionSite
from bsaviz.models.transformer import Transformer
from bsaviz.models.upstream import import_upstream

__all__ = [
    "FAMILIES",
    "PRESETS",
    "VARIANTS",
    "About",
    "AttentionSite",
    "Erwin",
    "ErwinConfig",
    "ErwinNSA",
    "ErwinNSAConfig",
    "GoldenReport",
    "GoldenRow",
    "PointModel",
    "Transformer",
    "TransformerConfig",
    "about",
    "build",
    "check_golden",
    "configure",
    "import_upstream",
    "presets",
    "rebuild",
]
