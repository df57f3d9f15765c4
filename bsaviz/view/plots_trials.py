"""A study or a sweep as one table: a row a training, what was tried, what was measured, where the weights are."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bsaviz._checks import BsavizError

ERRORS = ("relative_l2", "mse", "mae_area", "mse_x100")
COSTS = ("gflops", "forward_ms", "training_ms", "forward_mib", "training_mib", "parameters")
NAMES = {
    "relative_l2": "relative L2 error",
    "mse": "mean squared error",
    "mae_area": "mean absolute error",
    "mse_x100": "100 × MSE, normalised",
    "gflops": "operations of a forward",
    "forward_ms": "time of a forward",
    "training_ms": "time of a training step",
    "forward_mib": "peak memory of a forward",
    "training_mib": "peak memory of a training step",
    "parameters": "parameters",
}
UNITS = {"gflops": "GFLOP", "forward_ms": "ms", "training_ms": "ms", "forward_mib": "MiB", "training_mib": "MiB"}
NO_UNIT = ("", "1", "dimensionless")
_VARIANT, _SEED, _TRIAL, _CHECKPOINT = "variant", "seed", "trial", "checkpoint"
_NO_PARAMETERS = {_SEED, _TRIAL, _CHECKPOINT, "num_points", "batch", "number"}
HOW_TO_KEEP = (
    "A sweep keeps the weights of its trials with keep_models: true in its plan (the default); run these settings so, "
    "and give the sweep's folder here"
)


@dataclass(frozen=True)
class Quantity:
    """Something that was measured of every trial.

    Attributes
    ----------
    name : str
        Its variable.
    words : str
        What it is.
    unit : str
        Empty for a pure number.
    """

    name: str
    words: str
    unit: str

    @property
    def label(self):
        """For an axis: words and unit."""
        return f"{self.words} ({self.unit})" if self.unit else self.words

    def text(self, value):
        """A value with its unit."""
        number = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
        return f"{number} {self.unit}".rstrip()


@dataclass(frozen=True)
class Trials:
    """All trainings of a study.

    Attributes
    ----------
    table : pandas.DataFrame
        A row a training: the parameters, ``seed``, what was measured, and ``setting``, the number of its settings.
    labels : dict of int to str
        Words for each of the settings.
    parameters : tuple of str
        Columns that say what was tried, those of more than one value.
    quantities : dict of str to Quantity
        What was measured, by column.
    attrs : dict
        What the study says of itself.
    """

    table: pd.DataFrame
    labels: dict
    parameters: tuple
    quantities: dict
    attrs: dict = field(default_factory=dict)
    dataset: xr.Dataset | None = None
    folder: Path | None = None

    @property
    def errors(self):
        """Names of the measured errors."""
        return [name for name in ERRORS if name in self.quantities]

    @property
    def costs(self):
        """Names of the measured costs."""
        return [name for name in COSTS if name in self.quantities]

    @cached_property
    def seeds(self):
        """Sorted seeds."""
        return sorted({int(seed) for seed in self.table[_SEED]})

    @property
    def steps(self):
        """Optimiser steps of a training, where all have as many and the study says so; else None."""
        training = self.attrs.get("training")
        told = json.loads(training) if isinstance(training, str) else self.attrs
        steps = told.get("steps")
        return int(steps) if isinstance(steps, (int, np.integer)) else None

    def values(self, parameter):
        """Values of a parameter, sorted (variants as stored); where it does not apply (NaN or empty) it has none."""
        found = [v for v in self.table[parameter].unique() if applies(v)]
        return found if parameter == _VARIANT else sorted(found)

    def summary(self, *names, where=None, complete=True):
        """Medians over the seeds of each setting, with the lowest and the highest value.

        Parameters
        ----------
        names : str
            Of quantities.
        where : dict, optional
            Parameters and the value that they must have.
        complete : bool
            Leave out settings of which one of the quantities was not measured; False: only those of which none was.

        Returns
        -------
        pandas.DataFrame
            Index ``setting``; columns the parameters and, of each quantity, ``name``, ``name_low`` and ``name_high``.
        """
        rows = self.table
        for parameter, value in (where or {}).items():
            rows = rows[rows[parameter] == value]
        grouped = rows.groupby("setting", sort=True)
        columns = [*self.series, *(["model"] if "model" in self.table and "model" not in self.series else [])]
        found = grouped[columns].first() if columns else pd.DataFrame(index=grouped.size().index)
        found["label"] = [self.labels[i] for i in found.index]
        found["trainings"] = grouped[_SEED].count()
        for name in names:
            values = grouped[name]
            found[name], found[f"{name}_low"], found[f"{name}_high"] = values.median(), values.min(), values.max()
        return found.dropna(subset=list(names), how="any" if complete else "all")

    @property
    def series(self):
        """What colours may tell apart: the variants of a stored study, and the parameters."""
        return ((_VARIANT,) if _VARIANT in self.table else ()) + self.parameters

    def trial(self, setting, seed=None, by="relative_l2"):
        """The row of one training: that of a seed, or the median one by its error of those whose weights are kept."""
        rows = self.table[self.table["setting"] == setting].dropna(subset=[by]).sort_values(by)
        if seed is not None:
            rows = rows[rows[_SEED] == seed]
        elif len(kept := rows[[self.has_model(row) for _, row in rows.iterrows()]]):
            rows = kept
        if not len(rows):
            raise BsavizError(f"{self.labels[setting]} was not trained with seed {seed}")
        return rows.iloc[(len(rows) - 1) // 2]

    def has_model(self, row):
        """Whether the weights of a training were kept."""
        try:
            return self._stem(row) is not None
        except BsavizError:
            return False

    def model(self, row):
        """The model of a training, on the CPU.

        Raises
        ------
        BsavizError
            Where no weights were kept; says how to keep them.
        """
        from bsaviz.training import load_model

        stem = self._stem(row)
        if stem is None:
            raise BsavizError(f"no weights are kept of {self.labels[row['setting']]}, seed {row[_SEED]}. {HOW_TO_KEEP}")
        if isinstance(stem, str):
            from bsaviz.study.studies import open_model

            return open_model(self.dataset, stem).float()  # kept in half precision
        return load_model(stem, device="cpu")

    def _stem(self, row):
        """What a model is opened by: the variant of a stored study, a sweep's checkpoint; None without."""
        if row.get(_CHECKPOINT):
            return str(row[_VARIANT])
        if self.folder is None or pd.isna(row.get(_TRIAL)):
            return None
        stem = self.folder / "trials" / f"{int(row[_TRIAL]):05d}"
        return stem if stem.with_suffix(".safetensors").is_file() else None


def trials_of(study):
    """The `Trials` of anything that holds some.

    Parameters
    ----------
    study : Trials, Sweep, xarray.Dataset, str or Path
        A sweep, its folder, a stored study by its name or as a netCDF file, or a Dataset of either.

    Raises
    ------
    BsavizError
        For anything else, and for a dataset without an error and a cost of its trials.
    """
    if isinstance(study, Trials):
        return study
    folder = None
    if hasattr(study, "open") and hasattr(study, "folder"):
        study, folder = study.open(), Path(study.folder)
    elif isinstance(study, (str, Path)):
        path = Path(study)
        if path.is_dir():
            from bsaviz.study import open_sweep

            study, folder = open_sweep(path), path
        else:
            from bsaviz.study.studies import open_study

            study = open_study(study)
    if not isinstance(study, xr.Dataset):
        raise BsavizError(
            "expected a study: a Sweep, its folder, the name of a stored study, a netCDF file of one, or a Dataset; "
            f"got {type(study).__name__}"
        )
    return _of_dataset(study, folder)


def study_table(study, quantities=None):
    """Numbers of a study as a table of text: a row a setting, medians over the seeds with the lowest and the highest.

    Parameters
    ----------
    study
        As in `trials_of`.
    quantities : sequence of str, optional
        Default: all that were measured.

    Returns
    -------
    pandas.DataFrame
    """
    trials = trials_of(study)
    names = list(quantities or trials.quantities)
    columns = {}
    for name in names:
        q, rows = trials.quantities[name], trials.summary(name)
        columns[q.label] = pd.Series({
            row["label"]: _with_spread(row[name], row[f"{name}_low"], row[f"{name}_high"]) for _, row in rows.iterrows()
        })  # fmt: skip
    measured = pd.DataFrame(columns)
    rows = [label for label in trials.labels.values() if label in measured.index]
    return measured.reindex(rows).fillna("not measured")


def ratios(study, reference, quantity="relative_l2"):
    """A quantity of every setting as a multiple of a reference's, seed by seed: median, lowest and highest.

    Parameters
    ----------
    study
        As in `trials_of`.
    reference : str
        Label of a setting.
    quantity : str

    Returns
    -------
    pandas.DataFrame
        Columns ``median``, ``lowest``, ``highest``; index the labels.
    """
    trials = trials_of(study)
    if reference not in trials.labels.values():
        raise BsavizError(f"no setting is called {reference!r}; there are {', '.join(trials.labels.values())}")
    table = trials.table.assign(label=trials.table["setting"].map(trials.labels))
    values = table.pivot_table(index="label", columns=_SEED, values=quantity, sort=False)
    found = values.div(values.loc[reference])
    return pd.DataFrame({"median": found.median(axis=1), "lowest": found.min(axis=1), "highest": found.max(axis=1)})


def applies(value):
    """Whether a value of a parameter says something: not NaN, not empty."""
    return not (value == "" or value is None or (isinstance(value, float) and np.isnan(value)))


def name_of(parameter):
    """A parameter in words."""
    return parameter.replace("_", " ")


def value_text(value):
    """A parameter's value in words."""
    return f"{value:g}" if isinstance(value, (int, float, np.number)) else str(value)


def _of_dataset(ds, folder):
    measured = [name for name in (*ERRORS, *COSTS) if name in ds.data_vars]
    errors = [name for name in measured if name in ERRORS]
    if not errors or not set(measured) - set(errors):
        raise BsavizError(
            f"a study holds an error ({', '.join(ERRORS)}) and a cost ({', '.join(COSTS)}) of its trials; this dataset "
            f"holds {', '.join(map(str, ds.data_vars)) or 'nothing'}"
        )
    dims = ds[errors[0]].dims
    if not dims:
        raise BsavizError("this dataset is of one training; a study holds several, along the dims of its parameters")
    kept = measured + [name for name in (_TRIAL, _CHECKPOINT) if name in ds.data_vars]
    elsewhere = [name for name in ds.coords if not set(ds[name].dims) <= set(dims)]
    flat = ds[kept].drop_vars(elsewhere, errors="ignore")
    table = flat.to_dataframe().reset_index()
    table = table.loc[:, ~table.columns.duplicated()].dropna(subset=errors, how="all").reset_index(drop=True)
    if not len(table):
        raise BsavizError("this study has no finished trial yet")
    if _SEED not in table:
        table[_SEED] = int(ds.attrs.get("seed", 0))
    columns = [name for name in table.columns if name not in {*kept, *_NO_PARAMETERS}]
    keys = [_VARIANT] if _VARIANT in columns else columns
    table["setting"] = table.groupby(keys, dropna=False, sort=False).ngroup() if keys else 0
    varied = tuple(name for name in columns if name != _VARIANT and table[name].nunique(dropna=False) > 1)
    if _VARIANT in columns:
        varied = _independent(table, varied)
        if _CHECKPOINT in table:  # the weights kept are those of the first seed
            table[_CHECKPOINT] = table[_CHECKPOINT].where(table[_SEED] == table[_SEED].min(), "")
    firsts = table.groupby("setting").first()
    labels = {i: _label(row, varied) for i, row in firsts.iterrows()}
    quantities = {name: Quantity(name, NAMES[name], _unit(ds[name], name)) for name in measured}
    return Trials(table, labels, varied, quantities, dict(ds.attrs), ds, folder)


def _independent(table, varied):
    """Parameters of a stored study without those that follow from its model, or that go with an earlier one."""
    plain = table[list(varied)].map(lambda v: v if applies(v) else "-")
    follows = lambda one, other: plain.groupby(other)[one].nunique().max() == 1
    kept = []
    for name in varied:
        of_model = "model" in kept and follows(name, "model")
        if not of_model and not any(follows(name, k) and follows(k, name) for k in kept):
            kept.append(name)
    return tuple(kept)


def _with_spread(middle, low, high):
    number = lambda v: f"{v:,.0f}" if abs(v) >= 1000 else f"{v:.4g}"
    return number(middle) if low == high else f"{number(middle)} ({number(low)} to {number(high)})"


def _label(row, varied):
    if _VARIANT in row:
        return str(row[_VARIANT])
    told = [f"{name_of(name)} {value_text(row[name])}" for name in varied if applies(row[name])]
    return ", ".join(told).removeprefix("model ") or "the only setting"


def _unit(variable, name):
    unit = str(variable.attrs.get("units", UNITS.get(name, "")))
    return "" if unit in NO_UNIT else unit.replace("^2", "²")
