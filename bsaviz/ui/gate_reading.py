"""What gates say: how they are spread, how they moved while the model trained, and when selection takes over."""

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.training.pairs import read_pair
from bsaviz.training.state import FORMAT, FORMAT_VERSION, state_path

BINS = 40
FAR_ABOVE = 2.0  # times the largest other gate


def histogram(gates):
    """Share of the points in each of `BINS` bins between 0 and 1.

    Parameters
    ----------
    gates : array
        Gates of one branch.

    Returns
    -------
    edges : array (BINS + 1,)
    percent : array (BINS,)
    """
    counts, edges = np.histogram(np.clip(gates, 0, 1), bins=BINS, range=(0, 1))
    return edges, 100 * counts / max(counts.sum(), 1)


def dominated_layers(gate):
    """Layers in which the selection gate is more than twice every other gate, in the mean over heads and points.

    Parameters
    ----------
    gate : DataArray (layer, head, branch, ...)

    Returns
    -------
    list of int
    """
    if "selection" not in gate["branch"].values:
        return []
    mean = gate.mean([dim for dim in gate.dims if dim not in ("layer", "branch")])
    others = mean.sel(branch=[b for b in mean["branch"].values if b != "selection"]).max("branch")
    above = mean.sel(branch="selection") > FAR_ABOVE * others
    return [int(layer) for layer in gate["layer"].values[above.values]]


def warning(gate):
    """What it means that selection dominates, for the layers where it does; empty where it does not."""
    layers = dominated_layers(gate)
    if not layers:
        return ""
    total = gate.sizes["layer"]
    where = "in every layer" if len(layers) == total else f"in layer{'s' if len(layers) > 1 else ''} {_listed(layers)}"
    return (
        f"Selection dominates {where} ({len(layers)} of {total}): its mean gate is more than twice that of every other "
        "branch. Such a layer rests on a few chosen blocks, and the choice itself gets no gradient, while what is near "
        "(ball) and the whole (compression) are turned down. It is a sign of a training that failed or is not over: "
        "compare the error with that of full or ball attention, train longer, or raise top-k or the ball size."
    )


def as_history(history, branches):
    """Mean gates over the steps of a training, from what is at hand.

    Parameters
    ----------
    history : None, TrainResult, Dataset, DataArray, or path
        The result of `bsaviz.train`, its history, a netCDF file of that history, or a checkpoint with the training
        state beside it (``x.train``).
    branches : sequence of str
        Branches of the model, in the order of its gates; a training state does not name them.

    Returns
    -------
    DataArray (eval_step, layer, head, branch), or None

    Raises
    ------
    BsavizError
        For anything else, and where there are no gates.
    """
    if history is None:
        return None
    history = getattr(history, "history", history)
    if isinstance(history, str) or hasattr(history, "__fspath__"):
        history = _from_file(str(history), branches)
    if isinstance(history, xr.Dataset):
        history = history.get("gate")
    if not isinstance(history, xr.DataArray) or not {"eval_step", "layer", "branch"} <= set(history.dims):
        raise BsavizError(
            "history must hold mean gates over eval_step, layer, head and branch: the result of bsaviz.train(...) of a "
            "model with gates, its .history, that saved as netCDF, or the checkpoint of a training"
        )
    return history


def _from_file(path, branches):
    if path.endswith((".nc", ".netcdf")):
        with xr.open_dataset(path) as dataset:
            return dataset.load()
    _, state = read_pair(state_path(path), FORMAT, FORMAT_VERSION)
    if "history.gate" not in state:
        raise BsavizError(
            f"the training state of {path} holds no gates: they are measured every `eval_every` steps, and only a "
            "model with gates has them"
        )
    gate = state["history.gate"].numpy()
    if gate.shape[3] != len(branches):
        raise BsavizError(
            f"the training state of {path} has gates of {gate.shape[3]} branches, and this model has {len(branches)} "
            f"({', '.join(branches)}); give the history of this model"
        )
    coords = {"eval_step": state["history.eval_step"].numpy(), "branch": list(branches)}
    coords |= {"layer": np.arange(gate.shape[1]), "head": np.arange(gate.shape[2])}
    return xr.DataArray(gate, coords, ("eval_step", "layer", "head", "branch"))


def _listed(layers):
    return ", ".join(map(str, layers[:-1])) + (" and " if len(layers) > 1 else "") + str(layers[-1])
