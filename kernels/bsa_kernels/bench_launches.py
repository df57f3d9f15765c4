"""``python -m bsa_kernels.bench_launches``: where the time of one forward and backward goes, launch by launch.

Each launch is named by its kernel, those of `_keys` with the roles they hold; the times are medians over repeats, by
torch's profiler, one call after the other. They include no time between launches. The rows are written to
``data/measurements/kernels-launches.json``.
"""

import argparse
import datetime
import statistics
from pathlib import Path

import torch

from bsa_kernels.bench import POINTS, VARIANTS, Table, gate, write
from bsa_kernels.bench_timing import passes

SIZES = POINTS[:5]
REPEATS = 9
ROLES = "COARSE", "BALLS", "CHOSEN"


def name_of(launch):
    """A launch's kernel, and the roles of its programs where there are several kinds."""
    constants = launch.constants
    roles = [role.lower() for role in ROLES if constants.get(role)]
    if constants.get("SIGNS") == 2:
        roles.append("negative gates")
    return launch.kernel.__name__.strip("_") + (f" ({', '.join(roles)})" if roles else "")


def attribute(events, launches):
    """{name: microseconds}: the launches, which come in this order among the events, and all other kernels together.

    Parameters
    ----------
    events : sequence of (str, float)
        Kernel and microseconds, in order.
    launches : sequence of (str, str)
        Kernel and name.
    """
    waiting, found, others = list(launches), {}, 0.0
    for kernel, us in events:
        if waiting and kernel == waiting[0][0]:
            name = waiting.pop(0)[1]
            found[name] = found.get(name, 0.0) + us
        else:
            others += us
    if waiting:
        raise RuntimeError(f"the profile lacks {waiting[0][0]}, which was launched: it saw {[k for k, _ in events]}")
    return found | ({"sorting and sums of PyTorch": others} if others else {})


def profile(call, launches, repeats=REPEATS):
    """{name: median microseconds} of a call's launches."""
    call()
    torch.cuda.synchronize()
    rows = []
    for _ in range(repeats):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
            call()
            torch.cuda.synchronize()
        events = [e for e in seen.events() if e.device_type == torch.autograd.DeviceType.CUDA]
        events = sorted((e for e in events if not e.name.startswith("Mem")), key=lambda e: e.time_range.start)
        rows.append(attribute([(e.name, e.time_range.elapsed_us()) for e in events], launches))
    return {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}


def row_of(table, variant, n):
    """One row: every launch of a forward and backward of `n` points."""
    import triton

    from bsa_kernels.triton import fused

    _, both = passes(table.kernels(variant), *table.arguments(n)(0))
    fused._plans.clear()
    both()
    launches = [(each.kernel.__name__, name_of(each)) for plan in fused._plans.values() for each in plan.launches]
    return dict(
        variant=variant, n=n, heads=table.heads, head_dim=table.head_dim, dtype=str(table.dtype).split(".")[1],
        cuda_graph=False, device=torch.cuda.get_device_name(), torch=torch.__version__, triton=triton.__version__,
        date=datetime.date.today().isoformat(), microseconds=profile(both, launches),
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(prog="python -m bsa_kernels.bench_launches", description=__doc__.split(": ")[1])
    parser.add_argument("--points", type=int, nargs="*", default=SIZES)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--out", type=Path, default=Path("data/measurements/kernels-launches.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("the benchmark needs a CUDA device, and torch sees none")
    gate(torch.bfloat16, options.head_dim)
    table = Table(options.heads, options.head_dim, torch.bfloat16)
    for n in options.points:
        for variant in VARIANTS:
            row = row_of(table, variant, n)
            write([row], options.out)
            print(n, variant, row["microseconds"], flush=True)


if __name__ == "__main__":
    main()
