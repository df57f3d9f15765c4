"""Fields of one model on one car for any settings: what the receptive-field explorer computes, without a widget."""

from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.fields import Trace
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.ui import warm
from bsaviz.ui.early import EarlyTrace, from_tree_alone, possible
from bsaviz.ui.settings import settings_of, with_settings

KEPT = 6  # passes at hand, so that going back to the last settings and layers is immediate
LARGE = 20_000  # points from which an attention on a CPU takes longer than a slider may
QUIET = 0.4  # seconds without a new request before the layers of a large cloud run
WHOLE = "whole model"  # name of the panel of a kind that does not tell branches apart


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

    A layer's own attention is left out where one query's field does not need it. On a large cloud, and where nothing
    has run yet, a layer beyond the first is seen in two steps: what follows from the tree at once, the rest after the
    layers before it have run.

    Parameters
    ----------
    model : PointModel
    car : Car
    features : optional
        As in `bsaviz.receptive_field`.
    """

    def __init__(self, model, car, features=None):
        self.model, self.car = model, car
        self._cloud = car.positions[:, :2] if model.config.spatial_dims == 2 else car
        surface, weight = as_surface(self._cloud, model), next(model.parameters())
        self._features = point_features(features, surface, model)
        self._positions = torch.as_tensor(surface.positions, device=weight.device)
        self.sites = model.attention_sites(model.tree(self._positions))
        self.settings = settings_of(model, self.sites)
        self.heads = max(site.attention.num_heads for site in self.sites)
        self._traces, self._prepared, self._gflops = _Recent(), _Recent(), {}

    @property
    def branches(self):
        """Names of the branches of all layers, in the order in which they are first met."""
        return list(dict.fromkeys(branch for site in self.sites for branch in site.attention.branches))

    def fields(self, asked, ticket):
        """What is painted, once, or twice where the layers before take long: at first without the scored branches.

        Yields
        ------
        dict of str to array (P,), or None where a branch is still to come
            bool for what may be read, float32 for an amount.
        """
        if self.car.num_points > LARGE and asked.kind == "structural" and self._runs(asked):
            site = self._prepare(asked.sizes)[2][asked.layer]
            early = possible(site)
            yield from_tree_alone(site, asked.query) if early else dict.fromkeys(site.attention.branches)
            ticket.rest(QUIET)
        yield self._field(asked, ticket)

    def _field(self, asked, ticket):
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

    def counted(self, asked):
        """Whether the operations with these settings have been counted before."""
        return asked.sizes in self._gflops

    def gflops(self, asked, ticket):
        """Billions of operations of a forward pass with these settings; None for a model that cannot be counted."""
        if not self.counted(asked):
            from bsaviz.study import count_gflops  # later than the first picture

            warm.wait(ticket)
            try:
                count = count_gflops(self._sized(asked.sizes), self.car.num_points)
            except BsavizError:
                count = None
            self._gflops[asked.sizes] = count
        return self._gflops[asked.sizes]

    def _trace(self, asked, ticket):
        """A pass with these sizes that holds what is asked for."""
        key = self._key(asked)
        if not self._known(asked):
            model, tree, sites = self._prepare(asked.sizes)
            with ExitStack() as hooks:
                for site in sites:
                    hooks.callback(site.attention.register_forward_pre_hook(lambda *_: ticket()).remove)
                if self._is_early(asked):
                    site = sites[asked.layer]
                    trace = EarlyTrace(model, self._positions, asked.layer, self._features, tree, site)
                else:
                    layers = list(range(asked.layer + 1))
                    trace = Trace(model, self._cloud, layers=layers, features=self._features)
            self._traces.keep(key, trace)
        return self._traces[key]

    def _known(self, asked):
        key = self._key(asked)
        return key in self._traces and asked.layer in self._traces[key].layers

    def _runs(self, asked):
        """Whether attention must run for it."""
        return not self._known(asked) and not (asked.layer == 0 and self._is_early(asked))

    def _key(self, asked):
        return asked.sizes, asked.layer if self._is_early(asked) else None

    def _is_early(self, asked):
        return asked.kind in ("structural", "mass") and possible(self.sites[asked.layer])

    def _prepare(self, sizes):
        """Model of these sizes, its tree and sites."""
        if sizes not in self._prepared:
            self._check(dict(sizes))
            model = self._sized(sizes)
            tree = model.tree(self._positions)
            self._prepared.keep(sizes, (model, tree, model.attention_sites(tree)))
        return self._prepared[sizes]

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


class _Recent(OrderedDict):
    """The last few values that were kept."""

    def keep(self, key, value):
        self[key] = value
        self.move_to_end(key)
        while len(self) > KEPT:
            self.popitem(last=False)


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
