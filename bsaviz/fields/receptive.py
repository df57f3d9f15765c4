"""What each branch reads, and how strongly, for any query point."""

from bsaviz.fields.collecting import Collector
from bsaviz.fields.dataset import attributes, surface_variables
from bsaviz.fields.memory import check_memory
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import check_model, tree_of, walk


def receptive_field(
    model, car, query, *, layers=None, heads=None, kinds=("structural", "mass"), features=None, memory_limit=None,
    progress=False,
):  # fmt: skip
    r"""Which points a query reads in every layer, head and branch, how strongly, and what reaches it through layers.

    ``structural`` is True where a branch may read: the points of the query's ball, all points (compression, full
    attention), the points of the blocks that the query's group selected, the points of a window. ``mass`` is gate times
    softmax probability,

    .. math:: m_b(i, j) = \gamma_b(i) \, p_b(i, j), \qquad \sum_{b, j} m_b(i, j) = \sum_b \gamma_b(i)

    (Ball Sparse Attention, arXiv 2506.12541, section 3), where

    - a compressed block's probability is shared evenly over its points, also with ``pooling="mlp"``: a convention,
      since a perceptron weighs them otherwise;
    - under group compression a query has the probabilities of the coarse query of its block;
    - a branch with nothing to read (one ball only, and its own ball left out of the selection) has mass 0, so the sum
      then lacks its gate; full and ball attention have gate 1, as has the ball branch of a static gate;
    - with the published behaviour padding slots are read too; each repeats a point, and that point is credited;
    - at a coarse level of a U-Net a slot stands for several points: a query is its slot, what reads a slot reads all
      its points, and they share its mass evenly.

    ``gradient`` is the Frobenius norm of :math:`\partial o_b(i) / \partial x_j`: how much the gated output of a branch
    and head at the query (its d channels) changes with the token `x` (C channels) that the attention is given at a
    point. The chosen blocks are held fixed. See `bsaviz.fields.gradient`.

    ``reach`` and ``rollout`` go through all layers from the input to the one asked for. ``reach``: the points that can
    influence the query by then, the union of structural fields of what is read, and read by that, and so on.
    ``rollout``: the mass carried along these paths (Abnar & Zuidema, arXiv 2005.00928, with gates: the formula is that
    of `bsaviz.fields.through.rollout`), which sums to one. Their ``branch`` means: through this branch and nearer ones,
    near to far being ball, window, selection, compression, full. So ``reach.any("branch")`` is all that reaches, and
    ``rollout.sum("branch")`` all mass. Both follow attention and residuals, over the heads asked for; what message
    passing or positions relative to a ball bring besides is not counted.

    ``model_gradient`` is the Frobenius norm of the change of the prediction (normalised, all its numbers) with position
    and features of an input point, through the whole model with the tree and the chosen blocks held fixed. With
    ``position_scaling="length"`` the points that span the bounding box scale all others, and stand out.

    All are exact, and one forward pass gives all but the last. Memory is O(P) for each query, layer, head and branch,
    never P x P. The structural and mass fields of many queries on one car come quicker from a `bsaviz.fields.Trace`.

    Parameters
    ----------
    model : torch.nn.Module
        A model of bsaviz: anything with ``attention_sites(tree)``.
    car : Car, Sample, or array (P, D) of bare points
    query : int, sequence, coordinates, str, Region, or mapping
        Points by index in input order; floating-point numbers are a place (or rows of places), of which the nearest
        point is meant; a text is one of `bsaviz.fields.LANDMARKS`. A `Region`, or a mapping of names to points, asks
        about several points together: the union of what they read and reach, the mean of their masses and gates, the
        gradient of their mean output. A list may mix these.
    layers, heads : int or sequence of int, optional
        Default all. A layer is a place in ``model.attention_sites(tree)``. The pass ends after the last one asked for.
    kinds : str or sequence of str
        Of `bsaviz.fields.KINDS`.
    features : array (P, F), or sequence of field names of the car, optional
        Point features, for a model with ``in_features=F``; the name ``"normals"`` means the normals of the surface.
    memory_limit : int, optional
        Bytes. What would need more (see `bsaviz.fields.estimate`) is refused before it runs; by default what is free.
    progress : bool
        Show a bar over the layers.

    Returns
    -------
    xarray.Dataset
        Everything in input order, without padding. A head or branch that a layer lacks is False or NaN there.

        ============== ====================================== =====================================================
        structural     (query, layer, head, branch, point)    bool
        mass           (query, layer, head, branch, point)    float32
        gradient       (query, layer, head, branch, point)    float32
        reach          (query, layer, branch, point)          bool
        rollout        (query, layer, branch, point)          float32
        model_gradient (query, point)                         float32
        gate           (query, layer, head, branch)           float32
        in_region      (query, point)                         bool, where a query has several points
        position       (point, xyz)                           as in the car
        area           (point)                                surface the point stands for (1 on a cloud)
        faces          (face, corner)                         triangles, where the car has them
        pressure       (point)                                where the car has it
        ============== ====================================== =====================================================

        Coordinates: ``query`` (point index; of a region, its middle point), ``region`` (query; names, where any were
        given), ``layer``, ``level`` (layer; where there are coarse ones), ``head``, ``branch`` ("ball", "compression",
        "selection", "window" or "full"), ``xyz``. Attributes: car, model and tree parameters, device, dtype, versions.

    Raises
    ------
    BsavizError
        For a query out of range, an unknown layer, head or kind (lists those there are), a model that does not fit the
        car, and more memory than the limit.

    Examples
    --------
    >>> rf = bsaviz.receptive_field(model, car, 1200)  # doctest: +SKIP
    >>> rf.mass.sel(layer=3, branch="selection").max("head")  # doctest: +SKIP
    >>> bsaviz.receptive_field(model, car, ["bonnet", "tail"], kinds=["reach", "rollout"])  # doctest: +SKIP
    """
    check_model(model)
    surface = as_surface(car, model)
    tree = tree_of(model, surface)
    sites = model.attention_sites(tree)
    asked = Collector(sites, surface, query, layers, heads, kinds)
    features = point_features(features, surface, model)
    check_memory(model, asked, sites, memory_limit)
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
