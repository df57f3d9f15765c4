"""Training speed and memory of the whole family, at the sizes of the public data sets, in one run.

``python -m bsaviz.study.bench_family`` prints a table and writes ``data/measurements/family.json``, row by row. Points
are random, of each set's number, dimension and features: what a step costs does not depend on where they lie. A step
is forward, backward and optimiser; trees and edges are given to it, and timed on their own. Kernels are compiled first,
by several processes side by side. What answers the papers' questions is measured first, so that a time limit leaves out
what matters least, and says so.
"""

import argparse
import gc
import json
import math
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
from bsaviz.study.family import SLOW, TASKS, TRANSFORMERS, Work, measure, models_of, operations
from bsaviz.training import pick_device

BACKENDS = ("auto", "torch")
STAGES = ("measure", "count")
COMMAND = "python -m bsaviz.study.bench_family"
PAPER = {  # arXiv 2508.10758: Erwin-NSA against Erwin
    "md": {"speed": 2.5},
    "cosmology": {"speed": 9.1},
    "memory_gb": {"erwin": 1.01, "erwin-nsa": 2.63},
}
NOTES = [
    "steps under bfloat16 autocast, trees and edges given; peak_mib holds weights, optimiser state and inputs too",
    "step_ms: a step as Python runs it; captured_ms: the same step as one CUDA graph, which is what the GPU needs. "
    "Small models at small sizes are bound by Python's launches, the first number, whatever their arithmetic. Steps of "
    f"{SLOW} ms and more are not captured, nor those of plain PyTorch that choose blocks",
    "Transformers (full, ball, bsa*, nsa) have their published 18 layers of 64 channels; Erwin and Erwin-NSA the "
    "settings of their training scripts for each task (for elasticity, those for ShapeNet)",
    "backend 'torch' is the same arithmetic in plain PyTorch, tile by tile; 'auto' is the Triton kernels",
    "erwin_nsa_against_erwin compares both with kernels, or both plain; its gflops, pairs (a weight of one query for "
    "one key, an exponential each) and launches are times Erwin's. The paper compares a kernel for NSA with plain "
    "Erwin: 'speed_over_plain_erwin'",
    "in 'erwin-nsa', as published, every query chooses its own blocks; in 'groups of 8' eight queries choose together, "
    "as in Ball Sparse Attention, and the kernels then work on tiles of queries that read the same keys",
]


def jobs(tasks, names=None):
    """What to measure, what matters most first: (task, batch, model, backend).

    Full attention has no kernels of ours. With one sample only Erwin and Erwin-NSA run, for the comparison with the
    paper; the recomputed variant only with kernels.
    """
    found = []
    for task in tasks:
        for batch in TASKS[task].batches:
            for name in models_of(TASKS[task]):
                for backend in BACKENDS:
                    alone = batch == 1 and name in TRANSFORMERS
                    twice = backend == "torch" and (name == "full" or "recomputed" in name)
                    if not alone and not twice and (names is None or name in names):
                        found.append((task, batch, name, backend))
    return sorted(found, key=_importance)


def _importance(job):
    task, batch, name, backend = job
    of_the_papers = name in ("erwin", "erwin-nsa", "erwin-nsa, groups of 8")
    many = batch == TASKS[task].batches[-1]
    if task == "cosmology" and many and backend == "torch":  # seconds a step
        return 2 if of_the_papers else 5
    if of_the_papers and many:
        return 0 if backend == "auto" else 1
    if backend == "auto":
        return 3 if many or of_the_papers else 4
    return 4


def compile_kernels(device, found, workers):
    """Run every model with kernels for a step in processes of their own: the timed process then finds them made."""
    wanted = dict.fromkeys((task, name) for task, _, name, backend in found if backend == "auto")
    running, alone = [], {**os.environ, "OMP_NUM_THREADS": "1"}
    for task, name in wanted:
        if name == "full" or "recomputed" in name:  # nothing of ours, or nothing of its own
            continue
        while len([p for p in running if p.poll() is None]) >= workers:
            time.sleep(0.1)
        command = [sys.executable, *COMMAND.split()[1:], "--compile", task, name, "--device", str(device)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, env=alone))
    for process in running:
        process.wait()


def run(device, job, seconds):
    """One row; a model that does not fit says so."""
    task, batch, name, backend = job
    row = {"task": task, "points": TASKS[task].points}
    launches = device.type == "cuda" and _importance(job) <= 1
    try:
        return row | measure(name, TASKS[task], batch, backend, device, seconds, counted=launches)
    except torch.OutOfMemoryError:
        return row | {"model": name, "backend": backend, "batch": batch, "failed": "out of memory"}
    finally:
        if device.type == "cuda":
            gc.collect()  # a captured step and its memory are a cycle
            torch.cuda.empty_cache()


def line(row):
    """A row of the table."""
    start = f"{row['task']:10s} {row['model']:24s} {row['backend']:5s} {row['batch']:3d}"
    if "failed" in row:
        return f"{start}  {row['failed']}"
    memory = f"{row['peak_mib']:9.0f} MiB" if "peak_mib" in row else ""
    graph = f" graph {row['captured_ms']:8.2f} ms" if "captured_ms" in row else ""
    return f"{start} {row['step_ms']:9.2f} ms {row['steps_per_s']:8.1f} steps/s{graph} {memory}"


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
        if "captured_ms" in row and "captured_ms" in erwin:
            ratio["speed_captured"] = erwin["captured_ms"] / row["captured_ms"]
        for what in ("gflops_of_a_forward", "pairs_of_a_forward", "launches"):
            if what in row and what in erwin:
                ratio[what] = row[what] / erwin[what]
        if "peak_mib" in row:
            ratio["memory"] = row["peak_mib"] / erwin["peak_mib"]
        plain = found.get((task, "erwin", "torch", batch))
        if backend == "auto" and plain is not None:
            ratio["speed_over_plain_erwin"] = plain["step_ms"] / row["step_ms"]
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
    started = time.monotonic()
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--models", nargs="+", help="rows of the table (default: all), e.g. bsa erwin 'erwin-nsa'")
    parser.add_argument("--seconds", type=float, default=0.2, help="time for each row's steps")
    parser.add_argument("--limit", type=float, default=math.inf, help="seconds after which no further row is begun")
    parser.add_argument("--device")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that compile kernels")
    parser.add_argument("--out", default="data/measurements/family.json")
    parser.add_argument("--add", action="store_true", help="go on where --out ended: keep its rows, measure the others")
    stages = "'count' fills in operations, on the CPU, and can be done elsewhere"
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=list(STAGES), help=stages)
    parser.add_argument("--compile", nargs=2, metavar=("TASK", "MODEL"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    device = pick_device(options.device)
    if options.compile:
        task, model = options.compile
        for batch in TASKS[task].batches:  # whether a number is a multiple of 16 is compiled in, too
            Work(models_of(TASKS[task])[model], TASKS[task], batch, "auto", device).step()
        return
    if "measure" in options.stages:
        _measure(device, options, started)
    if "count" in options.stages:
        count(Path(options.out))


def _measure(device, options, started):
    """All rows of a device, the file written after each."""
    rows, notes = _kept(device, Path(options.out)) if options.add else ([], ())
    done, left_out = set(map(_job, rows)), []
    wanted = [job for job in jobs(options.tasks, options.models) if job not in done]
    if device.type == "cuda":
        compile_kernels(device, wanted, options.workers)
    for job in wanted:
        if time.monotonic() - started > options.limit:
            left_out.append(dict(zip(("task", "batch", "model", "backend"), job)))
            continue
        rows.append(run(device, job, options.seconds))
        print(line(rows[-1]), flush=True)
        write(rows, device, options.out, notes=notes)
    if left_out:
        print(f"{len(left_out)} rows left out by the time limit", flush=True)
    write(rows, device, options.out, left_out, notes)


def _kept(device, path):
    """The rows that a file has, and what was noted of them; another device's could not be compared with ours."""
    if not path.is_file():
        return [], ()
    report = json.loads(path.read_text())
    if report["device"] != name_of(device):
        raise SystemExit(f"{path} was measured on {report['device']}, this is {name_of(device)}: choose another --out")
    return report["rows"], [note for note in report["notes"] if note not in NOTES]


def _job(row):
    return row["task"], row["batch"], row["model"], row["backend"]


def count(path):
    """Fill the operations of a forward into a file's rows: seconds a model, on tensors without data."""
    report = json.loads(path.read_text())
    for task, name in dict.fromkeys((row["task"], row["model"]) for row in report["rows"]):
        counted = operations(TASKS[task], [name])[name]
        for row in report["rows"]:
            if (row["task"], row["model"]) == (task, name):
                row |= counted
    report["erwin_nsa_against_erwin"] = against_erwin(report["rows"])
    _store(report, path)


def name_of(device):
    """What the device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "cpu"


def write(rows, device, path, left_out=(), notes=()):
    """Keep what has been measured so far, and what follows from it. notes: those of rows of an earlier run."""
    report = {
        "command": COMMAND,
        "date": date.today().isoformat(),
        "device": name_of(device),
        "versions": versions(),
        "notes": [*notes, *NOTES],
        "erwin_nsa_against_erwin": against_erwin(rows),
        "paper": PAPER,
        "left_out_by_the_time_limit": list(left_out),
        "rows": rows,
    }
    _store(report, Path(path))


def _store(report, path):
    with whole_file(path) as partial:
        Path(partial).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
