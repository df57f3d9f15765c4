"""Time our ball trees against the published package, balltree-erwin, in one run.

``python -m bsaviz.study.bench_trees`` prints a table and writes ``data/measurements/trees.json``. Contestants take
turns, round by round, and a ratio is taken inside each round, so that a machine that slows down slows down everyone.
"""

import argparse
import json
import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from bsaviz._checks import require
from bsaviz._files import whole_file
from bsaviz.trees import BallTree
from bsaviz.trees.golden import mean_radius

BALL, BLOCK, ANGLE = 256, 8, 45.0


def contestants(peer, points):
    """The builders timed: name -> function of no argument, for one cloud (P, 3) float32.

    The published call makes one rotated order per ball size of the model, so it is given with the two of the published
    model and with one. Ours is timed down to the ball, which is like for like, and down to the block, as we use it.
    """
    sample = torch.zeros(len(points), dtype=torch.int64)
    sizes = {"ball_size": BALL, "block_size": BLOCK, "padding": "power_of_two"}
    return {
        "published, two rotated orders": lambda: peer.build_balltree_with_rotations(
            points, sample, strides=[1], ball_sizes=[BALL, BALL], angle=ANGLE
        ),
        "published, one rotated order": lambda: peer.build_balltree_with_rotations(
            points, sample, strides=[], ball_sizes=[BALL], angle=ANGLE
        ),
        "ours, to the ball": lambda: BallTree.build(points, rotation_angle=ANGLE, rotate_to="ball", **sizes),
        "ours, to the block": lambda: BallTree.build(points, rotation_angle=ANGLE, rotate_to="block", **sizes),
        "published, no rotation": lambda: peer.build_balltree(points, sample),
        "ours, no rotation": lambda: BallTree.build(points, **sizes),
    }


PAIRS = {
    "ours, to the ball": ("published, two rotated orders", "published, one rotated order"),
    "ours, to the block": ("published, two rotated orders", "published, one rotated order"),
    "ours, no rotation": ("published, no rotation",),
}


def time_all(builders, rounds):
    """Milliseconds of every builder in every round, after one round that is not counted: name -> (rounds,) array."""
    times = {name: [] for name in builders}
    for counted in [False] + [True] * rounds:
        for name, build in builders.items():
            start = time.perf_counter()
            build()
            if counted:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: np.array(values) for name, values in times.items()}


def radii(peer, points):
    """Mean radius of the balls and blocks of the main and the rotated order, published and ours."""
    order, _, (rotated,) = peer.build_balltree_with_rotations(
        points, torch.zeros(len(points), dtype=torch.int64), strides=[], ball_sizes=[BALL], angle=ANGLE
    )
    tree = BallTree.build(points, ball_size=BALL, block_size=BLOCK, padding="power_of_two", rotation_angle=ANGLE)
    clouds = {
        "published": points[order][None],
        "published, rotated": points[order][rotated][None],
        "ours": tree.positions,
        "ours, rotated": tree.rotated.positions,
    }
    return {name: {str(size): float(mean_radius(x, size)) for size in (BLOCK, BALL)} for name, x in clouds.items()}


def measure(peer, sizes, rounds, threads, seed=0):
    """Rows for clouds of `sizes` normally distributed points, as a list of dicts.

    Either side builds the tree of one cloud in one thread. With several `threads`, torch's part of the published call
    (and none of ours) waits for its pool, which is slow on a busy machine: one thread is the stricter comparison.
    """
    torch.set_num_threads(threads)
    rows = []
    for size in sizes:
        points = torch.randn(size, 3, generator=torch.Generator().manual_seed(seed))
        times = time_all(contestants(peer, points), rounds)
        ratios = {
            ours: {theirs: float(np.median(times[ours] / times[theirs])) for theirs in against}
            for ours, against in PAIRS.items()
        }
        rows.append(
            {
                "points": size,
                "threads": threads,
                "ms": {name: float(np.median(values)) for name, values in times.items()},
                "ratio": ratios,
                "mean_radius": radii(peer, points),
            }
        )
    return rows


def about():
    """Where and when this was measured."""
    packages = ("bsaviz", "torch", "numpy", "balltree-erwin")
    versions = {"python": platform.python_version()}
    for name in packages:
        try:
            versions[name] = version(name)
        except ModuleNotFoundError:
            versions[name] = "from source"
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    return {
        "date": date.today().isoformat(),
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
        "versions": versions,
    }


def table(rows):
    """The measurements as text."""
    lines = [f"{'points':>8} {'threads':>8}  {'builder':<32}{'ms':>8}   ratio to the published one"]
    for row in rows:
        for name, ms in row["ms"].items():
            ratios = ", ".join(f"{r:.2f} ({theirs})" for theirs, r in row["ratio"].get(name, {}).items())
            lines.append(f"{row['points']:>8} {row['threads']:>8}  {name:<32}{ms:>8.2f}   {ratios}")
    return "\n".join(lines)


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.bench_trees", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, nargs="+", default=[4096, 65536, 262144], help="sizes of the clouds")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds; medians are reported")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/trees.json"), help="where the numbers go")
    parser.add_argument("--threads", type=int, nargs="+", default=[1], help="threads torch may use, one table each")
    options = parser.parse_args(argv)
    if min(options.rounds, *options.threads) < 1 or min(options.points) <= BALL:
        parser.error(f"--rounds and --threads must be at least 1 and --points more than {BALL}")
    try:
        peer = require("balltree", "bench")
    except ImportError as missing:
        print(f"nothing to compare with: {missing} (it needs a C compiler)", file=sys.stderr)
        return 1
    before = torch.get_num_threads()
    rows = [row for threads in options.threads for row in measure(peer, options.points, options.rounds, threads)]
    torch.set_num_threads(before)
    print(table(rows))
    with whole_file(options.out) as path:
        path.write_text(json.dumps({**about(), "rounds": options.rounds, "rows": rows}, indent=1) + "\n")
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
