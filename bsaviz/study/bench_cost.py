"""The cost of the published-size models by part, kept.

``python -m bsaviz.study.bench_cost`` writes ``data/measurements/cost.nc``: :func:`bsaviz.study.cost` of every model of
the published size, at several numbers of points, with the ceilings of the device measured in the same run.
"""

import argparse
import itertools
import sys
import time
from datetime import date
from pathlib import Path

import xarray as xr

from bsaviz._files import whole_file
from bsaviz.models import build
from bsaviz.study.cost import cost
from bsaviz.study.scaling import VARIANTS
from bsaviz.training import pick_device

COMMAND = "python -m bsaviz.study.bench_cost"
SIZES = (4096, 65536)
_OF_ALL = ("device", "dtype", "autocast", "torch_version", "bsaviz_version", "threads")


def joined(prices):
    """One Dataset (model, num_points, ...) of those of :func:`bsaviz.study.cost`, by (name of the model, points).

    A part that only some models have is NaN in the others.
    """
    names, sizes = dict.fromkeys(name for name, _ in prices), sorted({n for _, n in prices})
    rows = [
        xr.concat(
            [prices[name, n] for n in sizes if (name, n) in prices], "num_points", join="outer", data_vars="all",
            coords="minimal", compat="no_conflicts", combine_attrs="drop",
        )
        for name in names
    ]  # fmt: skip
    ds = xr.concat(rows, "model", join="outer", data_vars="all", coords="minimal", compat="no_conflicts",
                   combine_attrs="drop")  # fmt: skip
    first = next(iter(prices.values()))
    ds = ds.assign_coords(model=list(names))
    for name, variable in ds.data_vars.items():
        variable.attrs = first[name].attrs
    kept = {key: value for key, value in first.attrs.items() if key in _OF_ALL or key.startswith("ceiling_")}
    return ds.assign_attrs(kept | {"command": COMMAND, "date": date.today().isoformat(), "preset": "published"})


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__.splitlines()[0])
    parser.add_argument("--points", nargs="+", type=int, default=SIZES)
    parser.add_argument("--models", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--preset", default="published")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="no model is begun after that")
    parser.add_argument("--device")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/cost.nc"))
    options = parser.parse_args(argv)
    device, began, prices = pick_device(options.device), time.monotonic(), {}
    for n, name in itertools.product(options.points, options.models):
        if time.monotonic() - began > options.seconds:
            print(f"no time left for {name} at {n} points")
            continue
        try:
            found = cost(build(name, options.preset), n, device=device, repeats=options.repeats)
        except RuntimeError as error:  # out of memory, mostly; what was measured before is kept
            print(f"{name:24s}{n:>8d}  {type(error).__name__}: {' '.join(str(error).split())[:200]}", flush=True)
            continue
        prices[name, n] = found
        print(f"{name:24s}{n:>8d} {float(found.forward_ms):9.2f} {float(found.training_ms):9.2f} ms", flush=True)
        print(found["roofline_share"].to_pandas().round(3).to_string(), flush=True)
        content = joined(prices).to_netcdf(engine="scipy")
        with whole_file(options.out) as temporary:
            temporary.write_bytes(content)
    print(f"written to {options.out} after {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
