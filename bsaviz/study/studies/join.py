"""Trainings added to a stored study: what it lacks is filled in, what was trained anew takes the old one's place."""

import json

import numpy as np

from bsaviz._checks import BsavizError

_SAME = ("training", "num_points", "bsaviz_study_version")
_TOLD = ("date", "device", "versions", "command")


def join(new, stored):
    """A study with the trainings, times and weights of another one where it has none itself.

    Parameters
    ----------
    new, stored : xarray.Dataset
        Two runs of one study, as :func:`bsaviz.study.studies.collect` writes them.

    Returns
    -------
    xarray.Dataset
        Over the variants of `new` and the seeds of both. ``attrs["earlier"]`` says when, on what and with what the
        seeds that came from `stored` were trained, as JSON.

    Raises
    ------
    BsavizError
        When the two were trained differently: their errors could not stand in one table.
    """
    for key in _SAME:
        if new.attrs[key] != stored.attrs.get(key):
            raise BsavizError(
                f"the stored study has {key} {stored.attrs.get(key)!r}, this run {new.attrs[key]!r}: seeds of both "
                "cannot stand in one study; write this run elsewhere (--out)"
            )
    axes = {"variant": new["variant"].values.tolist()}
    for dim in (dim for dim in new.dims if dim != "variant"):
        labels = [*new[dim].values.tolist(), *(stored[dim].values.tolist() if dim in stored else [])]
        axes[dim] = sorted(set(labels)) if new[dim].dtype.kind in "iu" else [*dict.fromkeys(labels)]
    old = stored.reindex({dim: labels for dim, labels in axes.items() if dim in stored.dims})
    ds = new.reindex(axes)
    for name, value in old.data_vars.items():
        empty = (old[name] == "") if value.dtype.kind in "OU" else old[name].isnull()
        if name not in ds:
            ds[name] = value
        elif not empty.all():
            ours = ds[name]
            missing = ours.isin(["", None]) if ours.dtype.kind in "OU" else ours.isnull()
            ds[name] = ours.where(~missing, value).transpose(*ours.dims).assign_attrs(ours.attrs)
    told = {key: stored.attrs[key] for key in _TOLD if key in stored.attrs}
    earlier = [*json.loads(stored.attrs.get("earlier", "[]")), told | {"trainings": _kept(new, old)}]
    return ds.assign_attrs(new.attrs | {"earlier": json.dumps(earlier)})


def _kept(new, old):
    """{seed: number of variants} of the trainings that only the stored study has."""
    ours = new["relative_l2"].reindex(seed=old["seed"]).notnull()
    only = (old["relative_l2"].notnull() & ~ours).sum("variant")
    return {str(seed): int(count) for seed, count in zip(only["seed"].values, np.atleast_1d(only.values)) if count}
