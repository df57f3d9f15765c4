"""Models by name."""

from typing import NamedTuple

from bsaviz._checks import BsavizError
from bsaviz.models.config import TransformerConfig, check_settings
from bsaviz.models.erwin import Erwin
from bsaviz.models.erwin_config import ErwinConfig
from bsaviz.models.erwin_nsa import ErwinNSA
from bsaviz.models.erwin_nsa_config import ERWIN_NSA_PRESETS, ErwinNSAConfig
from bsaviz.models.erwin_presets import ERWIN_PRESETS
from bsaviz.models.transformer import Transformer

PRESETS = {
    "published": dict(dim=64, depth=18, num_heads=8, ball_size=256),
    "small": dict(dim=64, depth=6, num_heads=4, ball_size=128, window=128),
    "tiny": dict(dim=32, depth=4, num_heads=2, ball_size=64, window=64, fourier_features=32),
}


class Family(NamedTuple):
    """Models that share a class.

    Attributes
    ----------
    model : type
        A :class:`~bsaviz.models.base.PointModel`.
    config : type
        Its configuration, a frozen dataclass.
    presets : dict of str to dict
        Settings by the name of the preset; there are at least ``"published"``, ``"small"`` and ``"tiny"``.
    """

    model: type
    config: type
    presets: dict


class Variant(NamedTuple):
    """A name of :func:`build`: a family and the settings that make this model of it."""

    family: Family
    settings: dict


FAMILIES = {
    family.model.__name__: family
    for family in (
        Family(Transformer, TransformerConfig, PRESETS),
        Family(Erwin, ErwinConfig, ERWIN_PRESETS),
        Family(ErwinNSA, ErwinNSAConfig, ERWIN_NSA_PRESETS),
    )
}

VARIANTS = {
    name: Variant(FAMILIES[family], settings)
    for name, family, settings in (
        ("bsa", "Transformer", dict(attention="bsa")),
        ("bsa-group-compression", "Transformer", dict(attention="bsa", group_compression=True, coarse_scores=True)),
        ("bsa-no-group-selection", "Transformer", dict(attention="bsa", group_selection=False)),
        ("full", "Transformer", dict(attention="full")),
        ("ball", "Transformer", dict(attention="ball")),
        ("bsa-random", "Transformer", dict(attention="bsa", selection="random")),
        ("bsa-nearest", "Transformer", dict(attention="bsa", selection="nearest")),
        ("bsa-morton", "Transformer", dict(attention="bsa", ordering="morton")),
        ("bsa-hilbert", "Transformer", dict(attention="bsa", ordering="hilbert")),
        ("bsa-kmeans", "Transformer", dict(attention="bsa", ordering="kmeans")),
        ("bsa-graph", "Transformer", dict(attention="bsa", ordering="graph")),
        ("nsa", "Transformer", dict(attention="nsa", group_selection=False)),
        ("erwin", "Erwin", {}),
        ("erwin-nsa", "ErwinNSA", {}),
    )
}


def configure(name, preset="small", **overrides):
    """The configuration of a named model.

    Parameters
    ----------
    name : str
        ============================ ================================================================
        ``"bsa"``                    Ball Sparse Attention, mean pooling, groups select together
        ``"bsa-group-compression"``  the compression branch once for each block, from coarse queries
        ``"bsa-no-group-selection"`` every query selects for itself
        ``"full"``                   every point reads every point
        ``"ball"``                   every point reads its ball
        ``"bsa-random"``             blocks chosen at random, once for all (as in BigBird)
        ``"bsa-nearest"``            the nearest blocks in place of those of highest score
        ``"bsa-morton"``             points in order along the Morton curve, in place of a ball tree
        ``"bsa-hilbert"``            points in order along the Hilbert curve
        ``"bsa-kmeans"``             balls that are clusters of balanced bisecting k-means
        ``"bsa-graph"``              balls that are cut along the bonds of a graph
        ``"nsa"``                    Native Sparse Attention: compression, selection, sliding window
        ``"erwin"``                  a U-Net over the levels of the tree, every slot reads its ball
        ``"erwin-nsa"``              Erwin with Native Sparse Attention in place of the U-Net
        ============================ ================================================================

        :func:`about` gives the equation, symbols, paper and differences of each.
    preset : str
        One of :func:`presets`. Of a Transformer: ``"published"``: 18 layers of 64 channels and 8 heads, balls of 256
        (add ``published=True, position_scaling="none"`` for the published code's behaviour too); ``"small"``: 6 layers,
        4 heads, balls of 128; ``"tiny"``: 4 layers of 32 channels, 2 heads, balls of 64. Of Erwin and Erwin-NSA also
        the published ones by task, as ``"shapenet"``, ``"cosmology"``, ``"md"`` (Erwin's in three sizes, as
        ``"cosmology-small"``).
    **overrides
        Fields of the model's configuration.

    Raises
    ------
    BsavizError
        For an unknown name, preset or field.
    """
    known = presets(name)
    if preset not in known:
        raise BsavizError(f"unknown preset {preset!r}; there are {', '.join(known)}")
    family, settings = VARIANTS[name]
    check_settings(family.config, overrides)
    return family.config(**{**known[preset], **settings, **overrides})


def build(name, preset="small", **overrides):
    """A new model; the arguments are those of :func:`configure`."""
    config = configure(name, preset, **overrides)
    return VARIANTS[name].family.model(config)


def presets(name):
    """Presets of a named model: a dict of name to settings."""
    if name not in VARIANTS:
        raise BsavizError(f"unknown model {name!r}; there are {', '.join(VARIANTS)}")
    return VARIANTS[name].family.presets


def rebuild(model, settings):
    """A new model from the name of its class and all fields of its configuration, e.g. as a JSON keeps them.

    Parameters
    ----------
    model : str
        A key of ``FAMILIES``.
    settings : dict

    Raises
    ------
    BsavizError
        For an unknown class or field.
    """
    if model not in FAMILIES:
        raise BsavizError(f"unknown class of models {model!r}; there are {', '.join(FAMILIES)}")
    family = FAMILIES[model]
    check_settings(family.config, settings)
    return family.model(family.config(**settings))
