"""What the number of selected blocks buys: error against operations and throughput of BSA and Erwin-NSA on cars.

``python -m bsaviz.study.studies sensitivity`` trains both with k = 4, 8, 16, 32, among other settings, and times their
steps; ``python -m bsaviz.study.ablate_top_k`` draws these from the stored study and writes
``data/measurements/top-k.json``.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file
from bsaviz.study.studies import open_study

TOP_K = (4, 8, 16, 32)
VARIANTS = {("bsa", k): "BSA" if k == 4 else f"top-k {k}" for k in TOP_K}
VARIANTS |= {("erwin-nsa", k): f"Erwin-NSA, top-k {k}" for k in TOP_K}
NOTES = [
    "BSA selects blocks of 8 points for groups of 8 queries, Erwin-NSA small balls of 32 points for groups of 8 too: "
    "equal k are not equal numbers of points",
    "relative_l2: mean over the test cars of |prediction - target| / |target| of the pressure, after a short training",
    "training_ms: a step of one car alone on the device, as a CUDA graph; only where the study timed the variant",
]


def top_k_rows(study):
    """One row for every model, k and seed that is stored.

    Parameters
    ----------
    study : xarray.Dataset
        ``sensitivity``, of :func:`bsaviz.study.studies.open_study`.

    Returns
    -------
    list of dict

    Raises
    ------
    BsavizError
        When the study holds none of these trainings.
    """
    rows = []
    for (model, k), name in VARIANTS.items():
        if name not in study["variant"].values:
            continue
        of_variant = study.sel(variant=name)
        cost = {key: float(of_variant[key]) for key in ("training_ms", "gflops", "training_mib") if key in of_variant}
        for seed in study["seed"].values:
            error = float(of_variant["relative_l2"].sel(seed=seed))
            if np.isfinite(error):
                row = {"model": model, "top_k": k, "seed": int(seed), "relative_l2": error}
                rows.append(row | {key: value for key, value in cost.items() if np.isfinite(value)})
    if not rows:
        raise BsavizError(
            "the study holds no trainings with different top_k; make them with python -m bsaviz.study.studies "
            "sensitivity"
        )
    for row in rows:
        if "training_ms" in row:
            row["steps_per_s"] = 1e3 / row["training_ms"]
    return rows


def line(row):
    """A row of the table."""
    time = f"{row['training_ms']:7.2f} ms a step" if "training_ms" in row else ""
    return f"{row['model']:10s} k={row['top_k']:<3d} seed {row['seed']}  relative L2 {row['relative_l2']:.4f}  {time}"


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.ablate_top_k", description=__doc__.split("\n")[0])
    parser.add_argument("--study", default="sensitivity", help="a stored study, or the path of one")
    parser.add_argument("--out", default="data/measurements/top-k.json")
    options = parser.parse_args(arguments)
    study = open_study(options.study)
    rows = top_k_rows(study)
    print(*map(line, rows), sep="\n")
    told = {key: study.attrs[key] for key in ("date", "device", "versions", "training") if key in study.attrs}
    told |= {key: json.loads(told[key]) for key in ("versions", "training") if key in told}
    notes = [*json.loads(study.attrs.get("notes", "[]")), *NOTES]
    report = {"command": "python -m bsaviz.study.ablate_top_k", **told, "notes": notes, "rows": rows}
    with whole_file(Path(options.out)) as partial:
        Path(partial).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
