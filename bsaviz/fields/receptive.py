"""What each branch reads, and how strongly, for any query point."""

import numpy as np
import xarray as xr

from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.mass import probabilities
from bsaviz.fields.queries import resolve_choice, resolve_query
from bsaviz.fields.structural import readable
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import branches_of, check_model, walk

KINDS = ("structural", "mass")
_NEEDS = {"structural": ("indices",), "mass": ("q", "k", "q_coarse", "k_coarse", "indices")}
_DTYPES = {"structural": bool, "mass": np.float32}
_DESCRIBED = {
    "structural": {"long_name": "the branch may read the point", "units": "1"},
    "mass": {"long_name": "attention mass: gate x softmax probability", "units": "1"},
}
_AT_ONCE = 2**22  # entries of (query, head, slot) worked on at once: 32 MiB in float64


def receptive_field(model, car, query, *, layers=None, heads=None, kinds=KINDS, features=None, progress=False):
    r"""Which points a query reads in every layer, head and branch, and how much attention mass they get.

    ``structural`` is True where a branch may read: the points of the query's ball, all points (compression, full
    attention), the points of the blocks that the query's group selected. ``mass`` is gate times softmax probability,

    .. math:: m_b(i, j) = \gamma_b(i) \, p_b(i, j), \qquad \sum_{b, j} m_b(i, j) = \sum_b \gamma_b(i)

    (Ball Sparse Attention, arXiv 2506.12541, section 3), where

    - a compressed block's probability is shared evenly over its points, also with ``pooling="mlp"``: a convention,
      since a perceptron weighs them otherwise;
    - under group compression a query has the probabilities of the coarse query of its block;
    - a branch with nothing to read (one ball only, and its own ball left out of the selection) has mass 0, so the sum
      then lacks its gate; full and ball attention have gate 1, as has the ball branch of a static gate;
    - with the published behaviour padding slots are read too; each repeats a point, and that point is credited.

    One forward pass; the softmax of the queries asked for is done anew in float64. Memory is O(P) for each query,
    layer, head and branch, never P x P.

    Parameters
    ----------
    model : Transformer
    car : Car, or array (P, D) of bare points
    query : int, sequence of int, or coordinates
        Points by index in input order; floating-point numbers are a place (or rows of places), of which the nearest
        point is meant.
    layers, heads : int or sequence of int, optional
        Default all. The pass ends after the last layer asked for.
    kinds : str or sequence of str
        Of ``"structural"`` and ``"mass"``.
    features : array (P, F), or sequence of field names of the car, optional
        Point features, for a model with ``in_features=F``; the name ``"normals"`` means the normals of the surface.
    progress : bool
        Show a bar over the layers.

    Returns
    -------
    xarray.Dataset
        Everything in input order, without padding.

        ============= ====================================== =====================================================
        structural    (query, layer, head, branch, point)    bool
        mass          (query, layer, head, branch, point)    float32
        gate          (query, layer, head, branch)           float32
        position      (point, xyz)                           as in the car
        area          (point)                                surface the point stands for (1 on a cloud)
        faces         (face, corner)                         triangles, where the car has them
        pressure      (point)                                where the car has it
        ============= ====================================== =====================================================

        Coordinates: ``query`` (point index), ``layer``, ``head``, ``branch`` ("ball", "compression", "selection", or
        "full"), ``xyz``. Attributes: car, model and tree parameters, device, dtype, versions.

    Raises
    ------
    BsavizError
        For a query out of range, an unknown layer, head or kind (lists those there are), and a model that does not fit
        the car.

    Examples
    --------
    >>> rf = bsaviz.receptive_field(model, car, 1200)  # doctest: +SKIP
    >>> rf.mass.sel(layer=3, branch="selection").max("head")  # doctest: +SKIP
    """
    check_model(model)
    surface = as_surface(car, model)
    layers = resolve_choice("layer", layers, range(len(model.layers)))
    heads = resolve_choice("head", heads, range(model.config.num_heads))
    kinds = resolve_choice("kind", kinds, KINDS)
    query = resolve_query(query, surface.positions)
    features = point_features(features, surface, model)
    branches = branches_of(model)

    shape = (len(query), len(layers), len(heads), len(branches))
    dims = ("query", "layer", "head", "branch")
    gate = np.zeros(shape, np.float32)
    fields = {kind: np.zeros((*shape, len(surface.positions)), _DTYPES[kind]) for kind in kinds}

    def visit(trace):
        trace, at = trace.of_heads(heads), layers.index(trace.layer)
        slots = trace.slots[query]
        gates = trace.gate[:, slots].transpose(0, 1)
        gate[:, at] = gates.float().cpu()
        for rows in _chunks(len(query), trace):
            for b, branch in enumerate(branches):
                if "structural" in fields:
                    reads = trace.to_points(readable(trace, branch, slots[rows]).int()) > 0
                    fields["structural"][rows, at, :, b] = reads.cpu()
                if "mass" in fields:
                    probability = trace.to_points(probabilities(trace, branch, slots[rows]))
                    mass = probability * gates[rows, :, b, None].double()
                    fields["mass"][rows, at, :, b] = mass.float().cpu()

    needs = sorted({"gate", *(need for kind in kinds for need in _NEEDS[kind])})
    tree = walk(model, surface, layers, needs, visit, features=features, progress=progress)

    drawn, axes = surface_variables(surface)
    described = {kind: ((*dims, "point"), values, _DESCRIBED[kind]) for kind, values in fields.items()}
    described["gate"] = (dims, gate, {"long_name": "gate of the branch at the query", "units": "1"})
    coords = {
        "query": ("query", query, {"long_name": "index of the query point in input order", "units": "1"}),
        "layer": layers,
        "head": heads,
        "branch": list(branches),
        **axes,
    }
    title = f"receptive field of {len(query)} point{'s' if len(query) > 1 else ''} of {surface.name}"
    return xr.Dataset({**described, **drawn}, coords=coords, attrs=attributes(surface, model, tree, title))


def _chunks(num_queries, trace):
    """Slices of the queries that bound the memory of what is worked on at once."""
    step = max(1, _AT_ONCE // (trace.num_heads * trace.num_slots))
    return [slice(start, start + step) for start in range(0, num_queries, step)]
