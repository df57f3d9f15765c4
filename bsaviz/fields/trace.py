"""A kept forward pass: fields of any query without running the model again."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.fields.collecting import Collector
from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.mass import probabilities
from bsaviz.fields.memory import check_memory
from bsaviz.fields.queries import resolve_choice
from bsaviz.fields.structural import readable
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import RECORDED, check_model, tree_of, walk


class Trace:
    """One forward pass of a model on a car, kept so that fields of any query follow at once.

    It holds the index structures (order, chosen blocks), gates, queries and keys of each layer: O(P) per layer.

    Parameters
    ----------
    model, car, features, progress
        As in `bsaviz.receptive_field`.
    layers : int or sequence of int, optional
        Layers to keep, by default all. The pass ends after the last of them.

    Attributes
    ----------
    model : torch.nn.Module
    surface : Car or Cloud
        What it was made on; indices of points are those of its input order.
    tree : BallTree
    sites : list of AttentionSite
        All attention layers of the model.
    layers : list of int
        Those kept.

    Raises
    ------
    BsavizError
        As `bsaviz.receptive_field`.

    Examples
    --------
    >>> trace = bsaviz.fields.Trace(model, car)  # doctest: +SKIP
    >>> trace.readable(1200, layer=3)["selection"]  # doctest: +SKIP
    """

    def __init__(self, model, car, layers=None, features=None, *, progress=False):
        check_model(model)
        self.model, self.surface = model, as_surface(car, model)
        self.tree = tree_of(model, self.surface)
        self.sites = model.attention_sites(self.tree)
        self.layers = resolve_choice("layer", layers, range(len(self.sites)))
        self._features = point_features(features, self.surface, model)
        self._traces = {}
        keep = lambda trace: self._traces.__setitem__(trace.layer, trace)
        walk(
            model, self.surface, self.tree, self.sites, self.layers, RECORDED, keep,
            features=self._features, progress=progress,
        )  # fmt: skip
        self._drawn = surface_variables(self.surface)
        self._attributes = attributes(self.surface, model, self.tree, "")

    def receptive_field(self, query, *, layers=None, heads=None, kinds=("structural", "mass"), memory_limit=None):
        """The dataset of `bsaviz.receptive_field`, with no forward pass; `layers` are by default all those kept."""
        asked = Collector(self.sites, self.surface, query, layers, heads, kinds, self.layers)
        check_memory(self.model, asked, self.sites, memory_limit)
        for layer in asked.layers:
            asked.add(self._traces[layer])
        if asked.through:
            asked.add_through([self._traces[layer] for layer in self._below(max(asked.layers))])
        asked.add_model(self.model, self.tree, self.sites, self._features)
        return asked.dataset(self._drawn, self._attributes)

    def readable(self, query, layer, head=None):
        """What each branch may read in one layer, the fastest way for live views.

        Parameters
        ----------
        query : int
            A point by its index.
        layer : int
            One that was kept.
        head : int, optional
            By default the union of the heads.

        Returns
        -------
        dict of str to array (P,) bool
        """
        trace, slot = self._at(query, layer, head)
        reads = lambda branch: trace.points_of(readable(trace, branch, slot)[0].any(0))
        return {branch: reads(branch).cpu().numpy() for branch in trace.branches}

    def mass(self, query, layer, head=None):
        """Attention mass of each branch in one layer: dict of str to array (P,) float32.

        Arguments as for `readable`; without a `head`, the mean over the heads.
        """
        trace, slot = self._at(query, layer, head)
        gate = trace.gate[:, slot[0]].double()
        found = {}
        for b, branch in enumerate(trace.branches):
            weighed = (gate[:, b, None] * probabilities(trace, branch, slot)[0]).mean(0)
            found[branch] = trace.to_points(weighed).float().cpu().numpy()
        return found

    def gates(self, layer):
        """Gate of every branch at every point of one layer: array (head, branch, point) float32; ones without gates."""
        trace = self._kept(layer)
        return trace.gate[:, trace.slots].transpose(1, 2).float().cpu().numpy()

    def _below(self, last):
        """Layers 0..last, all of which must have been kept."""
        missing = [layer for layer in range(last + 1) if layer not in self._traces]
        if missing:
            raise BsavizError(
                f"reach and rollout of layer {last} go through all layers below it, and layer {missing[0]} was not "
                f"kept; make the trace with layers=range({last + 1}) or without layers"
            )
        return range(last + 1)

    def _kept(self, layer):
        return self._traces[resolve_choice("layer", layer, self.layers)[0]]

    def _at(self, query, layer, head):
        trace = self._kept(layer)
        if head is not None:
            trace = trace.of_heads(resolve_choice("head", head, range(trace.num_heads)))
        if isinstance(query, bool) or not isinstance(query, (int, np.integer)) or not 0 <= query < trace.num_points:
            raise BsavizError(
                f"query must be the index of one of the {trace.num_points} points, 0..{trace.num_points - 1}, "
                f"got {query!r}"
            )
        return trace, trace.slots[int(query)][None]
