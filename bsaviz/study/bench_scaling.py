"""Runtime and peak memory against the number of points, of all variants, with kernels and in plain PyTorch.

``python -m bsaviz.study.bench_scaling`` writes ``data/measurements/scaling.nc`` and prints a table: forward and
training step of the whole model of the published size (batch 1, bfloat16 autocast, trees and graphs given, AdamW in the
step), and of its first attention layer alone, which goes on where the whole model takes too long. Points lie at random
on a sphere. A size that does not fit says so; one that would take longer than ``--longest`` is not run. The most
important series come first, and the file is written after each: ``--seconds`` ends the run in order.
"""

import argparse
import itertools
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from bsaviz import __version__
from bsaviz.study.roofline import ceilings
from bsaviz.study.scaling import BACKENDS, SCOPES, VARIANTS, Line, Series, run_series
from bsaviz.study.scaling_dataset import crossover, finished, join, to_dataset, write
from bsaviz.training import pick_device

COMMAND = "python -m bsaviz.study.bench_scaling"
SIZES = (256, 1024, 4096, 16384, 32768, 65536, 131072, 262144, 1048576)
COMPILED = (1024, 16384, 65536)
MOST_IN_GRAPH = 65536  # points; a graph saves launches, which no longer count beyond
IN_GRAPH = ("full", "bsa", "bsa-group-compression", "ball")
CORE = ("full", "bsa", "bsa-group-compression")


def planned(variants, backends, scopes, preset):
    """The series, the most important ones first."""
    rows = []
    for variant, backend, scope in itertools.product(variants, backends, scopes):
        if (backend == "graph" and variant not in IN_GRAPH) or (variant == "erwin" and scope == "attention"):
            continue
        rows.append(Series(variant, backend, scope, preset))
    return sorted(rows, key=_importance)


def _importance(series):
    return (
        list(BACKENDS).index(series.backend) * 2 + list(SCOPES).index(series.scope) + 3 * (series.variant not in CORE),
        VARIANTS.index(series.variant),
    )


def compile_kernels(device, rows, sizes, workers):
    """Run every series with kernels once, in processes of their own side by side: those that time find them made."""
    variants = sorted({series.variant for series in rows if series.backend != "plain" and series.variant != "full"})
    # The kernels of a ball alone are those of any number of points.
    jobs = [(variant, n) for n in sizes for variant in variants if n == sizes[0] or variant not in ("ball", "erwin")]
    running = []
    for variant, n in jobs:
        while len([process for process in running if process.poll() is None]) >= workers:
            time.sleep(0.05)
        command = [sys.executable, *COMMAND.split()[1:], "--compile", variant, "--device", str(device)]
        command += ["--preset", rows[0].preset, "--points", str(n)]
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    for process in running:
        process.wait()


def compile_variant(variant, n, device, preset):
    """What a process of :func:`compile_kernels` does: one layer, or all where layers differ."""
    scope = "model" if variant == "erwin" else "attention"
    for call in Line(Series(variant, "kernels", scope, preset), device).at(n).values():
        call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def table(rows):
    """Rows as text."""
    lines = []
    for row in rows:
        series = row["series"]
        start = f"{series.scope:10s}{series.backend:8s} {series.variant:24s}{row['n']:>8d}"
        if row["status"] != "measured":
            lines.append(f"{start}  {row['status']}")
            continue
        ms = [f"{np.median(times):10.3f}" for times in row["ms"].values()]
        mib = [f"{size:9.1f}" for size in row.get("mib", {}).values()]
        lines.append(f"{start} {' '.join(ms)} ms {' '.join(mib)}{' MiB' if mib else ''}")
    return "\n".join(lines)


def crossings(ds):
    """From how many points on each variant is faster than full attention, as text."""
    lines = []
    for name, against in (("its best backend", "best"), ("the same backend", "same")):
        lines.append(f"faster than full attention ({name}) from so many points on:")
        found = crossover(ds, against).stack(row=("scope", "backend", "variant")).transpose("row", "step")
        for row in found:
            if np.isnan(row.values).all():
                continue
            text = {0.0: "all", np.inf: "none"}
            said = [text.get(float(x), f"{x:,.0f}") for x in row.values]
            scope, backend, variant = row["row"].item()
            lines.append(f"  {scope:10s}{backend:8s} {variant:24s} forward {said[0]:>9s}   training {said[1]:>9s}")
    return "\n".join(lines)


def about(device, preset):
    """What is said of all rows."""
    found = {
        "command": COMMAND,
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "dtype": "bfloat16 autocast" if device.type == "cuda" else "float32",
        "torch_version": str(torch.__version__),
        "bsaviz_version": __version__,
        "preset": preset,
        "batch": 1,
        **{f"backend_{name}": text for name, text in BACKENDS.items()},
        **{f"scope_{name}": text for name, text in SCOPES.items()},
        **{f"ceiling_{name}": value for name, value in ceilings(device).items()},
    }
    if device.type == "cuda":
        import triton

        found["triton_version"] = triton.__version__
        found["memory_of_the_device_mib"] = torch.cuda.get_device_properties(device).total_memory / 2**20
    return found


def _sizes(series, sizes):
    return [n for n in sizes if series.backend != "graph" or n <= MOST_IN_GRAPH]


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--points", nargs="+", type=int, default=SIZES, help="numbers of points, ascending")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, help="default: all that the device has")
    parser.add_argument("--scopes", nargs="+", default=list(SCOPES), choices=SCOPES)
    parser.add_argument("--preset", default="published")
    parser.add_argument("--longest", type=float, default=3.0, help="seconds that one call may take")
    parser.add_argument("--repeat-for", type=float, default=0.3, help="seconds for the repeats of one number")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for the whole run, compiling included")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes that compile kernels")
    parser.add_argument("--compile-at", nargs="+", type=int, default=COMPILED, help="numbers of points to compile for")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/scaling.nc"))
    parser.add_argument("--add", action="store_true", help="keep the series that --out has whole, measure the others")
    parser.add_argument("--compile", metavar="VARIANT", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    sizes = sorted(set(options.points))
    if sizes[0] < 1:
        parser.error(f"--points are whole numbers of at least 1, got {sizes[0]}")
    device, began = pick_device(options.device), time.monotonic()
    if options.compile:
        compile_variant(options.compile, sizes[0], device, options.preset)
        return 0
    backends = options.backends or (list(BACKENDS) if device.type == "cuda" else ["plain"])
    series = planned(options.variants, backends, options.scopes, options.preset)
    stored = xr.load_dataset(options.out) if options.add and options.out.is_file() else None
    if stored is not None:
        series = [each for each in series if not finished(stored, each, _sizes(each, sizes))]
    if device.type == "cuda":
        compile_kernels(device, series, options.compile_at, options.workers)
        print(f"kernels compiled after {time.monotonic() - began:.0f} s", flush=True)
    attrs, rows = about(device, options.preset), []
    all_of = lambda: to_dataset(rows, attrs) if stored is None else join(to_dataset(rows, attrs), stored)
    for each in series:
        out_of_time = lambda: time.monotonic() - began > options.seconds
        timing = dict(longest=options.longest, seconds=options.repeat_for, out_of_time=out_of_time)
        for row in run_series(each, _sizes(each, sizes), device, **timing):
            rows.append(row)
            print(table([row]), flush=True)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        write(all_of(), options.out)
    print(crossings(all_of() if rows else stored))
    print(f"written to {options.out} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
