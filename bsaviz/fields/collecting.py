"""One request for fields: what was asked for, the arrays it fills, and the dataset they become."""

import numpy as np
import xarray as xr

from bsaviz.fields import layerwise
from bsaviz.fields.queries import resolve_choice
from bsaviz.fields.regions import resolve_queries

BY_HEAD = ("query", "layer", "head", "branch", "point")
DIMS = {"structural": BY_HEAD, "mass": BY_HEAD}
DTYPES = {"structural": bool, "mass": np.float32}
NEEDS = {"structural": ("indices",), "mass": ("q", "k", "q_coarse", "k_coarse", "indices")}
KINDS = tuple(DIMS)
_DESCRIBED = {
    "structural": "the branch may read the point",
    "mass": "attention mass: gate x softmax probability",
}
_LAYERWISE = {"structural": layerwise.structural, "mass": layerwise.mass}


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
        return sorted({"gate", *(need for kind in self.kinds for need in NEEDS[kind])})

    def add(self, trace):
        """Find what one layer tells by itself."""
        there = [head for head in self.heads if head < trace.num_heads]
        trace, rows = trace.of_heads(there), [self.heads.index(head) for head in there]
        self._put("gate", BY_HEAD[:-1], np.float32, trace, rows, layerwise.gates_at(trace, self.queries))
        for kind in self.kinds:
            if kind in _LAYERWISE:
                self._put(kind, DIMS[kind], DTYPES[kind], trace, rows, _LAYERWISE[kind](trace, self.queries))

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
        described = {
            kind: (dims, values, {"long_name": _DESCRIBED[kind], "units": "1"})
            for kind, (dims, values) in self.found.items() if kind != "gate"
        }  # fmt: skip
        dims, gate = self.found["gate"]
        described["gate"] = (dims, gate, {"long_name": "gate of the branch at the query", "units": "1"})
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
