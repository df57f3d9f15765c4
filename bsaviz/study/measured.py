"""Results that were measured once and are kept with the package, e.g. those of a GPU that you may not have."""

import json
from pathlib import Path

import pandas as pd
import xarray as xr

from bsaviz._checks import BsavizError


def measured(name):
    """A stored measurement: rows, or a labelled array.

    Parameters
    ----------
    name : str
        Of a file in ``data/measurements`` without its ending, as ``"kernels"`` or ``"scaling"``.

    Returns
    -------
    pandas.DataFrame or xarray.Dataset
        One row a measurement, or what a netCDF holds; ``attrs`` is what is said of all of it: device, versions, date,
        command.

    Raises
    ------
    BsavizError
        For a name that there is none of; lists those there are.
    """
    kept = [path for ending in ("json", "nc") for path in measurements_folder().glob(f"*.{ending}")]
    files = {path.stem: path for path in kept}
    if name not in files:
        raise BsavizError(f"no measurement {name!r} is kept; there are {', '.join(sorted(files)) or 'none'}")
    if files[name].suffix == ".nc":
        return xr.load_dataset(files[name])
    content = json.loads(files[name].read_text("utf-8"))
    rows = content if isinstance(content, list) else content.get("rows", [])
    table = pd.DataFrame(rows)
    table.attrs = {} if isinstance(content, list) else {key: content[key] for key in content if key != "rows"}
    return table


def measurements_folder():
    """The measurements inside an installed wheel, or those of the checkout."""
    here = Path(__file__).resolve().parents[1]
    installed = here / "_measurements"
    return installed if installed.is_dir() else here.parent / "data" / "measurements"
