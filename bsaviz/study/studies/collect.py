"""From the trials of a sweep to one small file a study."""

import json
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr

from bsaviz._files import whole_file
from bsaviz.datasets.named import BEACONS, fields_of, knob_of
from bsaviz.models.registry import VARIANTS
from bsaviz.study.cost import DESCRIPTIONS, count_gflops
from bsaviz.study.studies.join import join
from bsaviz.study.studies.plans import SEEDS, STUDIES, TRAINING, config_of, settings_of, shared_names
from bsaviz.study.studies.stored import FORMAT_VERSION, open_study
from bsaviz.training import load_model, save_model

SETTINGS = ("ball_size", "block_size", "group_size", "top_k", "depth", "dim", "num_heads")
KNOBS = ("screening_length", "wavelength", "spread")
TIMED = ("forward_ms", "training_ms", "forward_mib", "training_mib")
POINTS, CAR_POINTS = {"beacons": 128}, 3586  # of a cloud; all others are cars
KEPT = ("table3",)  # studies of whose variants one model each is kept


def collect(folder, out, *, names=None, scale=1.0, seeds=SEEDS, command="", costs=None, add=False):
    """Write ``<study>.nc`` of every study that has finished trials.

    Parameters
    ----------
    folder : path
        Of the sweep.
    out : path
    names : sequence of str, optional
        Studies; default all.
    scale, seeds
        As the sweep was planned with.
    command : str
        What was run, to be kept with the results.
    costs : dict of str to dict, optional
        Times and memory by the trial's variant, of :func:`bsaviz.study.studies.costs.measure_costs`; and ``gflops``,
        which are counted here where they are missing.
    add : bool
        Add to the files that `out` has, see :func:`bsaviz.study.studies.join.join`, instead of replacing them.

    Returns
    -------
    dict of str to xarray.Dataset
    """
    trials, shared = _trials(Path(folder)), shared_names(scale)
    found = {}
    for name in names or STUDIES:
        rows = {variant: [trials.get((shared[name, variant], seed)) for seed in seeds]
                for variant in STUDIES[name].variants}  # fmt: skip
        if not any(row is not None for each in rows.values() for row in each):
            continue
        ds = _study(name, rows, scale, seeds, costs or {}, command)
        kept = [_keep(name, variant, rows[variant], folder, out) for variant in ds["variant"].values]
        ds["checkpoint"] = "variant", kept, {"long_name": "stem of the kept weights of the first seed"}
        if add and (Path(out) / f"{name}.nc").is_file():
            ds = join(ds, open_study(Path(out) / f"{name}.nc"))
        with whole_file(Path(out) / f"{name}.nc") as temporary:
            ds.to_netcdf(temporary, engine="h5netcdf", encoding=_small(ds))
        found[name] = ds
    return found


def _trials(folder):
    """{(variant, seed): Dataset} of the finished trials; the newest of each."""
    found = {}
    for path in sorted((folder / "trials").glob("[0-9]*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as file:
            ds = file.load()
        found[json.loads(ds.attrs["chosen"])["variant"], int(ds.attrs["seed"])] = ds
    return found


def _keep(name, variant, trials, folder, out):
    """Copy the weights of a variant's first seed, in half precision; the stem of the copy, or an empty text."""
    stem = None if trials[0] is None else Path(folder) / "trials" / f"{int(trials[0].attrs['trial']):05d}"
    if name not in KEPT or stem is None or not stem.with_suffix(".safetensors").is_file():
        return ""
    copy = f"models/{name}-{re.sub('[^a-z0-9]+', '-', variant.lower())}"
    save_model(load_model(stem, device="cpu").half(), Path(out) / copy, {"study": name, "variant": variant})
    return copy


def _study(name, rows, scale, seeds, costs, command):
    study, shared, variants = STUDIES[name], shared_names(scale), list(rows)
    ds = _side_by_side(rows, seeds)
    ds = ds.assign_coords(_settings(name, variants, scale))
    points = POINTS.get(name, CAR_POINTS)
    counted = [costs.get(shared[name, variant], {}).get("gflops") for variant in variants]
    counted = [operations(settings_of(name, variant, scale), points) if count is None else count
               for variant, count in zip(variants, counted)]  # fmt: skip
    ds["gflops"] = "variant", counted, _cost_attrs("gflops")
    for key in TIMED:
        measured = [costs.get(shared[name, variant], {}).get(key, np.nan) for variant in variants]
        if not np.isnan(measured).all():
            ds[key] = "variant", measured, _cost_attrs(key)
    first = next(trial for row in rows.values() for trial in row if trial is not None)
    return ds.assign_attrs(_said(study, scale, first, command) | {"num_points": points})


def _side_by_side(rows, seeds):
    """All trials as one Dataset over variant and seed; NaN where one is missing, or has no such layer or branch.

    Filled in place: ``xarray.concat`` of as many small datasets takes minutes.
    """
    trials = {(i, j): trial for i, row in enumerate(rows.values()) for j, trial in enumerate(row) if trial is not None}
    axes = {"variant": list(rows), "seed": list(seeds)}
    for trial in trials.values():
        for dim in trial.dims:
            axes[dim] = [*dict.fromkeys([*axes.get(dim, []), *trial[dim].values.tolist()])]
    axes["layer"] = sorted(axes.get("layer", []))
    places = {dim: {label: i for i, label in enumerate(labels)} for dim, labels in axes.items()}
    arrays, described = {}, {}
    for (i, j), trial in trials.items():
        for key, value in trial.data_vars.items():
            dims = ("variant", "seed", *value.dims)
            if key not in arrays:
                arrays[key], described[key] = np.full([len(axes[dim]) for dim in dims], np.nan), (dims, value.attrs)
            where = [[places[dim][label] for label in value[dim].values.tolist()] for dim in value.dims]
            arrays[key][np.ix_([i], [j], *where)] = value.values
    found = {key: (described[key][0], array, described[key][1]) for key, array in arrays.items()}
    ds = xr.Dataset(found, coords={dim: labels for dim, labels in axes.items() if len(labels)})
    return ds.assign(parameters=ds["parameters"].median("seed").assign_attrs(ds["parameters"].attrs))


def operations(entry, num_points):
    """GFLOP of a forward of the model of an entry of `settings_of`, counted on tensors without data."""
    target, features = fields_of(entry["cars"])
    width = 2 * BEACONS["clusters"] + 2 if entry["cars"] == "beacons" else len(features)
    model = VARIANTS[entry["model"]].family.model(replace(config_of(entry), in_features=width))
    return count_gflops(model, num_points)


def _settings(name, variants, scale):
    """Coordinates along ``variant``: what each is made of."""
    columns = {key: [] for key in ("model", "attention", "cars", "published", "branches_on", *SETTINGS, *KNOBS)}
    for variant in variants:
        entry = settings_of(name, variant, scale)
        model, cars, config = entry["model"], entry["cars"], config_of(entry)
        attention = getattr(config, "attention", model)
        published = getattr(config, "published", False)
        columns["model"].append(model)
        columns["attention"].append(attention)
        columns["cars"].append(cars)
        columns["published"].append("all" if published is True else "+".join(published or ()))
        columns["branches_on"].append("+".join(config.branches) if attention == "bsa" else "")
        for key in SETTINGS:
            used = key in ("depth", "dim", "num_heads") or attention in ("bsa", "erwin-nsa")
            used = used or (key == "ball_size" and attention in ("ball", "erwin"))
            value = getattr(config, key, np.nan) if used else np.nan
            columns[key].append(float(value))
        known = knob_of(cars)
        for key in KNOBS:
            columns[key].append(known.get(key, np.inf if cars == "laplace" and key == "screening_length" else np.nan))
    return {key: ("variant", values) for key, values in columns.items()}


def _said(study, scale, trial, command):
    """What a study's file says of itself."""
    steps = max(2, round(study.steps * scale))
    own = [{**TRAINING, **variant} for variant in study.variants.values()]
    training = {key: own[0][key] for key in TRAINING if all(each[key] == own[0][key] for each in own)}
    return {
        "title": study.title,
        "question": study.question,
        "bsaviz_study_version": FORMAT_VERSION,
        "bsaviz_version": trial.attrs["bsaviz_version"],
        "training": json.dumps({**training, "steps": steps, "schedule": "warm-up over 5 %, then a cosine to zero"}),
        "device": trial.attrs["device"],
        "dtype": "bfloat16 autocast" if trial.attrs["device"] not in ("cpu",) else trial.attrs["dtype"],
        "versions": trial.attrs["versions"],
        "date": date.today().isoformat(),
        "command": command,
        "notes": json.dumps(["short trainings: errors would fall further with more steps", *study.notes]),
        "published_values": json.dumps(study.paper),
    }


def _cost_attrs(key):
    return dict(zip(("long_name", "units"), DESCRIPTIONS[key]))


def _small(ds):
    """float32 and compressed: nothing here is known to more digits."""
    floats = [key for key, value in ds.data_vars.items() if value.dtype.kind == "f"]
    return {key: {"dtype": "float32", "zlib": True, "complevel": 6} for key in floats}
