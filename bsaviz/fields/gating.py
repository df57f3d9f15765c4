"""How the gates weigh the branches, for every point."""

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.queries import resolve_choice
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import check_model, tree_of, walk


def gates(model, car, *, layers=None, heads=None, features=None, progress=False):
    """The gate of every branch at every point (Ball Sparse Attention, arXiv 2506.12541, eq. 9).

    Parameters
    ----------
    model : torch.nn.Module
        A model of bsaviz whose attention weighs several branches. A static gate is the same at every point, and 1 for
        the ball.
    car : Car, or array (P, D) of bare points
    layers, heads : int or sequence of int, optional
        Default all.
    features, progress
        As in `receptive_field`.

    Returns
    -------
    xarray.Dataset
        ``gate`` (layer, head, branch, point) float32 between 0 and 1, with ``position``, ``area`` and, where the car
        has them, ``faces`` and ``pressure``; all in input order, without padding. The points that share a slot at a
        coarse level have its gate; a head that a layer lacks is NaN.

    Raises
    ------
    BsavizError
        For a model without gates, an unknown layer or head, and a model that does not fit the car.
    """
    check_model(model)
    surface = as_surface(car, model)
    tree = tree_of(model, surface)
    sites = model.attention_sites(tree)
    layers, heads, branches = gate_axes(model, sites, layers, heads)
    features = point_features(features, surface, model)
    gate = np.full((len(layers), len(heads), len(branches), len(surface.positions)), np.nan, np.float32)

    def visit(trace):
        there = [head for head in heads if head < trace.num_heads]
        of_points = trace.gate[there][:, trace.slots].float().cpu().numpy()
        for b, branch in enumerate(trace.branches):
            rows = [heads.index(head) for head in there]
            gate[layers.index(trace.layer), rows, branches.index(branch)] = of_points[..., b]

    walk(model, surface, tree, sites, layers, ("gate",), visit, features=features, progress=progress)
    drawn, axes = surface_variables(surface)
    described = {"long_name": "gate of the branch", "units": "1"}
    return xr.Dataset(
        {"gate": (("layer", "head", "branch", "point"), gate, described), **drawn},
        coords={"layer": layers, "head": heads, "branch": branches, **axes},
        attrs=attributes(surface, model, tree, f"gates on {surface.name}"),
    )


def gate_axes(model, sites, layers=None, heads=None):
    """Layers, heads and branches of the gates of a model, three lists, as `gates` arranges them.

    Parameters
    ----------
    model : torch.nn.Module
    sites : list of AttentionSite
        Of the model.
    layers, heads : int or sequence of int, optional
        Default all.

    Raises
    ------
    BsavizError
        For a model without gates, an unknown layer or head.
    """
    gated = [i for i, site in enumerate(sites) if hasattr(site.attention, "gate")]
    if not gated:
        what = getattr(model.config, "attention", type(model).__name__)
        raise BsavizError(
            f"this model has no gates: its attention is {what!r}, and only an attention with several branches "
            "weighs them; build one with bsaviz.models.build('bsa')"
        )
    layers = resolve_choice("layer", layers, gated)
    attentions = [sites[layer].attention for layer in layers]
    heads = resolve_choice("head", heads, range(max(attention.num_heads for attention in attentions)))
    return layers, heads, list(dict.fromkeys(branch for attention in attentions for branch in attention.branches))
