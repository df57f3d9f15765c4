"""How far predictions are from the truth, per car and over cars, in the units of the field."""

from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from bsaviz import __version__
from bsaviz._checks import BsavizError
from bsaviz.training.batches import samples_of, with_trees
from bsaviz.training.config import TrainConfig, pick_device

LONG_NAMES = {
    "mse": "mean squared error over the points",
    "relative_l2": "relative L2 error: |prediction - target| / |target|",
    "relative_l2_area": "relative L2 error, each point weighted by its area",
    "mae_area": "mean absolute error, each point weighted by its area",
}


def evaluate(model, cars, config=None, *, progress=True):
    """Measure a model on cars.

    Parameters
    ----------
    model : Transformer
        Moved to the device of `config`, and left in eval mode.
    cars : sequence of Car
        Measured with all their points (subsample them first to measure on fewer).
    config : TrainConfig, optional
        Says the target, the features and the device.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``mse``, ``relative_l2``, ``relative_l2_area`` and ``mae_area`` along dim ``sample`` (the cars' names), and
        their means over the cars as ``mean_mse``, ... Areas are those of :attr:`Car.point_areas`, so a cloud's points
        all weigh the same.
    """
    config = config or TrainConfig()
    cars = checked_cars("cars", cars)
    device = pick_device(config.device)
    model.to(device)
    samples = with_trees(samples_of(cars, model, config, device), model)
    return metrics_dataset(measure(model, samples, progress), cars, model, config, device)


def measure(model, samples, progress=False):
    """Errors of each sample: a dict from the names in ``LONG_NAMES`` to lists, one value a sample, in field units."""
    rows = [errors(predict(model, sample), sample.target, sample.areas)
            for sample in tqdm(samples, desc="measuring", unit="car", disable=not progress, leave=False)]
    return {name: [row[name] for row in rows] for name in LONG_NAMES}


@torch.no_grad()
def predict(model, sample):
    """The model's field on one sample, (P, K), in the field's units; full precision, with the sample's own tree."""
    training = model.training
    model.eval()
    values = model.predict(sample.positions, sample.features, tree=sample.tree)
    model.train(training)
    return values.view(sample.target.shape)


def errors(prediction, target, areas):
    r"""Errors of one car's prediction.

    With weights :math:`a_i`, the areas divided by their sum: relative L2
    :math:`\sqrt{\sum_i |p_i - t_i|^2 / \sum_i |t_i|^2}`, the same with :math:`a_i` in both sums, and the mean absolute
    error :math:`\sum_i a_i |p_i - t_i|`. The MSE and the mean absolute error are means over the columns as well.

    Parameters
    ----------
    prediction, target : Tensor (P, K)
    areas : Tensor (P,)

    Returns
    -------
    dict of str to float
    """
    prediction, target, areas = prediction.double(), target.double(), areas.double()
    weights = (areas / areas.sum())[:, None]
    off = prediction - target
    return {
        "mse": off.square().mean().item(),
        "relative_l2": (off.square().sum() / target.square().sum()).sqrt().item(),
        "relative_l2_area": ((weights * off.square()).sum() / (weights * target.square()).sum()).sqrt().item(),
        "mae_area": (weights * off.abs()).sum().item() / target.shape[1],
    }


def metrics_dataset(measured, cars, model, config, device):
    """What :func:`measure` found as a labelled dataset."""
    units = error_units(cars, config.target)
    dataset = xr.Dataset(coords={"sample": [car.name for car in cars]}, attrs=provenance(model, config.seed, device))
    dataset.attrs["target"] = config.target
    for name, values in measured.items():
        attrs = {"long_name": LONG_NAMES[name], "units": units[name]}
        dataset[name] = ("sample", np.asarray(values), attrs)
        attrs = {**attrs, "long_name": f"mean over the cars of: {LONG_NAMES[name]}"}
        dataset[f"mean_{name}"] = ((), np.mean(values), attrs)
    return dataset


def error_units(cars, target):
    """Unit of each error of a field whose unit the cars give (``"1"`` where none of them knows it)."""
    units = {car.units.get(target, "") for car in cars} - {""}
    if len(units) > 1:
        raise BsavizError(f"the cars give {target!r} in several units: {', '.join(sorted(units))}; convert them to one")
    unit = units.pop() if units else "1"
    squared = unit if unit == "1" else f"{unit}^2" if unit.isalnum() else f"({unit})^2"
    return {"mse": squared, "relative_l2": "1", "relative_l2_area": "1", "mae_area": unit}


def provenance(model, seed, device):
    """Attributes every result carries: the model's configuration, seed, device, dtype and versions."""
    config = {name: value for name, value in asdict(model.config).items() if value is not None}
    return {
        **{f"model_{name}": int(value) if isinstance(value, bool) else value for name, value in config.items()},
        "model_parameters": sum(p.numel() for p in model.parameters()),
        "seed": seed,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
        "bsaviz_version": __version__,
        "torch_version": str(torch.__version__),
    }


def checked_cars(name, cars):
    """`cars` as a list, after checking that it is a non-empty sequence of cars."""
    if hasattr(cars, "positions"):
        raise BsavizError(f"{name} must be a list of cars, got one car; write [car]")
    cars = list(cars)
    if not cars:
        raise BsavizError(f"{name} is empty; give at least one car")
    wrong = [type(car).__name__ for car in cars if not hasattr(car, "positions")]
    if wrong:
        raise BsavizError(f"{name} must hold cars, got a {wrong[0]}; make cars with bsaviz.load_car")
    return cars
