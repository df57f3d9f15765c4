"""The datasets that are handed to people: variables, attributes, files."""

import dataclasses
import json
import math

import numpy as np
import torch
import xarray as xr

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz._files import whole_file

AXES = ("x", "y", "z")


def surface_variables(surface):
    """The points to draw on: position, area, and faces and pressure where the car has them."""
    length_unit = surface.units.get("positions", "as in the source")
    meshed = surface.faces is not None
    variables = {
        "position": (("point", "xyz"), surface.positions, {"long_name": "position", "units": length_unit}),
        "area": (
            "point",
            np.asarray(surface.point_areas, np.float32),
            {"long_name": "surface that the point stands for", "units": f"({length_unit})^2" if meshed else "points"},
        ),
    }
    if meshed:
        described = {"long_name": "triangles, as indices of points", "units": "1"}
        variables["faces"] = (("face", "corner"), surface.faces.astype(np.int32), described)
    pressure = surface.fields.get("pressure")
    if pressure is not None and pressure.ndim == 1:
        unit = surface.units.get("pressure", "as in the source")
        variables["pressure"] = ("point", pressure, {"long_name": "pressure", "units": unit})
    return variables, {"xyz": list(AXES[: surface.positions.shape[1]])}


def attributes(surface, model, tree, title):
    """Where the numbers come from, as strings and numbers: car, model, tree, device, dtype, versions."""
    weight = next(model.parameters())
    attrs = {
        **{f"car_{name}": value for name, value in surface.attrs.items()},
        "title": title,
        "car": surface.name,
        "source": surface.source,
        "num_points": len(surface.positions),
        "car_length": surface.length,
        **{f"model_{name}": value for name, value in dataclasses.asdict(model.config).items()},
        "model_parameters": sum(p.numel() for p in model.parameters()),
        "tree_ball_size": tree.ball_size,
        "tree_block_size": tree.block_size,
        "tree_slots": tree.order.shape[1],
        "tree_angle": tree.angle,
        "device": str(weight.device),
        "dtype": str(weight.dtype).removeprefix("torch."),
        "bsaviz_version": bsaviz.__version__,
        "torch_version": torch.__version__,
    }
    return {name.replace("/", "_"): _plain(value) for name, value in attrs.items() if value is not None}


def save(ds, path):
    """Write a dataset as compressed netCDF, whole or not at all; ``xarray.open_dataset(path)`` reads it back.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `receptive_field`, `gates` or `summary`.
    path : str or Path
        Customarily ``*.nc``. Missing folders are made.

    Raises
    ------
    BsavizError
        When it is no dataset, or the disk is full or not writable (no half-written file is left).
    """
    if not isinstance(ds, xr.Dataset):
        came = type(ds).__name__
        raise BsavizError(f"save needs an xarray.Dataset, got {came}; of an array call .to_dataset(name=...)")
    deflate = {"zlib": True, "complevel": 4, "shuffle": True}
    encoding = {name: deflate for name, values in ds.data_vars.items() if values.ndim and values.dtype.kind in "fbi"}
    # Through memory: HDF5 on a full disk fails late and in many ways, plain bytes fail at once and say why.
    content = ds.to_netcdf(engine="h5netcdf", encoding=encoding)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _plain(value):
    """A string or a number, as netCDF attributes and JSON both hold."""
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, str):
        return str(value)  # not a subclass, as torch's version is
    return json.dumps(value, default=str)
