"""Models on disk: ``x.safetensors`` with the weights, ``x.json`` with what they are."""

from dataclasses import asdict, fields

from bsaviz import __version__
from bsaviz._checks import BsavizError
from bsaviz._files import packaged
from bsaviz.models import FAMILIES, rebuild
from bsaviz.training.config import pick_device
from bsaviz.training.pairs import check_sum, fill, pair_names, read_info, read_pair, write_pair

FORMAT = "bsaviz-model"
FORMAT_VERSION = 1
PACKAGED_MODEL = "bsa_small"


def save_model(model, path, meta=None):
    """Write a model as ``x.safetensors`` (weights and normalisation) and ``x.json`` (what it is), both or neither.

    Parameters
    ----------
    model : PointModel
        Any model of :func:`bsaviz.models.build`.
    path : str or Path
        ``"x"`` or ``"x.safetensors"``.
    meta : dict, optional
        What else to keep in the JSON: the command that trained it, the cars, the units of the output.

    Returns
    -------
    Path
        The weights file.

    Raises
    ------
    BsavizError
        When `model` is no model of bsaviz, `meta` is not JSON, or the disk is full; a checkpoint already there then
        stays as it was.
    """
    if type(model).__name__ not in FAMILIES:
        raise BsavizError(f"save_model takes a model of bsaviz.models.build, got {type(model).__name__}")
    info = {
        "model": type(model).__name__,
        "config": asdict(model.config),
        "normalisation": {"mean": model.output_mean.tolist(), "std": model.output_std.tolist()},
        "meta": dict(meta or {}),
    }
    return write_pair(path, FORMAT, FORMAT_VERSION, info, model.state_dict())


def load_model(path, device=None):
    """Read a model that :func:`save_model` wrote.

    Parameters
    ----------
    path : str or Path
        ``"x"`` or ``"x.safetensors"``; ``x.json`` must lie beside the weights.
    device : str, optional
        Where to put it (None: CUDA where there is a device).

    Returns
    -------
    PointModel
        Of the class that was saved, in eval mode.

    Raises
    ------
    BsavizError
        For a missing, truncated or corrupt file, a missing JSON, another format version, tensors of another shape
        than the JSON's configuration asks for (names the first), and weights that are not those of the JSON.
    """
    device = pick_device(device)
    weights, description = pair_names(path)
    info, tensors = read_pair(path, FORMAT, FORMAT_VERSION)
    if info.get("model") not in FAMILIES:
        known = ", ".join(FAMILIES)
        raise BsavizError(f"{weights} holds a {info.get('model')!r}, not one of {known}; a newer bsaviz may open it")
    model = rebuild(info["model"], _settings(info, description))
    fill(model.state_dict(), tensors, weights, f"the configuration in {description.name}")
    check_sum(path, info)
    return model.to(device).eval()


def packaged_model(device=None):
    """The small BSA model that comes with bsaviz, trained on generated cars (its JSON holds the command)."""
    return load_model(packaged(PACKAGED_MODEL), device)


def checkpoint_info(path):
    """What the JSON of a checkpoint says: ``model``, ``config``, ``normalisation``, ``meta``, versions.

    Raises
    ------
    BsavizError
        For a missing or unreadable file, and for another format version.
    """
    return read_info(path, FORMAT, FORMAT_VERSION)


def _settings(info, source):
    config = info.get("config")
    if not isinstance(config, dict):
        raise BsavizError(f"{source} has no 'config', which says what model to build; copy it again from where it came")
    unknown = sorted(set(config) - {field.name for field in fields(FAMILIES[info["model"]].config)})
    if unknown:
        raise BsavizError(
            f"{source}: the configuration has settings that bsaviz {__version__} does not know: {', '.join(unknown)}; "
            "update bsaviz"
        )
    return config
