"""What people ask for (points, layers, heads, kinds), checked and turned into indices."""

import numpy as np

from bsaviz._checks import BsavizError


def resolve_query(query, positions):
    """Indices of the points asked for.

    Parameters
    ----------
    query : int, sequence of int, or coordinates
        Whole numbers are indices of points in input order. Floating-point numbers are a place, of as many coordinates
        as the points have (or several, as rows), and mean the nearest point to it (the first of equally near ones).
    positions : array (P, D)

    Returns
    -------
    array (Q,) int64
        In the order asked.

    Raises
    ------
    BsavizError
        For an index outside 0..P-1, a place with NaN or of the wrong length, or anything else.
    """
    try:
        asked = np.asarray(query.detach().cpu() if hasattr(query, "detach") else query)
    except ValueError:
        asked = np.asarray(None)
    if asked.dtype.kind in "iu" and asked.ndim <= 1 and asked.size:
        return _indices(asked.reshape(-1), len(positions))
    if asked.dtype.kind == "f" and asked.ndim in (1, 2) and asked.size and asked.shape[-1] == positions.shape[1]:
        return _nearest(np.atleast_2d(asked), positions)
    raise BsavizError(
        f"query must be a point's index, a list of indices, or a place of {positions.shape[1]} floating-point "
        f"coordinates whose nearest point is meant; got {query!r}"
    )


def resolve_choice(what, asked, there):
    """The members of `there` that were asked for, in the order asked; None means all of them.

    Parameters
    ----------
    what : str
        What is chosen, for the message: ``"layer"``, ``"head"``, ``"kind"``.
    asked : None, one of `there`, or a sequence of them
    there : sequence

    Returns
    -------
    list

    Raises
    ------
    BsavizError
        For one that is not there (lists those that are), for one asked twice, and for an empty choice.
    """
    there = list(there)
    if asked is None:
        return there
    one = isinstance(asked, str) or np.ndim(asked) == 0
    wanted = [asked] if one else list(asked)
    listed = ", ".join(map(str, there))
    for item in wanted:
        if isinstance(item, (bool, np.bool_)) or item not in there:
            raise BsavizError(f"there is no {what} {item!r}; choose from: {listed}")
    if not wanted:
        raise BsavizError(f"no {what} was asked for; choose from: {listed}")
    if len(set(wanted)) < len(wanted):
        raise BsavizError(f"a {what} was asked for twice in {wanted!r}; name each once")
    return [there[there.index(item)] for item in wanted]


def _indices(indices, num_points):
    outside = (indices < 0) | (indices >= num_points)
    if outside.any():
        raise BsavizError(
            f"query {int(indices[outside][0])} is out of range: this cloud has {num_points} points, 0..{num_points - 1}"
        )
    return indices.astype(np.int64)


def _nearest(places, positions):
    if not np.isfinite(places).all():
        raise BsavizError(f"query place {places.tolist()} is not finite; give coordinates in the frame of the points")
    distances = ((places[:, None].astype(np.float64) - positions[None]) ** 2).sum(-1)
    return distances.argmin(axis=1).astype(np.int64)
