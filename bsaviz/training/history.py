"""What a run remembers of its steps: losses as they came, and what was measured on the way."""

import json
from dataclasses import asdict

import numpy as np
import torch
import xarray as xr

from bsaviz.training.gates import gated_branches
from bsaviz.training.losses import LOSSES
from bsaviz.training.metrics import LONG_NAMES, error_units, provenance


class History:
    """Losses and times of every step, test errors and mean gates of some.

    Parameters
    ----------
    steps : int
        Steps of the whole run.
    device : torch.device
        Losses stay there until they are asked for, so that no step waits for them.

    Attributes
    ----------
    loss : Tensor (steps,) float32
        Of each step, on the device; the step itself writes it.
    elapsed : Tensor (steps,) float64
        Seconds trained at the end of each step (where steps run ahead of the host: when it was launched).
    """

    def __init__(self, steps, device):
        self.loss = torch.zeros(steps, device=device)
        self.elapsed = torch.zeros(steps, dtype=torch.float64)
        self.measured = {}

    def measure(self, step, errors, gates):
        """Keep the mean test errors (dict of floats) and mean gates (L, H, branches) or None after `step` steps."""
        values = {"eval_step": step, **errors} | ({} if gates is None else {"gate": gates})
        for name, value in values.items():
            self.measured.setdefault(name, []).append(torch.as_tensor(value).cpu())

    def tensors(self, step):
        """All of it as tensors, for the training state."""
        stacked = {name: torch.stack(values) for name, values in self.measured.items()}
        return {"loss": self.loss[:step], "elapsed": self.elapsed[:step], **stacked}

    def restore(self, tensors):
        """Take back what :meth:`tensors` gave."""
        tensors = dict(tensors)
        for name in ("loss", "elapsed"):
            past = tensors.pop(name)
            getattr(self, name)[: len(past)] = past
        self.measured = {name: list(values) for name, values in tensors.items()}

    def dataset(self, step, cars, model, config):
        """The history of the first `step` steps as a labelled dataset."""
        lr = [config.learning_rate_at(past) for past in range(step)]
        described = lambda long_name, units="1": {"long_name": long_name, "units": units}
        noted = lambda values, *description: ("step", np.asarray(values), described(*description))
        dataset = xr.Dataset(
            {
                "loss": noted(self.loss[:step].cpu(), f"{LOSSES[config.loss]}, before the step"),
                "learning_rate": noted(lr, "learning rate"),
                "elapsed": noted(self.elapsed[:step], "time trained", "s"),
            },
            coords={"step": ("step", np.arange(1, step + 1), {"long_name": "optimiser step"})},
            attrs=provenance(model, config.seed, self.loss.device) | {"training": json.dumps(asdict(config))},
        )
        return dataset.assign(self._measured(error_units(cars, config.target), gated_branches(model)))

    def _measured(self, units, branches):
        stacked = {name: torch.stack(values).numpy() for name, values in self.measured.items()}
        steps = stacked.pop("eval_step", None)
        if steps is None:
            return {}
        coords = {"eval_step": ("eval_step", steps, {"long_name": "optimiser steps done when measured"})}
        gate = stacked.pop("gate", None)
        arrays = {}
        for name, values in stacked.items():
            attrs = {"long_name": f"mean over the test cars of: {LONG_NAMES[name]}", "units": units[name]}
            arrays[f"test_{name}"] = xr.DataArray(values, coords, ("eval_step",), attrs=attrs)
        if gate is not None:
            coords |= {"layer": np.arange(gate.shape[1]), "head": np.arange(gate.shape[2]), "branch": list(branches)}
            attrs = {"long_name": "mean gate over the points of the first training car", "units": "1"}
            arrays["gate"] = xr.DataArray(gate, coords, ("eval_step", "layer", "head", "branch"), attrs=attrs)
        return arrays
