"""How training scales over devices: cars per second with 1 and 2 (or more), each with the same number of cars a step.

``python -m bsaviz.study.bench_devices`` prints a table and writes ``data/measurements/training-scaling.json``. Each
number of devices runs in processes of its own, as under ``torchrun``. Several devices must make the
losses that one makes of the same cars, or nothing is written of them.
"""

import argparse
import json
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch

from bsaviz._files import whole_file
from bsaviz.datasets import generated_cars
from bsaviz.models import build
from bsaviz.training import TrainConfig, joined, train

MODELS = ("bsa", "full")
BATCHES = (2, 8)
POINTS, STEPS, WARM = 3586, 90, 20
CHECKED, TOLERANCE = 10, 0.02
_ROW = "row: "  # marks a line of a child's output


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.bench_devices", description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--preset", default="published")
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES, help="cars in a step of one device")
    parser.add_argument("--devices", nargs="+", type=int, default=(1, 2), help="numbers of devices, the first one 1")
    parser.add_argument("--points", type=int, default=POINTS)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of each run; the first {WARM} are not timed")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/training-scaling.json"))
    parser.add_argument("--member", type=int, help=argparse.SUPPRESS)  # one of so many processes, not the whole table
    options = parser.parse_args(argv)
    if options.steps <= WARM:
        parser.error(f"--steps must be more than {WARM}")
    if options.member:
        return _member(options)
    rows, losses = [], {}
    for devices in options.devices:
        given = sys.argv[1:] if argv is None else argv
        # torchrun starts all processes at once; without it the first would start the others when it has loaded all.
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={devices}", "-m"] if devices > 1 else []
        command = [sys.executable, "-m", *torchrun, "bsaviz.study.bench_devices", *given, "--member", str(devices)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if line.startswith(_ROW):
                    rows.append(_with_efficiency(json.loads(line.removeprefix(_ROW)), rows, losses))
                    print(_table(rows[-1:]), flush=True)
                    write(rows, options.out)
        if process.returncode:
            print(f"{devices} devices: the processes ended with exit status {process.returncode}", file=sys.stderr)
            return 1
    print(f"written to {options.out}")
    return 0


def _member(options):
    """One of the processes that train together; the first of them prints a row for each case."""
    cars = generated_cars(range(max(options.batches) * max(options.devices)))
    cars = [car if car.num_points == options.points else car.subsample(options.points) for car in cars]
    with joined(options.member, options.device) as ranks:
        for model in options.models:
            # The check sees the same cars whatever the number of devices.
            losses = _run(model, cars, max(options.devices), CHECKED, options, ranks)[0]
            for batch in options.batches:
                history = _run(model, cars, batch * ranks.size, options.steps, options, ranks)[1]
                seconds = history.elapsed.values[-1] - history.elapsed.values[WARM - 1]
                steps = (options.steps - WARM) / seconds
                if ranks.first:
                    row = {"model": model, "preset": options.preset, "points": options.points, "devices": ranks.size,
                           "batch_per_device": batch, "steps_per_s": round(steps, 2),
                           "cars_per_s": round(steps * batch * ranks.size, 2)}  # fmt: skip
                    print(_ROW + json.dumps(row | {"losses": losses, "about": _about(history)}), flush=True)
    return 0


def _run(name, cars, batch, steps, options, ranks):
    torch.manual_seed(0)
    model = build(name, options.preset)
    config = TrainConfig(steps=steps, batch_size=batch, device=options.device)
    history = train(model, cars, cars[:1], config, progress=False, ranks=ranks).history
    return history.loss.values.tolist(), history


def _with_efficiency(row, rows, losses):
    """The row with its share of `devices` times one device's speed; refuses losses that one device does not make."""
    ours = row.pop("losses")
    alone = losses.setdefault(row["model"], ours)
    apart = max(abs(a - b) / abs(b) for a, b in zip(ours, alone))
    if not apart <= TOLERANCE:
        raise SystemExit(f"{row['model']}: losses of {row['devices']} devices are {apart:.1%} off: not timed")
    row = row | {"losses_apart": apart}
    same = [other for other in rows if all(other[name] == row[name] for name in ("model", "batch_per_device"))]
    if row["devices"] > 1 and same:
        row["efficiency"] = round(row["cars_per_s"] / row["devices"] / same[0]["cars_per_s"], 3)
    return row


def _about(history):
    return {
        "device": history.attrs["device"],
        "torch": str(torch.__version__),
        "date": date.today().isoformat(),
        "command": "python -m bsaviz.study.bench_devices",
    }


def write(rows, path):
    """The file of all rows."""
    about = rows[0]["about"]
    kept = [{name: value for name, value in row.items() if name != "about"} for row in rows]
    what = "speed of bsaviz.training.train with the same number of cars a step on each device; efficiency is that of N "
    what += f"devices over N times that of one; losses_apart is the largest relative difference of {CHECKED} losses"
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps({"what": what, **about, "rows": kept}, indent=1) + "\n")


def _table(rows):
    return "\n".join(
        f"{row['model']:<24}{row['devices']:>3} devices x {row['batch_per_device']:>2} cars "
        f"{row['steps_per_s']:>8.1f} steps/s {row['cars_per_s']:>8.1f} cars/s  "
        + (f"efficiency {row['efficiency']:.2f}" if "efficiency" in row else "")
        for row in rows
    )


if __name__ == "__main__":
    sys.exit(main())
