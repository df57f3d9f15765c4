"""One request for fields: what was asked for, the arrays it fills, and the dataset they become."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from bsaviz.fields import layerwise
from bsaviz.fields.model_gradient import model_gradient
from bsaviz.fields.queries import resolve_choice
from bsaviz.fields.regions import resolve_queries
from bsaviz.fields.through import reach, rollout

BY_HEAD = ("query", "layer", "head", "branch", "point")
THROUGH = ("query", "layer", "branch", "point")
_KEYS = ("q", "k", "q_coarse", "k_coarse", "indices")


@dataclass(frozen=True)
class Kind:
    """A kind of field: its dimensions and dtype, what it means, and the probe points that it needs."""

    dims: tuple
    dtype: type
    long_name: str
    needs: tuple = ()
    of_layer: object = None  # computes it from one layer
    through: object = None  # or from all layers up to one


KIND = {
    "structural": Kind(BY_HEAD, bool, "the branch may read the point", ("indices",), layerwise.structural),
    "mass": Kind(BY_HEAD, np.float32, "attention mass: gate x softmax probability", _KEYS, layerwise.mass),
    "gradient": Kind(
        BY_HEAD, np.float32, "norm of the change of the branch's output with the point's token", ("indices",),
        layerwise.gradient,
    ),
    "reach": Kind(
        THROUGH, bool, "the point reaches the query through branches no farther than this one", ("indices",),
        through=reach,
    ),
    "rollout": Kind(
        THROUGH, np.float32, "mass rolled out along paths whose farthest branch is this one", _KEYS, through=rollout
    ),
    "model_gradient": Kind(("query", "point"), np.float32, "norm of the change of the prediction with the point"),
}  # fmt: skip
KINDS = tuple(KIND)


class Collector:
    """Resolves what was asked for, and holds what has been found of it.

    Parameters
    ----------
    sites : list of AttentionSite
    surface : Car or Cloud
    query, layers, heads, kinds
        As in `bsaviz.receptive_field`.
    known_layers : sequence of int, optional
        Layers that may be asked for, by default all.
    """

    def __init__(self, sites, surface, query, layers, heads, kinds, known_layers=None):
        self.surface = surface
        self.layers = resolve_choice("layer", layers, range(len(sites)) if known_layers is None else known_layers)
        asked = [sites[layer] for layer in self.layers]
        self.heads = resolve_choice("head", heads, range(max(site.attention.num_heads for site in asked)))
        self.kinds = resolve_choice("kind", kinds, KINDS)
        self.queries = resolve_queries(query, surface)
        self.branches = list(dict.fromkeys(branch for site in asked for branch in site.attention.branches))
        self.levels = [site.level for site in asked]
        lengths = map(len, (self.queries, self.layers, self.heads, self.branches, surface.positions))
        self.sizes = dict(zip(BY_HEAD, lengths))
        self.found = {}

    @property
    def needs(self):
        """Probe points that these kinds are computed from."""
        return sorted({"gate", *(need for kind in self.kinds for need in KIND[kind].needs)})

    @property
    def through(self):
        """The kinds that go through the layers below."""
        return [kind for kind in self.kinds if KIND[kind].through]

    @property
    def visits(self):
        """Layers to look into: those asked for, and all below them where a kind goes through."""
        return list(range(max(self.layers) + 1)) if self.through else self.layers

    def add(self, trace):
        """Find what one layer tells by itself."""
        there = [head for head in self.heads if head < trace.num_heads]
        trace, rows = trace.of_heads(there), [self.heads.index(head) for head in there]
        self._put("gate", BY_HEAD[:-1], np.float32, trace, rows, layerwise.gates_at(trace, self.queries))
        for name in self.kinds:
            kind = KIND[name]
            if kind.of_layer:
                self._put(name, kind.dims, kind.dtype, trace, rows, kind.of_layer(trace, self.queries))

    def add_through(self, traces):
        """Find what goes through the layers; `traces` are those of all layers up to the last one asked for."""
        traces = [trace.of_heads([head for head in self.heads if head < trace.num_heads]) for trace in traces]
        for name in self.through:
            self.found[name] = (THROUGH, KIND[name].through(traces, self.queries, self.layers, self.branches))

    def add_model(self, model, tree, sites, features):
        """Find what only the whole model tells."""
        if "model_gradient" in self.kinds:
            found = model_gradient(model, self.surface, tree, sites, self.queries, features)
            self.found["model_gradient"] = (KIND["model_gradient"].dims, found)

    def _put(self, name, dims, dtype, trace, rows, values):
        """Store values (Q, heads, branches, ...) of a layer. A head or branch that it lacks stays False or NaN."""
        if name not in self.found:
            self.found[name] = (dims, np.full([self.sizes[dim] for dim in dims], 0 if dtype is bool else np.nan, dtype))
        of_layer = self.found[name][1][:, self.layers.index(trace.layer)]
        for b, branch in enumerate(trace.branches):
            of_layer[:, :, self.branches.index(branch)][:, rows] = values[:, :, b]

    def dataset(self, drawn, attrs):
        """The finished dataset.

        Parameters
        ----------
        drawn : pair of dicts
            Of `surface_variables`.
        attrs : dict
            Of `attributes`.
        """
        variables, axes = drawn
        describe = lambda name, long_name: (*self.found[name], {"long_name": long_name, "units": "1"})
        described = {name: describe(name, KIND[name].long_name) for name in self.kinds}
        described["gate"] = describe("gate", "gate of the branch at the query")
        count = len(self.queries)
        title = f"receptive field of {count} {self._noun()}{'s' if count > 1 else ''} of {self.surface.name}"
        variables = {**described, **variables, **self._regions()}
        return xr.Dataset(variables, self._coordinates(axes), attrs | {"title": title})

    def _coordinates(self, axes):
        queries = self.queries
        long_name = "index of the query point in input order"
        if not queries.are_points:
            long_name = "index of the point in the middle of the region"
        coords = {
            "query": ("query", queries.anchors, {"long_name": long_name, "units": "1"}),
            "layer": self.layers,
            "head": self.heads,
            "branch": self.branches,
            **axes,
        }
        if queries.names is not None:
            coords["region"] = ("query", queries.names, {"long_name": "name of the query"})
        if any(self.levels):
            coords["level"] = ("layer", self.levels, {"long_name": "level of the layer, 0 is the finest", "units": "1"})
        return coords

    def _regions(self):
        if self.queries.are_points:
            return {}
        inside = np.zeros((len(self.queries), len(self.surface.positions)), bool)
        inside[self.queries.owners, self.queries.points] = True
        return {"in_region": (("query", "point"), inside, {"long_name": "point of the region", "units": "1"})}

    def _noun(self):
        return "point" if self.queries.are_points else "region"
