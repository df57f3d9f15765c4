"""Two predictions on one car beside each other: errors, their difference, and what each model reads of a hot-spot."""

from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.training.metrics import errors
from bsaviz.ui.field_source import Asked, FieldSource
from bsaviz.ui.hot_spot import read_hot_spot

PREDICTIONS_KEPT = 16
SHORT = {"ball_size": "ball", "block_size": "block", "group_size": "group", "top_k": "top-k"}


@dataclass(frozen=True)
class Comparison:
    """Predictions of A and B in the field's unit, and the field itself where the car has it; all of shape (P,)."""

    a: np.ndarray
    b: np.ndarray
    target: np.ndarray | None

    @cached_property
    def difference(self):
        """B - A."""
        return self.b - self.a

    @cached_property
    def errors(self):
        """Prediction - field, of A and B; None where the car has no field."""
        return None if self.target is None else (self.a - self.target, self.b - self.target)

    @cached_property
    def worse(self):
        """How much farther off B is than A: |error of B| - |error of A|."""
        a, b = self.errors
        return np.abs(b) - np.abs(a)

    def worst(self, which):
        """The point with the largest error of ``"a"`` or ``"b"``, or the largest ``"difference"``."""
        values = self.difference if which == "difference" else self.errors["ab".index(which)]
        return int(np.abs(values).argmax())


class Side(FieldSource):
    """One model on the car: its predictions, and what it reads, for any sizes."""

    def __init__(self, model, car, features=None):
        if model.config.out_features != 1:
            raise BsavizError(
                f"models are compared by one number a point, this one predicts {model.config.out_features} "
                f"(out_features={model.config.out_features})"
            )
        super().__init__(model, car, features if model.config.in_features else None)
        self._predictions = {}

    @property
    def own_sizes(self):
        """The sizes that the model was given with, as pairs of a setting and its value."""
        return tuple((name, setting.value) for name, setting in self.settings.items())

    @property
    def parameters(self):
        """How many numbers the model has learnt."""
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    def prediction(self, sizes, ticket):
        """(P,) float32 in the field's unit."""
        if sizes not in self._predictions:
            model, tree, sites = self._prepare(sizes)
            features = self._features
            if features is not None:
                features = torch.as_tensor(features).to(self._positions)
            with ExitStack() as hooks:
                for site in sites:
                    hooks.callback(site.attention.register_forward_pre_hook(lambda *_: ticket()).remove)
                found = model.predict(self._positions, features, tree=tree).float().cpu().numpy()
            self._predictions[sizes] = found
            while len(self._predictions) > PREDICTIONS_KEPT:
                self._predictions.pop(next(iter(self._predictions)))
        return self._predictions[sizes]

    def hot_spot(self, sizes, points, layer, ticket):
        """The `HotSpotReading` of some points in one layer, or in all of them (None)."""
        layers = range(len(self.sites)) if layer is None else [layer]
        trace = self._trace(Asked(int(points[0]), max(layers), None, "reach", sizes), ticket)
        return read_hot_spot(trace, points, layers, self.car.point_areas, ticket)

    def cost(self, sizes, ticket):
        """GFLOPs of a forward pass with these sizes; None for a model that cannot be counted."""
        return self.gflops(Asked(0, 0, None, "structural", sizes), ticket)

    def describe(self, sizes):
        """The kind of attention and its sizes in words."""
        attention = getattr(self.model.config, "attention", type(self.model).__name__)
        return ", ".join([str(attention), *(f"{SHORT[name]} {value}" for name, value in sizes)])


def smaller_ball(side):
    """What B reads with where nothing else is asked for: a quarter of the ball size, or of the first size there is."""
    free = [setting for setting in side.settings.values() if not setting.fixed]
    if not free:
        return side.own_sizes
    block = side.settings["block_size"].value if "block_size" in side.settings else 1
    value = max(block if free[0].name == "ball_size" else 1, free[0].value // 4)
    return tuple((name, value if name == free[0].name else size) for name, size in side.own_sizes)


def relative_l2(prediction, target):
    """Relative L2 error, |prediction - target| / |target|, as in `bsaviz.training.evaluate`."""
    prediction, target = (torch.as_tensor(values)[:, None] for values in (prediction, target))
    return errors(prediction, target, torch.ones(len(target)))["relative_l2"]


def target_of(car, name):
    """The field that errors are measured against (P,), its name and unit; None without one.

    Parameters
    ----------
    car : Car
    name : str, optional
        A field of one number a point. Default: the pressure, if the car has it.
    """
    if name is None and "pressure" not in car.fields:
        return None, "prediction", ""
    name = "pressure" if name is None else name
    if name not in car.fields:
        there = ", ".join(sorted(car.fields)) or "none"
        raise BsavizError(f"car {car.name!r} has no field {name!r} to measure errors against; its fields: {there}")
    values = np.asarray(car.fields[name], np.float32)
    if values.size != car.num_points:
        raise BsavizError(f"errors are measured against one number a point, field {name!r} has shape {values.shape}")
    return values.reshape(-1), name, car.units.get(name, "")
