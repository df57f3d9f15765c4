"""Measured series as one Dataset, and from how many points on a sparse variant is faster than full attention."""

from types import SimpleNamespace

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file
from bsaviz.study.scaling import BACKENDS, OUT_OF_TIME, SCOPES, STEPS, VARIANTS

OPERATOR = "operator"  # a scope that bsa_kernels.bench measures: q, k and v in, their outputs out
DIMS = ("scope", "variant", "backend", "n")
_TIMES = {
    "ms": ("median time of a call, trees and graphs given", np.median),
    "ms_low": ("lower quartile of the times", lambda times: np.quantile(times, 0.25)),
    "ms_high": ("upper quartile of the times", lambda times: np.quantile(times, 0.75)),
    "repeats": ("calls that were timed", len),
}
_NEVER, _ALWAYS = np.inf, 0.0
_NOT_RUN = "not run"


def to_dataset(rows, attrs=None):
    """Rows of :func:`bsaviz.study.scaling.run_series`, of any series, as a Dataset.

    Parameters
    ----------
    rows : sequence of dict
    attrs : dict, optional

    Returns
    -------
    xarray.Dataset
        ``ms``, ``ms_low``, ``ms_high``, ``repeats``, ``peak_mib`` (scope, variant, backend, n, step), NaN where nothing
        was measured, and why not: ``status`` (scope, variant, backend, n). ``crossover`` as :func:`crossover` gives it.
    """
    if not rows:
        raise BsavizError("there are no rows; run bsaviz.study.scaling.run_series first")
    of = lambda row: {name: getattr(row["series"], name) for name in DIMS[:3]} | {"n": row["n"]}
    places = [of(row) for row in rows]
    order = {"scope": [*SCOPES, OPERATOR], "variant": list(VARIANTS), "backend": list(BACKENDS)}
    coords = {d: sorted({p[d] for p in places}, key=order[d].index if d in order else None) for d in DIMS}
    shape = [len(coords[d]) for d in DIMS]
    coords["step"] = list(STEPS)
    found = {name: np.full([*shape, len(STEPS)], np.nan) for name in (*_TIMES, "peak_mib")}
    status = np.full(shape, _NOT_RUN, dtype=object)
    for place, row in zip(places, rows):
        at = tuple(coords[d].index(place[d]) for d in DIMS)
        status[at] = row["status"]
        for i, name in enumerate(STEPS):
            for kind, (_, reduce) in _TIMES.items():
                if name in row.get("ms", {}):
                    found[kind][*at, i] = reduce(row["ms"][name])
            found["peak_mib"][*at, i] = row.get("mib", {}).get(name, np.nan)
    described = {name: (text, "1" if name == "repeats" else "ms") for name, (text, _) in _TIMES.items()}
    described["peak_mib"] = ("most memory that torch's allocator held, weights and inputs included", "MiB")
    ds = xr.Dataset(
        {name: ((*DIMS, "step"), values, dict(zip(("long_name", "units"), described[name])))
         for name, values in found.items()}
        | {"status": (DIMS, status, {"long_name": "measured, or why it was not"})},
        coords=coords,
        attrs=attrs or {},
    )  # fmt: skip
    ds["n"].attrs = {"long_name": "points", "units": "1"}
    return ds.assign(crossover=crossover(ds))


def join(ds, stored):
    """Series added to those of an earlier run, which they replace where both have them.

    Parameters
    ----------
    ds, stored : xarray.Dataset
        Of :func:`to_dataset`, from one kind of device.

    Raises
    ------
    BsavizError
        For two devices: their times could not be compared.
    """
    if ds.attrs.get("device") != stored.attrs.get("device"):
        raise BsavizError(
            f"the stored series are of {stored.attrs.get('device')!r}, these of {ds.attrs.get('device')!r}; write them "
            "to another file (--out)"
        )
    ours, theirs = (each.drop_vars("crossover").assign(status=each["status"].astype(object)) for each in (ds, stored))
    run = ours["status"] != _NOT_RUN
    both = ours.where(run.any("n")).combine_first(theirs)
    order = {"scope": [*SCOPES, OPERATOR], "variant": list(VARIANTS), "backend": list(BACKENDS), "step": list(STEPS)}
    both = both.reindex({d: sorted(both[d].values.tolist(), key=names.index) for d, names in order.items()})
    both["status"] = both["status"].fillna(_NOT_RUN)
    for name in both.variables:
        both[name].attrs = ds[name].attrs
    return both.assign_attrs(stored.attrs | ds.attrs).assign(crossover=crossover(both))


def finished(ds, series, sizes):
    """Whether a Dataset holds a series at all these numbers of points, or says why it cannot have one."""
    place = {"scope": series.scope, "variant": series.variant, "backend": series.backend}
    if not all(value in ds[name] for name, value in place.items()) or not np.isin(sizes, ds["n"]).all():
        return False
    return not np.isin(ds["status"].sel(place).sel(n=list(sizes)).values, [_NOT_RUN, OUT_OF_TIME]).any()


def operator_scaling(table, *, heads=8, head_dim=32):
    """The attention operator's times and memory, as ``python -m bsa_kernels.bench`` keeps them.

    Parameters
    ----------
    table : pandas.DataFrame
        ``bsaviz.study.measured("kernels")``.
    heads, head_dim : int
        Which rows.

    Returns
    -------
    xarray.Dataset
        As :func:`to_dataset`, scope ``"operator"``; "training" is forward with backward. Full attention is the faster
        of PyTorch's dense kernels. The bench keeps medians alone: there are no quartiles.
    """
    table = table[(table["heads"] == heads) & (table["head_dim"] == head_dim)]
    best = {}
    for row in table.to_dict("records"):
        variant = "full" if row["variant"].startswith("dense-") else row["variant"]
        if variant not in VARIANTS:
            continue
        key = variant, "graph" if row["cuda_graph"] else "kernels", int(row["n"])
        times = {"forward": [row["forward_ms"]], "training": [row["forward_backward_ms"]]}
        found = {"ms": times, "mib": {"training": row["peak_gib"] * 1024}}
        if key not in best or times["training"] < best[key]["ms"]["training"]:
            best[key] = found
    series_of = lambda variant, backend: SimpleNamespace(variant=variant, backend=backend, scope=OPERATOR)
    rows = [
        {"series": series_of(variant, backend), "n": n, "status": "measured", **row}
        for (variant, backend, n), row in best.items()
    ]
    about = {} if table.empty else {name: str(table.iloc[0][name]) for name in ("device", "date", "torch", "triton")}
    ds = to_dataset(rows, about | {"command": "python -m bsa_kernels.bench", "heads": heads, "head_dim": head_dim})
    return ds.assign({name: ds[name].where(False) for name in ("ms_low", "ms_high", "repeats")})


def crossover(ds, against="best"):
    """Points from which on a variant is faster than full attention, at every size measured from there on.

    Between the last size at which it is not and the next one, both times are taken to be powers of the number of
    points: straight lines on logarithmic axes.

    Parameters
    ----------
    ds : xarray.Dataset
        With ``ms``, of :func:`to_dataset`.
    against : {"best", "same"}
        Full attention by its fastest backend (of those launched alike: a CUDA graph is compared with a CUDA graph), or
        by the variant's own.

    Returns
    -------
    xarray.DataArray (scope, variant, backend, step)
        0 where it is faster at every size that both were measured at, infinite where it is not at the largest one; NaN
        where there is nothing to compare.
    """
    if against not in ("best", "same"):
        raise BsavizError(f"against must be 'best' or 'same', got {against!r}")
    if "full" not in ds["variant"]:
        empty = ds["ms"].isel(n=0, drop=True) * np.nan
        return empty.rename("crossover").assign_attrs(long_name="points, none: full attention was not run", units="1")
    dense = ds["ms"].sel(variant="full", drop=True)
    if against == "best":
        launched_alike = [name for name in ds["backend"].values if name != "graph"]
        best = dense.sel(backend=launched_alike).min("backend")
        dense = xr.where(dense["backend"] == "graph", dense, best)
    found = xr.apply_ufunc(
        _crossing, ds["ms"], dense, ds["n"].astype(float), vectorize=True,
        input_core_dims=[["n"], ["n"], ["n"]],
    )  # fmt: skip
    found = found.transpose("scope", "variant", "backend", "step")
    found = found.where(found["variant"] != "full").rename("crossover")
    meaning = "0: at all sizes measured, inf: at none up to the largest"
    return found.assign_attrs(long_name=f"points from which on it is faster than full attention ({meaning})", units="1")


def _crossing(ours, dense, n):
    there = np.isfinite(ours) & np.isfinite(dense)
    if not there.any():
        return np.nan
    n, ahead = n[there], np.log(dense[there] / ours[there])
    if ahead[-1] <= 0:
        return _NEVER
    behind = np.flatnonzero(ahead <= 0)
    if not len(behind):
        return _ALWAYS
    i = behind[-1]
    share = -ahead[i] / (ahead[i + 1] - ahead[i])
    return float(np.exp(np.log(n[i]) + share * np.log(n[i + 1] / n[i])))


def per_point(ds, least=10_000):
    """Time and memory a point, at `least` points and more: constant where the cost is linear.

    Returns
    -------
    xarray.Dataset
        ``us_a_point`` and ``kib_a_point``, with the dims of ``ms``.
    """
    large = ds.where(ds["n"] >= least, drop=True)
    kinds = (
        ("us_a_point", "ms", 1e3, "time a point", "us"),
        ("kib_a_point", "peak_mib", 1024, "memory a point", "KiB"),
    )
    return xr.Dataset(
        {name: (large[of] * factor / large["n"]).assign_attrs(long_name=text, units=unit)
         for name, of, factor, text, unit in kinds}, attrs=ds.attrs,
    )  # fmt: skip


def write(ds, path):
    """Write it as netCDF 3, which needs no library but SciPy."""
    content = ds.to_netcdf(engine="scipy")
    with whole_file(path) as temporary:
        temporary.write_bytes(content)
