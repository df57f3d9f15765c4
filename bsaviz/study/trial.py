"""One trial of a sweep: build, train, measure, and the netCDF that keeps it."""

import json

import torch
import xarray as xr

from bsaviz._files import whole_file
from bsaviz.datasets import training_cars
from bsaviz.models import build
from bsaviz.study.cost import cost
from bsaviz.training import model_sizes, save_model, train

COSTS = ("gflops", "forward_ms", "training_ms", "parameters")


def run_trial(plan, chosen, seed, folder, number, *, device=None, should_stop=None):
    """Train and measure one setting.

    Parameters
    ----------
    plan : SweepPlan
    chosen : dict
        Values of the parameters.
    seed : int
    folder : Path
        Gets ``<number>.nc`` and, where the plan keeps models, the checkpoint ``<number>``.
    number : int
    device : str, optional
    should_stop : callable, optional
        Asked before each training step.

    Returns
    -------
    xarray.Dataset or None
        None where it was stopped: nothing is written then.
    """
    name, preset, settings, config = plan.arguments(chosen, seed, device)
    train_cars, test_cars = training_cars(plan.cars)
    torch.manual_seed(seed)
    model = build(name, preset, **{**model_sizes(train_cars[0], config), **settings})
    result = train(model, train_cars, test_cars, config, progress=False, should_stop=should_stop)
    if result.stopped:
        return None
    measured = cost(model, len(test_cars[0].positions), device=config.device, memory=False)
    metrics = result.metrics.drop_vars([f"mean_{kind}" for kind in ("mse", "relative_l2", "mae_area")])
    ds = xr.Dataset(
        {
            **{kind: result.metrics[f"mean_{kind}"] for kind in ("mse", "relative_l2", "mae_area")},
            **{kind: measured[kind].drop_vars(("num_points", "batch")) for kind in COSTS},
            **{f"sample_{kind}": metrics[kind] for kind in ("mse", "relative_l2", "mae_area")},
            "loss": result.history["loss"],
        },
        attrs=metrics.attrs | {"trial": number, "chosen": json.dumps(chosen), "seed": seed, "cars": plan.cars},
    )
    stem = folder / f"{number:05d}"
    if plan.keep_models:
        save_model(model, stem, {"sweep": json.loads(plan.to_json()), "chosen": chosen, "seed": seed})
    content = ds.to_netcdf(engine="h5netcdf")
    with whole_file(stem.with_suffix(".nc")) as temporary:
        temporary.write_bytes(content)
    return ds
