"""What a model costs: operations counted, time and memory measured."""

import copy
import time
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from bsaviz._checks import BsavizError
from bsaviz.models import PointModel
from bsaviz.study.peak_memory import cpu_peaks, cuda_peak
from bsaviz.study.workload import SEED, Workload, sphere
from bsaviz.training import pick_device
from bsaviz.training.metrics import provenance

DESCRIPTIONS = {
    "gflops": ("operations of a forward, counted (trees excluded, padding included)", "GFLOP"),
    "forward_ms": ("median time of a forward, its tree given", "ms"),
    "training_ms": ("median time of a training step, its tree given", "ms"),
    "tree_ms": ("median time to build the tree", "ms"),
    "forward_mib": ("most memory a forward adds to weights and points", "MiB"),
    "training_mib": ("most memory a training step adds to weights, optimiser state and points", "MiB"),
    "parameters": ("trained numbers", "1"),
}


def cost(model, num_points, *, device=None, batch=1, repeats=5, memory=True):
    """Count and measure what a model costs on clouds of `num_points` points.

    The clouds are random points on a sphere. Times are medians after a warm-up, with CUDA events on a GPU; there the
    model runs under bfloat16 autocast, as in training. A training step is forward, backward and AdamW. The model itself
    is left as it is.

    Peak memory is what a call adds at its height to what is held between calls. On a GPU it is that of torch's
    allocator. On a CPU it is the growth of the resident memory of a fresh process that makes the same call once
    (weights are those of a new model): everything is in it, also what libraries allocate and what the system rounds up
    to pages, and a small model's few MiB are near the noise.

    Parameters
    ----------
    model : PointModel
        Any model of :func:`bsaviz.models.build`.
    num_points : int
        Points of a cloud.
    device : str, optional
        None: CUDA where there is a device.
    batch : int
        Clouds in a call.
    repeats : int
        Measured calls, of which the median is taken.
    memory : bool
        False leaves out the memory, and on a CPU the process that measures it.

    Returns
    -------
    xarray.Dataset
        Scalars ``gflops``, ``forward_ms``, ``training_ms``, ``tree_ms``, ``forward_mib``, ``training_mib``,
        ``parameters`` with scalar coords ``num_points`` and ``batch``, so that several concatenate.

    Raises
    ------
    BsavizError
        For a model or number that is none, and a peak memory that cannot be measured here.
    """
    _check(model, num_points=num_points, batch=batch, repeats=repeats)
    device = pick_device(device)
    work = Workload(copy.deepcopy(model), num_points, batch, device)
    measure = partial(median_ms, device=device, repeats=repeats)
    values = {
        "gflops": count_gflops(model, num_points, batch=batch),
        "forward_ms": measure(work.forward),
        "training_ms": measure(work.training_step),
        "tree_ms": measure(work.build_tree),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    if memory:
        calls = {"forward_mib": work.forward, "training_mib": work.training_step}
        if device.type == "cuda":
            values |= {name: cuda_peak(call, device) for name, call in calls.items()}
        else:
            values |= dict(zip(calls, cpu_peaks(model, num_points, batch)))
    attrs = provenance(model, SEED, device) | {"autocast": "bfloat16" if device.type == "cuda" else "none"}
    return xr.Dataset(
        {name: ((), value, dict(zip(("long_name", "units"), DESCRIPTIONS[name]))) for name, value in values.items()},
        coords={"num_points": num_points, "batch": batch},
        attrs=attrs | {"slots": work.tree.order.shape[1], "threads": torch.get_num_threads()},
    )


def count_gflops(model, num_points, *, batch=1):
    """Billions of operations of a forward, by ``torch.utils.flop_counter``; a multiply-add is two.

    Matrix products and attention are counted, elementwise work is not. It is counted on tensors without data
    (``device="meta"``), so no more than the tree, and the graph where a model reads one, is built. Padding slots count,
    building trees and graphs does not.
    """
    _check(model, num_points=num_points, batch=batch)
    positions, features = sphere(num_points * batch, model.config)
    sample = torch.arange(batch).repeat_interleave(num_points)
    arguments = model.leaf_arguments(positions, features, model.tree(positions, sample))
    arguments["mask"] = None  # what is masked is computed all the same
    arguments = tree_map_only(torch.Tensor, lambda x: x.to("meta"), arguments)
    with torch.device("meta"), torch.no_grad():
        shadow = type(model)(model.config).eval()
        counter = FlopCounterMode(display=False)
        counter.mod_tracker = _NoModules()
        with counter:
            shadow.forward_leaves(**arguments)
    return counter.get_total_flops() / 1e9


class _NoModules:
    """Stands in for the counter's tracker, whose hooks reach the modules of every thread: an explorer counts in one."""

    parents = ("Global",)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def median_ms(call, device, repeats):
    """Median milliseconds of `repeats` calls after a warm-up."""
    for _ in range(3 if device.type == "cuda" else 1):
        call()
    once = _cuda_ms if device.type == "cuda" else _wall_ms
    return float(np.median([once(call) for _ in range(repeats)]))


def _cuda_ms(call):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def _wall_ms(call):
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _check(model, **counts):
    if not isinstance(model, PointModel):
        raise BsavizError(f"cost needs a model of bsaviz.models, got {type(model).__name__}; make one with build")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BsavizError(f"{name} must be a whole number of at least 1, got {count!r}")
