"""One trial of a sweep: build, train, measure, and the netCDF that keeps it."""

import json
import platform
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import torch
import xarray as xr

from bsaviz._files import whole_file
from bsaviz.datasets import training_cars
from bsaviz.models import build
from bsaviz.study.cost import cost
from bsaviz.study.looks import look
from bsaviz.training import model_sizes, save_model, train

ERRORS = ("mse", "relative_l2", "mae_area", "mse_x100")
COSTS = ("gflops", "forward_ms", "training_ms", "parameters")
HISTORY = 100  # points of the loss curve that are kept

_cars = lru_cache(maxsize=4)(training_cars)  # a worker trains many models on the same cars


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
    cars, name, preset, settings, config = plan.arguments(chosen, seed, device)
    train_cars, test_cars = _cars(cars)
    torch.manual_seed(seed)
    model = build(name, preset, **{**model_sizes(train_cars[0], config), **settings})
    result = train(model, train_cars, test_cars, config, progress=False, should_stop=should_stop)
    if result.stopped:
        return None
    ds = _measured(model, result).merge(_costs(model, len(test_cars[0].positions), config.device, plan.timing))
    if plan.looks:
        try:
            ds = ds.merge(look(model, test_cars[: plan.looks], config.features))
        except Exception as error:  # noqa: BLE001  what was trained and measured is worth keeping all the same
            ds.attrs["not_looked"] = f"{type(error).__name__}: {error}"
    said = {"trial": number, "chosen": json.dumps(chosen), "seed": seed, "cars": cars, "model": name}
    ds = ds.assign_attrs(result.metrics.attrs | ds.attrs | said | {"training": result.history.attrs["training"]})
    ds.attrs["versions"] = versions()
    stem = folder / f"{number:05d}"
    if plan.keep_models:
        save_model(model, stem, {"sweep": json.loads(plan.to_json()), "chosen": chosen, "seed": seed})
    with whole_file(stem.with_suffix(".nc")) as temporary:
        ds.to_netcdf(temporary, engine="h5netcdf")
    return ds


def versions():
    """Versions of what a result depends on, as JSON."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
    for name in ("triton", "numpy", "xarray"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return json.dumps(found)


def _measured(model, result):
    """Errors of the test cars, their means, and the loss of the steps in a hundred means."""
    metrics = result.metrics
    trained = json.loads(result.history.attrs["training"])
    columns = len(model.output_std) // (2 if trained["loss"] == "nll" else 1)  # the others are widths
    scaled = metrics["mse"] * 100 / float(model.output_std[:columns].square().mean())
    attrs = {"long_name": "100 times the mean squared error of the normalised target", "units": "1"}
    metrics = metrics.assign(mse_x100=scaled.assign_attrs(attrs), mean_mse_x100=scaled.mean().assign_attrs(attrs))
    width = max(1, result.history.sizes["step"] // HISTORY)
    loss = result.history["loss"].coarsen(step=width, boundary="trim").mean(keep_attrs=True)
    loss["step"] = result.history["step"].coarsen(step=width, boundary="trim").max()
    kinds = {kind: metrics[f"mean_{kind}"] for kind in ERRORS}
    seconds = result.history["elapsed"][-1].drop_vars("step").assign_attrs(long_name="time trained", units="s")
    return xr.Dataset({**kinds, **{f"sample_{kind}": metrics[kind] for kind in ERRORS}, "loss": loss,
                       "seconds": seconds})  # fmt: skip


def _costs(model, num_points, device, timing):
    if timing:
        ds = cost(model, num_points, device=device, memory=False, parts=False)
        return ds[list(COSTS)].drop_vars(("num_points", "batch"))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return xr.Dataset({"parameters": ((), trained, {"long_name": "trained numbers", "units": "1"})})
