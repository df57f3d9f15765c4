"""A small study with weights of some of its trainings, for the tests of the trade-off explorer."""

import json

import numpy as np
import xarray as xr
from ui_cases import tiny_model

from bsaviz.training import save_model

KEPT = ("bsa", "full")


def make_study(folder):
    """A stored study of three variants in `folder`: ``study.nc``, with weights of two of them."""
    variants = ["bsa", "ball", "full"]
    stems = []
    for name in variants:
        stem = f"models/{name}" if name in KEPT else ""
        if stem:
            save_model(tiny_model(name).half(), folder / stem)
        stems.append(stem)
    error = np.array([[0.20, 0.22], [0.30, 0.31], [0.19, 0.20]])
    ds = xr.Dataset(
        {
            "relative_l2": (("variant", "seed"), error, {"units": "1"}),
            "mse": (("variant", "seed"), 1e4 * error**2, {"units": "Pa^2"}),
            "gflops": ("variant", [6.0, 2.0, 22.0], {"units": "GFLOP"}),
            "forward_ms": ("variant", [2.0, 1.0, 5.0], {"units": "ms"}),
            "checkpoint": ("variant", stems),
        },
        coords={"variant": variants, "seed": [0, 1], "model": ("variant", variants),
                "ball_size": ("variant", [32.0, 32.0, np.nan])},
        attrs={"title": "three", "bsaviz_study_version": 1, "training": json.dumps({"steps": 9})},
    )  # fmt: skip
    ds.to_netcdf(folder / "study.nc", engine="h5netcdf")
    return folder / "study.nc"
