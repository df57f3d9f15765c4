"""What a sweep has measured, as one labelled dataset."""

import json
from pathlib import Path

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError

SCALARS = ("relative_l2", "mse", "mae_area", "mse_x100", "gflops", "forward_ms", "training_ms", "parameters")


def open_sweep(folder):
    """Open the trials of a sweep's folder.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    xarray.Dataset
        Errors (``relative_l2``, ``mse``, ``mae_area``, ``mse_x100``: means over the test cars), costs (``parameters``
        and, where the plan times, ``gflops``, ``forward_ms``, ``training_ms``) and ``trial`` (the number, by which
        the files in ``trials/`` go). Where the trials fill a grid, its dims are the parameters and ``seed`` (NaN where
        a trial is missing); elsewhere the one dim is ``trial``, with the parameters as coordinates.

    Raises
    ------
    BsavizError
        When no trial is finished, and for a file of a trial that is damaged.
    """
    paths = sorted((Path(folder) / "trials").glob("[0-9]*.nc"))
    if not paths:
        raise BsavizError(f"{folder} holds no finished trial; run the sweep first")
    rows = [_row(path) for path in paths]
    names = [*rows[0][0], "seed"]
    ds = xr.concat([ds for _, ds in rows], "trial", combine_attrs="drop_conflicts")
    chosen = [{**chosen, "seed": int(part["seed"])} for chosen, part in rows]
    labels = {name: [row[name] for row in chosen] for name in names}
    ds = ds.drop_vars("seed").assign_coords(trial=[int(path.stem) for path in paths])
    ds = ds.assign_coords({name: ("trial", values) for name, values in labels.items()})
    return _grid(ds, names)


def _row(path):
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            ds = file[[name for name in SCALARS if name in file]].load()
        ds["seed"] = ds.attrs.pop("seed")
        return json.loads(ds.attrs.pop("chosen")), ds
    except (OSError, ValueError, KeyError) as error:
        raise BsavizError(
            f"{path} is no whole file of a trial ({error}); remove it, and give its setting another sweep"
        ) from error


def _grid(ds, names):
    """The trials on the axes of their parameters, where these are a grid."""
    sizes = [len(np.unique(ds[name])) for name in names]
    if any(ds[name].dtype.kind == "f" for name in names) or np.prod(sizes) > 4 * ds.sizes["trial"]:
        return ds
    number = ds["trial"].values
    ds = ds.assign(number=("trial", number)).drop_vars("trial")
    ds = ds.set_index(trial=names)
    ds = ds.isel(trial=~ds.indexes["trial"].duplicated(keep="last")).unstack("trial")
    return ds.rename(number="trial")
