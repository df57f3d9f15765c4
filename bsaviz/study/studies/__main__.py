"""Command line of the studies: train, time, write."""

import argparse
import json
import os
import sys
from pathlib import Path

from bsaviz._checks import BsavizError
from bsaviz.datasets import training_cars
from bsaviz.study.studies.collect import collect
from bsaviz.study.studies.costs import measure_costs
from bsaviz.study.studies.plans import SEEDS, STUDIES, sweep_plan
from bsaviz.study.sweep import Sweep

STAGES = ("train", "costs", "write")
WITHOUT_COSTS = ("physics", "beacons")  # the models of the other studies, on other targets


def main(arguments=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.studies", description=main.__doc__)
    parser.add_argument("names", nargs="*", default=list(STUDIES), help=f"studies (default: {' '.join(STUDIES)})")
    parser.add_argument("--folder", default="outputs/studies", help="of the sweep; several commands may share it")
    parser.add_argument("--out", default="data/measurements/studies", help="where the netCDF files go")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--workers", type=int, default=1, help="processes that train side by side on the device")
    parser.add_argument("--device", help="cpu, cuda, ... (default: a GPU where there is one)")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--scale", type=float, default=1.0, help="factor of all steps")
    parser.add_argument("--seconds", type=float, help="begin no training after so long; the next call goes on")
    parser.add_argument("--share", default="1/1", help="I/N: time the I-th of N parts of the models")
    parser.add_argument("--prepared", action="store_true", help="the cars are in the cache: do not look for them first")
    parser.add_argument("--quick", action="store_true", help="tiny models and few steps: numbers that mean nothing")
    parser.add_argument("--add", action="store_true", help="add to the files that --out has, do not replace them")
    parser.add_argument("--keep", action="store_true", help="keep the weights of every training")
    options = parser.parse_args(arguments)
    try:
        return _run(options)
    except BsavizError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options):
    plan = sweep_plan(options.names, scale=options.scale, seeds=options.seeds, quick=options.quick, keep=options.keep)
    folder = Path(options.folder)
    if "train" in options.stages:
        for cars in dict.fromkeys(entry["cars"] for entry in plan.variants.values()):
            if not options.prepared:
                training_cars(cars, workers=os.cpu_count() or 1)  # made once, before the workers ask for them
        sweep = Sweep(plan, folder)
        sweep.run(options.workers, device=options.device, seconds=options.seconds)
        for number, error in sweep.failures().items():
            print(f"trial {number} failed: {error}", flush=True)
    if "costs" in options.stages:
        _time(plan, options, folder)
    if "write" in options.stages:
        costs = {}
        for path in sorted(folder.glob("costs-*.json")):
            for name, row in json.loads(path.read_text()).items():
                costs.setdefault(name, {}).update(row)
        written = collect(folder, options.out, names=options.names, scale=options.scale, seeds=options.seeds,
                          command=_command(options), costs=costs, add=options.add)  # fmt: skip
        for name, ds in written.items():
            print(f"{name}: {_table(ds)}\nwritten to {Path(options.out) / name}.nc", flush=True)
    return 0


def _time(plan, options, folder):
    """Time this command's share of the models, and keep each as it comes."""
    own, parts = (int(number) for number in options.share.split("/"))
    timed = sweep_plan([name for name in options.names if name not in WITHOUT_COSTS] or options.names,
                       scale=options.scale, quick=options.quick).variants  # fmt: skip
    names, rows = list(timed)[own - 1 :: parts], {}
    path = folder / f"costs-{own}-{parts}.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def done(name, row):
        print(f"{name}: {row}", flush=True)
        if isinstance(row, dict):
            rows[name] = row
            path.write_text(json.dumps(rows))

    measure_costs(plan, names, device=options.device, done=done)


def _command(options):
    said = [f"--scale {options.scale:g}"] if options.scale != 1 else []
    said += ["--quick"] if options.quick else []
    said += [f"--device {options.device}"] if options.device else []
    return " ".join(["python -m bsaviz.study.studies", *options.names, *said, f"--workers {options.workers}"])


def _table(ds):
    """Medians over the seeds, a line a variant."""
    lines = [ds.attrs["title"]]
    for variant in ds["variant"].values:
        errors = ds["relative_l2"].sel(variant=variant).dropna("seed")
        told = "no training" if not errors.size else (
            f"{float(errors.median()):.4f} ({float(errors.min()):.4f} to {float(errors.max()):.4f})"
        )  # fmt: skip
        lines.append(f"  {variant:32s} relative L2 {told}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
