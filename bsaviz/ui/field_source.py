"""Fields of one model on one car for any settings: what the receptive-field explorer computes, without a widget."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.fields import Trace
from bsaviz.study import count_gflops
from bsaviz.ui.settings import settings_of, with_settings

KEPT = 3  # traces at hand, so that going back to the last settings is immediate
ALL_LAYERS = 20_000  # points up to which a trace also keeps the layers before the one that is looked at
WHOLE = "whole model"  # name of the panel of a kind that does not tell branches apart
THROUGH = ("reach", "rollout")  # kinds that go through all layers up to the one that is looked at


@dataclass(frozen=True)
class Asked:
    """What is to be seen: `sizes` as pairs of a setting and its value, `head` None for all."""

    query: int
    layer: int
    head: int | None
    kind: str
    sizes: tuple


@dataclass(frozen=True)
class Reading:
    """Numbers of one branch at the query: over all heads the union of what is read, and the mean of the mass."""

    points: int
    surface: float
    distance: float
    mass: float
    outside: float


class FieldSource:
    """A model on a car, run anew where the settings ask for it, and remembered.

    Parameters
    ----------
    model : PointModel
    car : Car
    features : optional
        As in `bsaviz.receptive_field`.
    """

    def __init__(self, model, car, features=None):
        self.model, self.car, self._features = model, car, features
        flat = model.config.spatial_dims == 2
        self._cloud = car.positions[:, :2] if flat else car
        device = next(model.parameters()).device
        points = torch.as_tensor(car.positions[:, : model.config.spatial_dims], device=device)
        self.sites = model.attention_sites(model.tree(points))
        self.settings = settings_of(model, self.sites)
        self.heads = max(site.attention.num_heads for site in self.sites)
        self._traces, self._gflops = OrderedDict(), {}

    @property
    def branches(self):
        """Names of the branches of all layers, in the order in which they are first met."""
        return list(dict.fromkeys(branch for site in self.sites for branch in site.attention.branches))

    def field(self, asked, ticket):
        """What is painted: dict of branch to array (P,), bool for what may be read, float32 for an amount."""
        trace = self._trace(asked, ticket)
        if asked.kind == "structural":
            return trace.readable(asked.query, asked.layer, asked.head)
        if asked.kind == "mass":
            return trace.mass(asked.query, asked.layer, asked.head)
        heads = None if asked.head is None else [asked.head]
        found = trace.receptive_field(asked.query, layers=[asked.layer], heads=heads, kinds=(asked.kind,))
        return _panels(found[asked.kind])

    def readings(self, asked, ticket):
        """Numbers of every branch: dict of branch to `Reading`."""
        trace = self._trace(asked, ticket)
        reads = trace.readable(asked.query, asked.layer, asked.head)
        mass = trace.mass(asked.query, asked.layer, asked.head)
        positions, area = self.car.positions, self.car.point_areas.astype(np.float64)
        distance = np.linalg.norm(positions - positions[asked.query], axis=1) / (self.car.length or 1.0)
        own = reads.get("ball", np.zeros(len(positions), bool))
        return {branch: _reading(reads[branch], mass[branch], own, distance, area) for branch in reads}

    def gflops(self, asked):
        """Billions of operations of a forward pass with these settings; None for a model that cannot be counted."""
        if asked.sizes not in self._gflops:
            try:
                count = count_gflops(self._sized(asked.sizes), self.car.num_points)
            except BsavizError:
                count = None
            self._gflops[asked.sizes] = count
        return self._gflops[asked.sizes]

    def _trace(self, asked, ticket):
        """A pass with these sizes that holds this layer."""
        trace = self._traces.get(asked.sizes)
        all_before = asked.kind in THROUGH or self.car.num_points <= ALL_LAYERS
        layers = range(asked.layer + 1) if all_before else [asked.layer]
        if trace is None or not set(layers) <= set(trace.layers):
            self._check(dict(asked.sizes))
            model = self._sized(asked.sizes)
            with ExitStack() as hooks:
                for module in model.modules():
                    if hasattr(module, "branches"):
                        hooks.callback(module.register_forward_pre_hook(lambda *_: ticket()).remove)
                trace = Trace(model, self._cloud, layers=list(layers), features=self._features)
            self._traces[asked.sizes] = trace
            while len(self._traces) > KEPT:
                self._traces.popitem(last=False)
        self._traces.move_to_end(asked.sizes)
        return trace

    def _sized(self, sizes):
        return with_settings(self.model, dict(sizes))

    def _check(self, sizes):
        """Refuse sizes that this cloud cannot have; those that do not fit each other the model refuses."""
        points, ball = self.car.num_points, sizes.get("ball_size")
        if ball is not None and ball > max(points, self.settings["ball_size"].value):
            raise BsavizError(
                f"a ball of {ball:,} points is larger than this cloud of {points:,}; lower the ball size to "
                f"{1 << (points.bit_length() - 1):,} or less"
            )
        block = sizes.get("block_size")
        if ball is not None and block is not None and ball % block:
            raise BsavizError(
                f"a block of {block} points does not divide a ball of {ball}; lower the block size to {ball} or less, "
                "or raise the ball size"
            )


def _panels(field):
    """Values (P,) by branch of a field of one query and layer; heads are united (bool) or averaged."""
    field = field.squeeze([dim for dim in ("query", "layer") if dim in field.dims], drop=True)
    if "head" in field.dims:
        field = field.any("head") if field.dtype == bool else field.mean("head")
    if "branch" not in field.dims:
        return {WHOLE: field.values}
    return {str(branch): field.sel(branch=branch).values for branch in field["branch"].values}


def _reading(reads, mass, own, distance, area):
    count = int(reads.sum())
    return Reading(
        points=count,
        surface=100 * float(area[reads].sum() / area.sum()),
        distance=float(distance[reads].mean()) if count else float("nan"),
        mass=float(mass.sum(dtype=np.float64)),
        outside=float(mass[~own].sum(dtype=np.float64)),
    )
