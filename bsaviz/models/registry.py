"""Models by name."""

from dataclasses import replace

from bsaviz._checks import BsavizError
from bsaviz.models.config import TransformerConfig, check_settings
from bsaviz.models.transformer import Transformer

VARIANTS = {
    "bsa": dict(attention="bsa"),
    "bsa-group-compression": dict(attention="bsa", group_compression=True, coarse_scores=True),
    "bsa-no-group-selection": dict(attention="bsa", group_selection=False),
    "full": dict(attention="full"),
    "ball": dict(attention="ball"),
}
PRESETS = {
    "published": dict(dim=64, depth=18, num_heads=8, ball_size=256),
    "small": dict(dim=64, depth=6, num_heads=4, ball_size=128),
    "tiny": dict(dim=32, depth=4, num_heads=2, ball_size=64, fourier_features=32),
}


def configure(name, preset="small", **overrides):
    """The configuration of a named model.

    Parameters
    ----------
    name : str
        ======================== =======================================================================
        ``"bsa"``                 Ball Sparse Attention, mean pooling, groups select together
        ``"bsa-group-compression"`` the compression branch once for each block, from coarse queries
        ``"bsa-no-group-selection"`` every query selects for itself
        ``"full"``                every point reads every point
        ``"ball"``                every point reads its ball
        ======================== =======================================================================
    preset : str
        ``"published"``: 18 layers of 64 channels and 8 heads, balls of 256 (add ``published=True,
        position_scaling="none"`` for the published code's behaviour too); ``"small"``: 6 layers, 4 heads, balls of 128;
        ``"tiny"``: 4 layers of 32 channels, 2 heads, balls of 64.
    **overrides
        Fields of :class:`TransformerConfig`.

    Raises
    ------
    BsavizError
        For an unknown name, preset or field.
    """
    for what, value, known in (("model", name, VARIANTS), ("preset", preset, PRESETS)):
        if value not in known:
            raise BsavizError(f"unknown {what} {value!r}; there are {', '.join(known)}")
    check_settings(overrides)
    return replace(TransformerConfig(), **{**PRESETS[preset], **VARIANTS[name], **overrides})


def build(name, preset="small", **overrides):
    """A new :class:`Transformer`; the arguments are those of :func:`configure`."""
    return Transformer(configure(name, preset, **overrides))
