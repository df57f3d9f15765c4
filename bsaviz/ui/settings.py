"""Sizes of a trained model that may change without training again, and the same weights with other sizes."""

from dataclasses import dataclass, fields, replace

import torch

from bsaviz._checks import BsavizError

NAMES = {
    "ball_size": "ball size",
    "block_size": "block size",
    "group_size": "group size",
    "top_k": "top-k",
}


@dataclass(frozen=True)
class Setting:
    """One size of a model.

    Attributes
    ----------
    name : str
        Field of the model's configuration.
    value : int
    fixed : str
        Why it cannot change while the weights stay; empty where it can.
    """

    name: str
    value: int
    fixed: str = ""


def settings_of(model, sites):
    """The sizes that a model's attention reads with, and which of them are free.

    The projections, gates, slopes and positions inside a ball are weights of single points, so sizes are free, except
    where a weight is shaped by them.

    Parameters
    ----------
    model : PointModel
    sites : list of AttentionSite

    Returns
    -------
    dict of str to Setting
    """
    config = model.config
    branches = {branch for site in sites for branch in site.attention.branches}
    used = {name for site in sites for name in site.attention.trace_parameters()}
    used |= {"top_k"} if "selection" in branches else set()
    found = {name: _value(config, name) for name in NAMES if name in used}
    return {name: Setting(name, value, _why_fixed(config, name)) for name, value in found.items() if value}


def with_settings(model, changes):
    """The same weights with other sizes.

    The tensors are shared with `model`, not copied.

    Parameters
    ----------
    model : PointModel
    changes : dict of str to int

    Returns
    -------
    PointModel
        In eval mode.

    Raises
    ------
    BsavizError
        For sizes that do not fit each other, and for one that shapes a weight.
    """
    config = model.config
    for name, value in changes.items():
        there, reason = _value(config, name), _why_fixed(config, name)
        if value != there and reason:
            raise BsavizError(f"the {NAMES[name]} cannot change from {there} to {value} with these weights: {reason}")
    if getattr(config, "coarse_scores", False) and "block_size" in changes:
        changes = changes | {"group_size": changes["block_size"]}
    config = replace(config, **dict(_field(config, name, value) for name, value in changes.items()))
    with torch.random.fork_rng(devices=[]):  # weights are drawn and let go at once; the user's random numbers stay
        other = type(model)(config)
    other.load_state_dict(model.state_dict(), assign=True)
    return other.eval()


def _holds(config, name):
    return name in {field.name for field in fields(config)}


def _value(config, name):
    """The size in a configuration, the finest level's where levels have their own; None where it has none."""
    if _holds(config, name):
        return getattr(config, name)
    return getattr(config, name + "s")[0] if _holds(config, name + "s") else None


def _field(config, name, value):
    """Name and value of the field that holds a size: levels of equal size stay equal."""
    return (name, value) if _holds(config, name) else (name + "s", (value,) * len(getattr(config, name + "s")))


def _why_fixed(config, name):
    if not _holds(config, name) and len(set(getattr(config, name + "s", ()))) > 1:
        return "the levels of this model have balls of different sizes"
    if name == "block_size" and getattr(config, "pooling", "mean") == "mlp":
        return f"the perceptron that pools a block has weights for exactly {config.block_size} points"
    if name == "group_size" and not getattr(config, "group_selection", True):
        return "every query selects for itself"
    if name == "group_size" and getattr(config, "coarse_scores", False):
        return "with coarse scores a group is a block"
    return ""
