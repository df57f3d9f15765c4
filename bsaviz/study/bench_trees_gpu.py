"""Time ball trees on a CUDA device: the main and the rotated tree down to the block, of points that are there already.

``python -m bsaviz.study.bench_trees_gpu`` first holds every tree against the one made on the CPU and refuses to time
another; then it prints a table and writes ``data/measurements/trees-gpu.json``. Times are wall-clock medians of whole
calls of `BallTree.build`, checks of the input and waiting for the device included.
"""

import argparse
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path

import torch

from bsaviz._files import whole_file
from bsaviz.trees import BallTree

SIZES = {"ball_size": 256, "block_size": 8, "rotation_angle": 45.0}
TENSORS = ("order", "mask", "positions", "rotation")


def cloud(points, kind, seed=0):
    """`points` positions: normally distributed, or (kind "grid") on a coarse grid, where most coordinates are tied."""
    positions = torch.randn(points, 3, generator=torch.Generator().manual_seed(seed))
    return (positions * 16).round() if kind == "grid" else positions


def check(here, there):
    """Refuse to time a tree that is not the CPU's."""
    for name in TENSORS:
        if not torch.equal(getattr(there, name).cpu(), getattr(here, name)):
            raise SystemExit(f"the tree of {here.num_points} points has another {name} than the CPU's: not timed")


def wall_ms(build, repeats, wait):
    """Median milliseconds of `build`, and of its first call."""
    times = []
    for _ in range(repeats + 1):
        wait()
        start = time.perf_counter()
        build()
        wait()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:]), times[0]


def measure(points, kind, repeats, device, wait):
    """One row of the table."""
    positions = cloud(points, kind)
    start = time.perf_counter()
    here = BallTree.build(positions, **SIZES)
    cpu_ms = 1e3 * (time.perf_counter() - start)
    positions = positions.to(device)
    build = lambda: BallTree.build(positions, **SIZES)
    check(here, build())
    median, first = wall_ms(build, repeats, wait)
    row = {"points": points, "cloud": kind, "ms": median, "first_ms": first, "cpu_ms": cpu_ms}
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}


def table(rows):
    """The measurements as text."""
    lines = [f"{'points':>8}  {'cloud':<8}{'ms':>9}{'CPU, once':>12}"]
    return "\n".join(lines + [f"{r['points']:>8}  {r['cloud']:<8}{r['ms']:>9.3f}{r['cpu_ms']:>12.1f}" for r in rows])


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.bench_trees_gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[3586, 65536, 262144, 1048576])
    parser.add_argument("--clouds", nargs="+", choices=["normal", "grid"], default=["normal", "grid"])
    parser.add_argument("--repeats", type=int, default=30, help="timed builds; medians are reported")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/trees-gpu.json"))
    options = parser.parse_args(argv)
    if options.repeats < 1 or min(options.points) < 1:
        parser.error("--points and --repeats are at least 1")
    if not torch.cuda.is_available():
        print("the benchmark needs a CUDA device, and torch sees none", file=sys.stderr)
        return 1
    wait = torch.cuda.synchronize
    rows = [
        measure(points, kind, options.repeats, torch.device("cuda"), wait)
        for kind in options.clouds
        for points in options.points
    ]
    print(table(rows))
    about = {
        "what": "BallTree.build with a rotated tree down to the block; the points are on the device already",
        **SIZES,
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
        "command": "python -m bsaviz.study.bench_trees_gpu",
    }
    with whole_file(options.out) as path:
        path.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
