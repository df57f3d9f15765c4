"""A receptive field in numbers: how much is read, how far away, and how much of the mass leaves the ball."""

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError


def summary(rf):
    """Numbers to print beside a receptive field.

    Parameters
    ----------
    rf : xarray.Dataset
        Of `bsaviz.receptive_field`, whole or a selection of it.

    Returns
    -------
    xarray.Dataset
        Each of dims (query, layer, head, branch), as far as `rf` has them:

        ===================== ===========================================================================
        points_read           how many points the branch may read
        surface_read          the same as a share of the surface, percent: area-weighted on a mesh, by
                              the number of points on a cloud
        mean_distance         mean distance from the query (from the nearest point of a region) to those
                              points, in car lengths (longest side of the bounding box); NaN where nothing
                              is read
        mass                  summed attention mass: the branch's gate, or 0 where nothing is read
        mass_distance         mean distance weighted by mass, in car lengths
        mass_outside_ball     mass on points outside the query's own ball (where there is a ball branch)
        ===================== ===========================================================================

        The last three need the kind ``"mass"``.

    Raises
    ------
    BsavizError
        When `rf` holds no receptive field.
    """
    if not {"structural", "mass"} & set(rf.data_vars) or "position" not in rf:
        raise BsavizError(
            "expected a dataset of bsaviz.receptive_field (variables 'structural' or 'mass', and 'position'), "
            f"got variables {sorted(map(str, rf.data_vars))}"
        )
    reads = rf["structural"] if "structural" in rf else rf["mass"] > 0
    area = rf["area"] if "area" in rf else xr.ones_like(rf["position"].isel(xyz=0, drop=True))
    area = area.astype(np.float64)
    distance = _distance(rf)
    count = reads.sum("point")
    share = 100 * xr.dot(reads, area / area.sum(), dim="point")
    numbers = {
        "points_read": _named(count, "points read", "1"),
        "surface_read": _named(share, "share of the surface read", "percent"),
        "mean_distance": _named(_mean(reads, distance, count), "mean distance of the points read", "car lengths"),
    }
    if "mass" in rf:
        mass = rf["mass"].sum("point", dtype=np.float64)
        numbers["mass"] = _named(mass, "attention mass", "1")
        numbers["mass_distance"] = _named(_mean(rf["mass"], distance, mass), "mean distance of the mass", "car lengths")
        if "ball" in np.atleast_1d(rf["branch"].values):
            own = reads if reads["branch"].ndim == 0 else reads.sel(branch="ball", drop=True)
            outside = rf["mass"].where(~own, 0).sum("point", dtype=np.float64)
            numbers["mass_outside_ball"] = _named(outside, "mass outside the own ball", "1")
    return xr.Dataset(numbers, attrs=rf.attrs)


def _distance(rf):
    """Distance of every point to each query, in car lengths; 0 on a cloud of no extent."""
    position = rf["position"].astype(np.float64)
    length = float((position.max("point") - position.min("point")).max())
    away = lambda query: np.sqrt(((position - position.isel(point=query)) ** 2).sum("xyz")) / (length or 1.0)
    if "in_region" not in rf:
        return away(rf["query"])
    found = [xr.concat(map(away, points), "member").min("member") for points in _members(rf)]
    return xr.concat(found, "query") if "query" in rf["in_region"].dims else found[0]


def _members(rf):
    """Points of each query that may be a region."""
    return [np.flatnonzero(inside) for inside in np.atleast_2d(rf["in_region"].values)]


def _mean(weights, values, total):
    return xr.dot(weights.astype(np.float64), values, dim="point") / total.where(total > 0)


def _named(array, long_name, units):
    return array.assign_attrs(long_name=long_name, units=units)
