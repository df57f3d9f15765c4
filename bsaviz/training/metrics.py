"""How far predictions are from the truth, per car and over cars, in the units of the field."""

from dataclasses import asdict

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from bsaviz import __version__
from bsaviz._checks import BsavizError
from bsaviz.training.batches import collate, extra_inputs, resolved, samples_of, with_trees
from bsaviz.training.config import TrainConfig, pick_device
from bsaviz.training.losses import LOSSES, loss_of

_TOGETHER = 8  # samples measured at once on a GPU

LONG_NAMES = {
    "mse": "mean squared error over the points",
    "relative_l2": "relative L2 error: |prediction - target| / |target|",
    "relative_l2_area": "relative L2 error, each point weighted by its area",
    "mae_area": "mean absolute error, each point weighted by its area",
    "objective": "the loss that is trained on",
}


def evaluate(model, cars, config=None, *, progress=True):
    """Measure a model on cars.

    Parameters
    ----------
    model : PointModel
        Moved to the device of `config`, and left in eval mode.
    cars : sequence of Car or of bsaviz.datasets.Sample
        Measured with all their points (subsample them first to measure on fewer).
    config : TrainConfig, optional
        Says the target, the features and the device.
    progress : bool
        Show a progress bar.

    Returns
    -------
    xarray.Dataset
        ``mse``, ``relative_l2``, ``relative_l2_area``, ``mae_area`` and ``objective`` along dim ``sample`` (the cars'
        names), and their means over the cars as ``mean_mse``, ... Areas are those of :attr:`Car.point_areas`, so a
        cloud's points all weigh the same. ``objective`` is the loss that is trained on (`config.loss`, by default the
        published one of the set), on each car.
    """
    cars = checked_cars("cars", cars)
    config = resolved(config or TrainConfig(), cars)
    device = pick_device(config.device)
    model.to(device)
    samples = with_trees(samples_of(cars, model, config, device), model)
    return metrics_dataset(measure(model, samples, config.loss, progress), cars, model, config, device)


def measure(model, samples, loss, progress=False):
    """Errors of each sample: a dict from the names in ``LONG_NAMES`` to lists, one value a sample, in field units."""
    rows = []
    for out, sample in zip(_outputs(model, samples, progress), samples):  # outputs first: they end their own bar
        columns = sample.target.shape[1]
        prediction = out[:, :columns] * model.output_std[:columns] + model.output_mean[:columns]
        row = errors(prediction, sample.target, sample.areas)
        rows.append(row | {"objective": loss_of(loss, out, sample.target, model, [len(out)]).item()})
    return {name: [row[name] for row in rows] for name in LONG_NAMES}


def _outputs(model, samples, progress):
    """Outputs of one sample after the other; on a GPU several go through the model together, or it would idle."""
    together = _TOGETHER if samples[0].positions.is_cuda else 1
    bar = tqdm(samples, desc="measuring", unit="car", disable=not progress, leave=False)
    for start in range(0, len(samples), together):
        some = samples[start : start + together]
        if len(some) == 1:
            yield forward(model, some[0])
        else:
            joined = collate(some, model)
            yield from forward(model, joined).split(joined.sizes)
        bar.update(len(some))
    bar.close()


@torch.no_grad()
def forward(model, sample):
    """The model's outputs on a sample or batch, (P, out_features), normalised; full precision, with its own tree."""
    training = model.training
    model.eval()
    of_points = getattr(sample, "batch", None)
    out = model(sample.positions, sample.features, of_points, sample.tree, **extra_inputs(model, sample))
    model.train(training)
    return out


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
        long_name = LOSSES[config.loss] if name == "objective" else LONG_NAMES[name]
        attrs = {"long_name": long_name, "units": units[name]}
        dataset[name] = ("sample", np.asarray(values), attrs)
        attrs = {**attrs, "long_name": f"mean over the cars of: {long_name}"}
        dataset[f"mean_{name}"] = ((), np.mean(values), attrs)
    return dataset


def error_units(cars, target):
    """Unit of each error of a field whose unit the cars give (``"1"`` where none of them knows it)."""
    units = {car.units.get(target, "") for car in cars} - {""}
    if len(units) > 1:
        raise BsavizError(f"the cars give {target!r} in several units: {', '.join(sorted(units))}; convert them to one")
    unit = units.pop() if units else "1"
    squared = unit if unit == "1" else f"{unit}^2" if unit.isalnum() else f"({unit})^2"
    return {"mse": squared, "relative_l2": "1", "relative_l2_area": "1", "mae_area": unit, "objective": "1"}


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
