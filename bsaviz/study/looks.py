"""What a trained model does inside, in a few numbers: mean gates, and how far and how much each branch reads."""

import numpy as np
import xarray as xr

from bsaviz.datasets import recall
from bsaviz.fields import gates, receptive_field, summary

QUERIES = 8  # points of each car, drawn once for all models


def look(model, cars, features=()):
    """Gates and receptive fields of a model, averaged over some points of some cars.

    Parameters
    ----------
    model : PointModel
        Where it is; its fields are computed there.
    cars : sequence of Car
        With the features that the model reads.
    features : sequence of str
        Fields of the cars.

    Returns
    -------
    xarray.Dataset
        Dims (layer, branch): ``gate`` and ``gate_spread``, mean and standard deviation of the gate over heads and
        points (of a model with gates); of :func:`bsaviz.fields.summary` the means over queries and heads:
        ``points_read``, ``surface_read``, ``mean_distance``, ``mass``, ``mass_distance``, ``mass_outside_ball``. Of
        clouds with known causes also ``recall``, the share of the queries whose cause a branch may read, and
        ``recall_mass``, that of those whose cause gets ten times the mass of an even share.
    """
    found = xr.concat([_of_car(model, car, features) for car in cars], "car", join="outer", combine_attrs="override")
    return found.mean("car", keep_attrs=True)


def _of_car(model, car, features):
    read = {"features": list(features)} if features else {}
    rng = np.random.default_rng(0)
    queries = np.sort(rng.choice(len(car.positions), min(QUERIES, len(car.positions)), replace=False)).tolist()
    field = receptive_field(model, car, queries, **read)
    found = summary(field).mean([dim for dim in ("query", "head") if dim in field.dims], keep_attrs=True)
    if "cause" in car.fields:
        found = found.assign(recall=recall(field, car), recall_mass=recall(field, car, mass_above=10 / car.num_points))
        found["recall"].attrs = {"long_name": "queries whose cause may be read", "units": "1"}
        found["recall_mass"].attrs = {"long_name": "queries that read their cause ten times as much as evenly",
                                      "units": "1"}  # fmt: skip
    if any(hasattr(site.attention, "gate") for site in model.attention_sites(_tree(model, car))):
        gate = gates(model, car, **read).gate
        over = ("head", "point")
        found = found.assign(gate=gate.mean(over), gate_spread=gate.std(over))
        for name, word in (("gate", "mean"), ("gate_spread", "standard deviation")):
            found[name].attrs = {"long_name": f"{word} of the gate over heads and points", "units": "1"}
    return found.drop_vars([name for name in found.coords if name not in ("layer", "branch")])


def _tree(model, car):
    from bsaviz.fields.tracing import tree_of

    return tree_of(model, car)
