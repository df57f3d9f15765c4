"""How the gates weigh the branches, for every point."""

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.attention import BallSparseAttention
from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.queries import resolve_choice
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import branches_of, check_model, walk


def gates(model, car, *, layers=None, heads=None, features=None, progress=False):
    """The gate of every branch at every point (Ball Sparse Attention, arXiv 2506.12541, eq. 9).

    Parameters
    ----------
    model : Transformer
        With ball sparse attention. A static gate is the same at every point, and 1 for the ball.
    car : Car, or array (P, D) of bare points
    layers, heads : int or sequence of int, optional
        Default all.
    features, progress
        As in `receptive_field`.

    Returns
    -------
    xarray.Dataset
        ``gate`` (layer, head, branch, point) float32 between 0 and 1, with ``position``, ``area`` and, where the car
        has them, ``faces`` and ``pressure``; all in input order, without padding.

    Raises
    ------
    BsavizError
        For a model without gates, an unknown layer or head, and a model that does not fit the car.
    """
    check_model(model)
    if not isinstance(model.layers[0].attn, BallSparseAttention):
        raise BsavizError(
            f"this model has no gates: its attention is {model.config.attention!r}, and only ball sparse attention "
            "weighs branches; build one with bsaviz.models.build('bsa')"
        )
    surface = as_surface(car, model)
    layers = resolve_choice("layer", layers, range(len(model.layers)))
    heads = resolve_choice("head", heads, range(model.config.num_heads))
    features = point_features(features, surface, model)
    branches = branches_of(model)
    gate = np.zeros((len(layers), len(heads), len(branches), len(surface.positions)), np.float32)

    def visit(trace):
        of_points = trace.of_heads(heads).gate[:, trace.slots]
        gate[layers.index(trace.layer)] = of_points.transpose(1, 2).float().cpu()

    tree = walk(model, surface, layers, ("gate",), visit, features=features, progress=progress)
    drawn, axes = surface_variables(surface)
    described = {"long_name": "gate of the branch", "units": "1"}
    return xr.Dataset(
        {"gate": (("layer", "head", "branch", "point"), gate, described), **drawn},
        coords={"layer": layers, "head": heads, "branch": list(branches), **axes},
        attrs=attributes(surface, model, tree, f"gates on {surface.name}"),
    )
