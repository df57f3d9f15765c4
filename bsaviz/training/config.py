"""The settings of a training run, checked once, and the device it runs on."""

import math
from dataclasses import dataclass

import torch

from bsaviz._checks import BsavizError
from bsaviz.training.losses import LOSSES

DRAWS = ("step", "once")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of :func:`bsaviz.training.train`. The defaults are the published recipe on a shorter schedule.

    Parameters
    ----------
    steps : int
        Optimiser steps. The learning rate follows a cosine down to zero over them.
    batch_size : int
        Cars in a step; at most as many as there are.
    learning_rate, weight_decay : float
        Of AdamW; the decay applies to every parameter, as published.
    warmup : int
        First steps over which the learning rate rises linearly to `learning_rate`.
    clip : float or None
        Largest norm of the gradient over all parameters; None leaves it as it is.
    ema : float or None
        Decay of an exponential moving average of the weights, e.g. 0.999. The average is what is measured, saved and
        left in the model; it forgets faster in the first steps, min(ema, (1 + step) / (10 + step)).
    num_points : int or None
        Train on this many points of each car (None: all). Test cars keep all their points.
    draw : {"step", "once"}
        Whether those points are a random subset drawn anew in each step (its tree is then built in each step), or one
        evenly spread subset a car, chosen before training with :meth:`Car.subsample` (one tree a car, built once).
    target : str or None
        The field to learn (None: what the set is for; of cars, the pressure).
    features : tuple of str
        Further inputs of each point: names of fields, or ``"normals"``. Their columns must sum to the model's
        ``in_features``. Empty: those that the set gives (none of cars).
    loss : {"mse", "relative_l2", "nll"} or None
        See :func:`bsaviz.training.losses.loss_of`. None: the set's published one (of cars, ``"mse"``).
    eval_every : int or None
        Measure the test cars and the mean gates every so many steps, and before the first (None: only test cars, at
        the end).
    checkpoint_every : int or None
        Write the checkpoint every so many steps (None: at the end or at a stop).
    seed : int
        Of the order of the cars, of the drawn points and of the global generators of python, numpy and torch.
    device : str or None
        ``"cpu"``, ``"cuda"``, ... (None: CUDA where there is a device).
    bf16 : bool
        On a GPU, run the forward under bfloat16 autocast. The CPU always computes in the model's own precision.
    cuda_graph : bool or None
        Record a step as a CUDA graph and launch it as one, which makes the steps of a small model several times as
        fast. None: on a GPU, where all steps have the same shapes: cars with the same number of points, which are not
        drawn anew in each step. True refuses to train otherwise.

    Raises
    ------
    BsavizError
        Names the first setting that is out of range, what it must be and what came.
    """

    steps: int = 1000
    batch_size: int = 2
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 0
    clip: float | None = 1.0
    ema: float | None = None
    num_points: int | None = None
    draw: str = "step"
    target: str | None = None
    features: tuple[str, ...] = ()
    loss: str | None = None
    eval_every: int | None = None
    checkpoint_every: int | None = None
    seed: int = 0
    device: str | None = None
    bf16: bool = True
    cuda_graph: bool | None = None

    def __post_init__(self):
        for name in ("steps", "batch_size"):
            _whole(name, getattr(self, name), least=1)
        for name in ("warmup", "seed"):
            _whole(name, getattr(self, name), least=0)
        for name in ("num_points", "eval_every", "checkpoint_every"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), least=1, spare=" or None")
        _require(_number(self.learning_rate) and self.learning_rate > 0, "learning_rate", "above 0", self.learning_rate)
        _require(_number(self.weight_decay) and self.weight_decay >= 0, "weight_decay", "0 or above", self.weight_decay)
        clips, averages = self.clip is not None, self.ema is not None
        _require(not clips or (_number(self.clip) and self.clip > 0), "clip", "above 0, or None", self.clip)
        _require(not averages or (_number(self.ema) and 0 < self.ema < 1), "ema", "between 0 and 1, or None", self.ema)
        _require(self.warmup < self.steps, "warmup", f"below steps={self.steps}", self.warmup)
        _require(self.draw in DRAWS, "draw", _or(DRAWS), self.draw)
        _require(self.loss is None or self.loss in LOSSES, "loss", f"{_or(LOSSES)}, or None", self.loss)
        graphs = "True, False or None"
        _require(self.cuda_graph is None or isinstance(self.cuda_graph, bool), "cuda_graph", graphs, self.cuda_graph)
        _require(not isinstance(self.features, str), "features", "a tuple of field names", self.features)
        object.__setattr__(self, "features", tuple(self.features))
        object.__setattr__(self, "device", None if self.device is None else str(self.device))

    def learning_rate_at(self, step):
        """Learning rate of the step numbered `step` (0 to ``steps - 1``): linear warm-up, then a cosine to zero."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / (self.steps - self.warmup)
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))

    def average_weight_at(self, step):
        """Part by which the moving average goes towards the weights after this step."""
        return 0.0 if self.ema is None else 1 - min(self.ema, (1 + step) / (10 + step))


def pick_device(device=None):
    """The ``torch.device`` meant by `device`; None means CUDA where there is one, the CPU elsewhere.

    Raises
    ------
    BsavizError
        For a name torch does not know, and for CUDA where there is none.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise BsavizError(f"device {device!r} is not known to torch; use 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise BsavizError(f"device {str(device)!r} was asked for, but torch sees no CUDA device here; use device='cpu'")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BsavizError(f"device {str(device)!r} was asked for, but torch sees {torch.cuda.device_count()} of them")
    return device


def _or(choices):
    return " or ".join(map(repr, choices))


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(name, value, least, spare=""):
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= least
    _require(whole, name, f"a whole number of at least {least}{spare}", value)


def _require(holds, name, expected, came):
    if not holds:
        raise BsavizError(f"TrainConfig: {name} must be {expected}, got {came!r}")
