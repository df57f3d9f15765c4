"""What a run needs to go on as if it had never stopped, written beside its checkpoint and read back."""

import random
from dataclasses import asdict, dataclass

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.training.config import TrainConfig
from bsaviz.training.history import History
from bsaviz.training.pairs import check_sum, fill, pair_names, read_pair, write_pair

FORMAT = "bsaviz-training-state"
FORMAT_VERSION = 1
FREE = {"device", "cuda_graph", "eval_every", "checkpoint_every"}  # settings a resumed run may change


@dataclass
class Run:
    """All that changes while a model trains.

    Attributes
    ----------
    model : Transformer
    optimiser : torch.optim.AdamW
    average : dict of str to Tensor, or None
        Moving average of each parameter.
    history : History
    cars : list of [name, number of points]
        What it trains on; a resumed run must be given the same.
    step : int
        Steps done.
    """

    model: torch.nn.Module
    optimiser: torch.optim.Optimizer
    average: dict[str, torch.Tensor] | None
    history: History
    cars: list
    step: int = 0


def state_path(checkpoint):
    """``x.train`` beside the checkpoint ``x``."""
    return str(checkpoint).removesuffix(".safetensors").removesuffix(".json") + ".train"


def save_state(run, config, checkpoint):
    """Write weights, optimiser, average, history and random generators beside the checkpoint ``x``, as ``x.train``."""
    numbers, randomness = random_state(run.history.loss.device)
    tensors = {
        **_under("model", run.model.state_dict()),
        **_under("optimiser", _flat(run.optimiser.state_dict()["state"])),
        **_under("average", run.average or {}),
        **_under("history", run.history.tensors(run.step)),
        **_under("random", randomness),
    }
    info = {"step": run.step, "config": asdict(config), "cars": run.cars, "random": numbers}
    write_pair(state_path(checkpoint), FORMAT, FORMAT_VERSION, info, tensors)


def load_state(run, config, checkpoint):
    """Bring `run` and the global random generators to where :func:`save_state` left them.

    Raises
    ------
    BsavizError
        When the state cannot be read, or belongs to other settings, other cars or another model (says which).
    """
    path = state_path(checkpoint)
    if not pair_names(path)[0].is_file():
        raise BsavizError(f"there is no training state {pair_names(path)[0]} to resume from; start without resume")
    info, tensors = read_pair(path, FORMAT, FORMAT_VERSION)
    _check_same_run(info, config, run.cars, path)
    part = lambda head: {name.removeprefix(head + "."): t for name, t in tensors.items() if name.startswith(head + ".")}
    fill(run.model.state_dict(), part("model"), path, "the model that was given to train")
    if run.average is not None:
        fill(run.average, part("average"), path, "the moving average of the model that was given to train")
    check_sum(path, info)
    groups = run.optimiser.state_dict()["param_groups"]
    run.optimiser.load_state_dict({"state": _nested(part("optimiser")), "param_groups": groups})
    run.history.restore(part("history"))
    run.step = info["step"]
    set_random_state(info["random"], part("random"))


def random_state(device):
    """State of the global generators of python, numpy, torch and the CUDA device: JSON numbers, and tensors."""
    version, words, gauss = random.getstate()
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002  the global generator is what is meant
    tensors = {
        "python": torch.tensor(words, dtype=torch.int64),
        "numpy": torch.from_numpy(numpy_state["state"]["key"].astype(np.int64)),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        tensors["cuda"] = torch.cuda.get_rng_state(device)
    numbers = {
        "python": [version, gauss],
        "numpy": [numpy_state["state"]["pos"], numpy_state["has_gauss"], numpy_state["gauss"]],
    }
    return numbers, tensors


def set_random_state(numbers, tensors):
    """Set the global generators to what :func:`random_state` gave."""
    version, gauss = numbers["python"]
    random.setstate((version, tuple(tensors["python"].tolist()), gauss))
    position, has_gauss, gauss = numbers["numpy"]
    key = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, position, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(tensors["torch"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])


def _check_same_run(info, config, cars, path):
    before = TrainConfig(**info["config"])
    pairs = {name: (getattr(before, name), getattr(config, name)) for name in asdict(config) if name not in FREE}
    changed = [f"{name} was {was!r} and is now {now!r}" for name, (was, now) in pairs.items() if was != now]
    if changed:
        raise BsavizError(
            f"{path}: cannot resume with other settings: {', '.join(changed)}; use the old ones, or start a new run "
            "from the weights (load_model, then train)"
        )
    if info["cars"] != cars:
        raise BsavizError(
            f"{path}: cannot resume with other cars: the run had {len(info['cars'])} training cars starting with "
            f"{info['cars'][:2]}, now {len(cars)} starting with {cars[:2]}; give the same cars in the same order"
        )


def _under(head, tensors):
    return {f"{head}.{name}": tensor for name, tensor in tensors.items()}


def _flat(state):
    return {f"{index}.{name}": tensor for index, entry in state.items() for name, tensor in entry.items()}


def _nested(flat):
    state = {}
    for key, tensor in flat.items():
        index, name = key.split(".")
        state.setdefault(int(index), {})[name] = tensor
    return state
