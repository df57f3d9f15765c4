"""Training speed and memory of the whole family, at the sizes of the public data sets, in one run.

``python -m bsaviz.study.bench_family`` prints a table and writes ``data/measurements/family.json``. Points are random,
of each set's number, dimension and features: what a step costs does not depend on where they lie. A step is forward,
backward and optimiser; trees and edges are given to it, and timed on their own. Kernels are compiled first, by several
processes side by side.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import date
from importlib.util import find_spec
from pathlib import Path

import torch

from bsaviz import __version__
from bsaviz._files import whole_file
from bsaviz.study.family import TASKS, TRANSFORMERS, measure, models_of, operations
from bsaviz.training import pick_device

BACKENDS = ("auto", "torch")
COMMAND = "python -m bsaviz.study.bench_family"
PAPER = {  # arXiv 2508.10758: Erwin-NSA against Erwin
    "md": {"speed": 2.5},
    "cosmology": {"speed": 9.1},
    "memory_gb": {"erwin": 1.01, "erwin-nsa": 2.63},
}
NOTES = [
    "steps under bfloat16 autocast, trees and edges given; peak_mib holds weights, optimiser state and inputs too",
    "Transformers (full, ball, bsa*, nsa) have their published 18 layers of 64 channels; Erwin and Erwin-NSA the "
    "settings of their training scripts for each task (for elasticity, those for ShapeNet)",
    "backend 'torch' is the same arithmetic in plain PyTorch, tile by tile; 'auto' is the Triton kernels",
    "the paper compares a kernel for NSA with plain Erwin; erwin_nsa_against_erwin compares both with kernels, or both "
    "plain: 'operations' says what the arithmetic alone would give",
    "in 'erwin-nsa', as published, every query chooses its own blocks; in 'groups of 8' eight queries choose together, "
    "as in Ball Sparse Attention, and the kernels then work on tiles of queries that read the same keys",
]


def contestants(task, names=None, batch=None):
    """Pairs (model, backend) of a task's rows: full attention has no kernels of ours.

    With a single sample only Erwin and Erwin-NSA run, for the comparison with the paper.
    """
    rows = [name for name in models_of(task) if names is None or name in names]
    if batch == 1:
        rows = [name for name in rows if name not in TRANSFORMERS]
    return [(name, backend) for name in rows for backend in BACKENDS if name != "full" or backend == "auto"]


def compile_kernels(device, tasks, names, workers):
    """Run every model with kernels for a few steps in processes of their own: the timed process then finds them made.

    Recomputed layers use the kernels of kept ones, and a Transformer those of any task of the same dimension.
    """
    jobs, seen = [], set()
    for task in tasks:
        for name, backend in contestants(TASKS[task], names):
            kernels = (name, TASKS[task].schema["spatial_dims"] if name in TRANSFORMERS else task)
            if backend == "auto" and name != "full" and "recomputed" not in name and kernels not in seen:
                seen.add(kernels)
                jobs.append((task, name))
    running = []
    for task, name in jobs:
        while len([p for p in running if p.poll() is None]) >= workers:
            time.sleep(0.1)
        command = [sys.executable, *COMMAND.split()[1:], "--compile", task, name, "--device", str(device)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    for process in running:
        process.wait()


def run(device, name, models, seconds):
    """Rows of one task; a model that does not fit says so."""
    task = TASKS[name]
    counted = operations(task, [model for model in models_of(task) if models is None or model in models])
    rows = []
    for batch in task.batches:
        for model, backend in contestants(task, models, batch):
            row = {"task": name, "points": task.points, "gflops_of_a_forward": counted[model]}
            try:
                row |= measure(model, task, batch, backend, device, seconds)
            except torch.OutOfMemoryError:
                row |= {"model": model, "backend": backend, "batch": batch, "failed": "out of memory"}
            rows.append(row)
            print(line(row), flush=True)
    return rows


def line(row):
    """A row of the table."""
    start = f"{row['task']:10s} {row['model']:24s} {row['backend']:5s} {row['batch']:3d}"
    if "failed" in row:
        return f"{start}  {row['failed']}"
    memory = f"{row['peak_mib']:9.0f} MiB" if "peak_mib" in row else ""
    return f"{start} {row['step_ms']:9.2f} ms {row['steps_per_s']:8.1f} steps/s {memory}"


def against_erwin(rows):
    """Erwin-NSA over Erwin, both with the same backend and batch: how many times as fast, and memory over memory."""
    found = {(r["task"], r["model"], r["backend"], r["batch"]): r for r in rows if "failed" not in r}
    ratios = []
    for (task, model, backend, batch), row in found.items():
        erwin = found.get((task, "erwin", backend, batch))
        if erwin is None or not (model.startswith("erwin-nsa") or model == "erwin, medium"):
            continue
        ratio = {"task": task, "model": model, "backend": backend, "batch": batch}
        ratio["speed"] = erwin["step_ms"] / row["step_ms"]
        ratio["operations"] = row["gflops_of_a_forward"] / erwin["gflops_of_a_forward"]
        if "peak_mib" in row:
            ratio["memory"] = row["peak_mib"] / erwin["peak_mib"]
        ratios.append(ratio)
    return ratios


def versions():
    """Of what was run."""
    found = {"python": platform.python_version(), "torch": str(torch.__version__), "bsaviz": __version__}
    if find_spec("triton"):
        import triton

        found["triton"] = triton.__version__
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", help="rows of the table (default: all), e.g. bsa erwin 'erwin-nsa'")
    parser.add_argument("--seconds", type=float, default=0.3, help="time for each row's steps")
    parser.add_argument("--device")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that compile kernels")
    parser.add_argument("--out", default="data/measurements/family.json")
    parser.add_argument("--compile", nargs=2, metavar=("TASK", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if options.compile:
        task, model = options.compile
        measure(model, TASKS[task], 1, "auto", device, 0)
        return
    if device.type == "cuda":
        compile_kernels(device, options.tasks, options.models, options.workers)
    rows = others(options.out, options.tasks, device)
    for task in options.tasks:
        rows += run(device, task, options.models, options.seconds)
        write(rows, device, options.out)


def others(path, tasks, device):
    """Rows of the tasks that are not run now, where the file has them from such a device and such versions."""
    path = Path(path)
    if not path.is_file():
        return []
    before = json.loads(path.read_text())
    same = before["versions"] == versions() and before["device"] == name_of(device)
    return [row for row in before["rows"] if same and row["task"] not in tasks]


def name_of(device):
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"


def write(rows, device, path):
    """Keep what has been measured so far, and what follows from it."""
    report = {
        "command": COMMAND,
        "date": date.today().isoformat(),
        "device": name_of(device),
        "versions": versions(),
        "notes": NOTES,
        "erwin_nsa_against_erwin": against_erwin(rows),
        "paper": PAPER,
        "rows": rows,
    }
    with whole_file(Path(path)) as partial:
        Path(partial).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
