"""What the number of selected blocks buys: error against throughput of BSA and Erwin-NSA on the packaged cars.

``python -m bsaviz.study.ablate_top_k`` trains both with k = 4, 8, 16, 32 from the same seeds, several processes side by
side, then times a training step of each alone, prints a table and writes ``data/measurements/top-k.json``.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from datetime import date
from itertools import product
from pathlib import Path

import torch

from bsaviz._files import whole_file
from bsaviz.datasets.generated import TEST_INDICES, TRAIN_INDICES, generated_cars
from bsaviz.models import build
from bsaviz.study.bench_family import versions
from bsaviz.study.cost import cost
from bsaviz.training import TrainConfig, pick_device, train

MODELS = {"bsa": {}, "erwin-nsa": dict(group_size=8)}
TOP_K = (4, 8, 16, 32)
REPEATS = 15  # timed steps, of which the median is taken
NOTES = [
    "preset 'small' of both: 6 layers of 64 channels, 4 heads, balls of 128; BSA selects blocks of 8 points for groups "
    "of 8 queries, Erwin-NSA small balls of 32 points, so equal k are not equal numbers of points; Erwin-NSA's queries "
    "choose in groups of 8 too, where as published each would choose for itself",
    "relative_l2: mean over the 16 test cars of |prediction - target| / |target| of the pressure, after the last step",
    "training_ms: a step alone on the device, the tree given, Erwin-NSA's graph of neighbours built in it",
]


def trained(name, top_k, seed, steps, batch, points, device, preset):
    """Errors of one model after training."""
    torch.manual_seed(seed)
    model = build(name, preset, top_k=top_k, **MODELS[name])
    train_cars, test_cars = generated_cars(TRAIN_INDICES), generated_cars(TEST_INDICES)
    config = TrainConfig(
        steps=steps, batch_size=batch, warmup=min(50, steps - 1), seed=seed, device=device, num_points=points,
        draw="once",
    )  # fmt: skip
    result = train(model, train_cars, test_cars, config, progress=False)
    error = result.metrics["relative_l2"]
    return {
        "model": name,
        "top_k": top_k,
        "seed": seed,
        "relative_l2": float(error.mean()),
        "relative_l2_of_cars": [round(float(value), 5) for value in error],
        "last_loss": float(result.history["loss"][-10:].mean()),
    }


def side_by_side(runs, options, folder):
    """Train every (model, k, seed) in a process of its own, `options.workers` at a time; their results."""
    waiting, running, results = list(runs), [], []
    while waiting or running:
        while waiting and len(running) < options.workers:
            run = waiting.pop(0)
            path = Path(folder) / "-".join(map(str, run))
            given = {name: getattr(options, name) for name in ("steps", "batch", "points", "device", "preset")}
            settings = [f"--{name}={value}" for name, value in given.items() if value is not None]
            command = [sys.executable, "-m", "bsaviz.study.ablate_top_k", "--one", *map(str, run), *settings]
            running.append((run, path, subprocess.Popen([*command, f"--out={path}"], stdout=subprocess.DEVNULL)))
        run, path, process = running.pop(0)
        if process.wait():
            raise RuntimeError(f"training {run} failed with exit status {process.returncode}; its error is above")
        results.append(json.loads(path.read_text()))
    return results


def add_cost(row, options):
    """Throughput and operations of a row's model, alone on the device."""
    model = build(row["model"], options.preset, top_k=row["top_k"], **MODELS[row["model"]])
    points = options.points or len(generated_cars([0])[0].positions)
    costs = cost(model, points, batch=options.batch, device=options.device, repeats=REPEATS, memory=False)
    row["training_ms"], row["gflops_of_a_forward"] = float(costs.training_ms), float(costs.gflops) / options.batch
    row["steps_per_s"] = 1e3 / row["training_ms"]


def line(row):
    """A row of the table."""
    return (
        f"{row['model']:10s} k={row['top_k']:<3d} seed {row['seed']}  relative L2 {row['relative_l2']:.4f}  "
        f"{row['training_ms']:7.2f} ms a step  {row['gflops_of_a_forward']:6.2f} GFLOP a forward"
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.ablate_top_k", description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch", type=int, default=2, help="cars of a step")
    parser.add_argument("--points", type=int, help="points of a car to train on (default: all)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--top-k", type=int, nargs="+", default=list(TOP_K))
    parser.add_argument("--preset", default="small")
    parser.add_argument("--device")
    parser.add_argument("--workers", type=int, default=8, help="processes that train at a time")
    parser.add_argument("--out", default="data/measurements/top-k.json")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "K", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        name, top_k, seed = options.one[0], int(options.one[1]), int(options.one[2])
        row = trained(name, top_k, seed, options.steps, options.batch, options.points, options.device, options.preset)
        Path(options.out).write_text(json.dumps(row))
        return
    device = pick_device(options.device)
    with tempfile.TemporaryDirectory() as folder:
        rows = side_by_side(product(MODELS, options.top_k, options.seeds), options, folder)
    for row in rows:
        add_cost(row, options)
        print(line(row), flush=True)
    report = {
        "command": "python -m bsaviz.study.ablate_top_k",
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu",
        "versions": versions(),
        "settings": {name: getattr(options, name) for name in ("steps", "batch", "points", "seeds", "preset")},
        "notes": NOTES,
        "rows": rows,
    }
    with whole_file(Path(options.out)) as partial:
        Path(partial).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
