"""What each branch reads, and how strongly, for any query point."""

from bsaviz.fields.collecting import Collector
from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import check_model, tree_of, walk


def receptive_field(
    model, car, query, *, layers=None, heads=None, kinds=("structural", "mass"), features=None, progress=False
):
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
    tree = tree_of(model, surface)
    sites = model.attention_sites(tree)
    asked = Collector(sites, surface, query, layers, heads, kinds)
    features = point_features(features, surface, model)
    below = []

    def visit(trace):
        if trace.layer in asked.layers:
            asked.add(trace)
        if asked.through:
            below.append(trace)

    walk(model, surface, tree, sites, asked.visits, asked.needs, visit, features=features, progress=progress)
    asked.add_through(below)
    asked.add_model(model, tree, sites, features)
    return asked.dataset(surface_variables(surface), attributes(surface, model, tree, ""))
