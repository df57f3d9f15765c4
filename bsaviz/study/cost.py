"""What a model costs: operations counted, time and memory measured."""

import copy
import time
from functools import partial

import numpy as np
import torch
import xarray as xr
from torch.utils.flop_counter import FlopCounterMode

from bsaviz._checks import BsavizError
from bsaviz.models import Transformer
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
    model : Transformer
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
    (``device="meta"``), so any size costs nothing. Padding slots count, building trees does not.
    """
    _check(model, num_points=num_points, batch=batch)
    config = model.config
    slots = model.tree(sphere(num_points, config)[0]).order.shape[1]
    with torch.device("meta"), torch.no_grad():
        shadow = Transformer(config).eval()
        features = torch.empty(batch, slots, config.in_features) if config.in_features else None
        rotation = torch.empty(batch, slots, dtype=torch.int64) if config.rotates else None
        positions = torch.empty(batch, slots, config.spatial_dims)
        with FlopCounterMode(display=False) as counter:
            shadow.forward_leaves(positions, features, rotation=rotation)
    return counter.get_total_flops() / 1e9


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
    if not isinstance(model, Transformer):
        raise BsavizError(f"cost needs a bsaviz.models.Transformer, got {type(model).__name__}; make one with build")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise BsavizError(f"{name} must be a whole number of at least 1, got {count!r}")
