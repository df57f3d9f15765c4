"""What a model costs, as a whole and by part: in closed form, counted, and measured."""

import copy
import json
import time
from functools import partial

import numpy as np
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.models import PointModel
from bsaviz.study.cost_analytic import analytic_parts
from bsaviz.study.cost_counted import count_parts
from bsaviz.study.cost_measured import part_peaks, part_times
from bsaviz.study.cost_parts import PARTS, STEPS
from bsaviz.study.fresh_process import cpu_peaks
from bsaviz.study.peak_memory import cuda_peak
from bsaviz.study.roofline import bound_ms, ceilings
from bsaviz.study.workload import SEED, Workload
from bsaviz.training import pick_device
from bsaviz.training.metrics import provenance

ESTIMATES = ("analytic", "counted", "measured")
DESCRIPTIONS = {
    "gflops": ("operations of a forward, counted (trees excluded, padding included)", "GFLOP"),
    "forward_ms": ("median time of a forward, tree and graph given", "ms"),
    "training_ms": ("median time of a training step, tree and graph given", "ms"),
    "tree_ms": ("median time to build the tree, and the graph where the model reads one", "ms"),
    "forward_mib": ("most memory a forward adds to weights and points", "MiB"),
    "training_mib": ("most memory a training step adds to weights, optimiser state and points", "MiB"),
    "parameters": ("trained numbers", "1"),
    "part_gflop": ("operations of a part: in closed form, and counted", "GFLOP"),
    "part_ms": ("time of a part: no less than (roofline), and measured alone", "ms"),
    "part_moved_mib": ("least that a part reads and writes: every input and output once", "MiB"),
    "part_peak_mib": ("most memory that one call of a part adds", "MiB"),
    "disagreement": ("counted over analytic operations, less one", "1"),
    "roofline_share": ("least over measured time", "1"),
    "rest_ms": ("the whole model's time less its parts', each run alone; below 0 where kernels join parts", "ms"),
}


def cost(model, num_points, *, device=None, batch=1, repeats=5, memory=True, parts=True):
    """What a model costs on clouds of `num_points` points: in closed form, counted and measured, whole and by part.

    The clouds are random points on a sphere. Times are medians after a warm-up, with CUDA events on a GPU; there the
    model runs under bfloat16 autocast, as in training. A training step is forward, backward and AdamW; that of a part,
    forward and backward. The model itself is left as it is.

    Parts are modules (embedding, projections, gates, SwiGLU, ...) and the branches of the attention. Three methods
    answer for each, and where they disagree it shows:

    - *analytic*: operations and traffic in closed form (:mod:`~bsaviz.study.cost_analytic`), and the least time they
      take under the device's two ceilings, a large matrix product and a large copy, measured in the same call;
    - *counted*: operations, by PyTorch's counter on tensors without data (:func:`count_parts`). It counts what is
      computed, also where the formula's work is done in a larger tile: a window's keys that are masked, say;
    - *measured*: time and memory of the part alone, in this process.

    Peak memory is what a call adds at its height to what is held between calls. On a GPU it is that of torch's
    allocator. On a CPU it is, of the whole model, the growth of the resident memory of a fresh process that makes the
    same call once (weights are those of a new model): everything is in it, also what libraries allocate and what the
    system rounds up to pages, and a small model's few MiB are near the noise. Of a part it is that of its tensors.

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
    parts : bool
        False leaves out the parts, and what is left are scalars.

    Returns
    -------
    xarray.Dataset
        Scalars ``gflops``, ``forward_ms``, ``training_ms``, ``tree_ms``, ``forward_mib``, ``training_mib``,
        ``parameters`` with scalar coords ``num_points`` and ``batch``, so that several concatenate. By part
        ``part_gflop`` and ``part_ms`` (estimate, step, part), NaN where a method has no answer, ``part_moved_mib``,
        ``part_peak_mib``, ``disagreement`` and ``roofline_share`` (step, part), and ``rest_ms`` (step), with coords
        ``module`` and ``branch`` of each part. ``attrs["not_modelled"]``: a JSON of what has no closed form, and why.

    Raises
    ------
    BsavizError
        For a model or number that is none, and a peak memory that cannot be measured here.
    """
    _check(model, num_points=num_points, batch=batch, repeats=repeats)
    device = pick_device(device)
    work = Workload(copy.deepcopy(model), num_points, batch, device)
    measure = partial(median_ms, device=device, repeats=repeats)
    counted = count_parts(model, num_points, batch=batch, training=parts)
    values = {
        "gflops": sum(counted["forward"].values()),
        "forward_ms": measure(work.forward),
        "training_ms": measure(work.training_step),
        "tree_ms": measure(work.build_tree),
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    peaks = _peaks(model, work, num_points, batch, parts) if memory else {}
    values |= {f"{name}_mib": peaks[name] for name in STEPS if memory}
    attrs = provenance(model, SEED, device) | {"autocast": "bfloat16" if device.type == "cuda" else "none"}
    ds = xr.Dataset(
        {name: ((), value) for name, value in values.items()},
        coords={"num_points": num_points, "batch": batch},
        attrs=attrs | {"slots": work.tree.order.shape[1], "threads": torch.get_num_threads()},
    )
    if parts:
        itemsize = 2 if device.type == "cuda" else 4
        analytic = analytic_parts(model, num_points, batch=batch, itemsize=itemsize)
        by_part = _by_part(analytic, counted, part_times(work, measure), peaks.get("parts"), ceilings(device))
        whole = xr.DataArray([values[f"{name}_ms"] for name in STEPS], dims="step")
        ds = ds.merge(by_part.assign(rest_ms=whole - by_part["part_ms"].sel(estimate="measured").sum("part")))
        ds.attrs |= by_part.attrs
    for name, variable in ds.data_vars.items():
        variable.attrs = dict(zip(("long_name", "units"), DESCRIPTIONS[name]))
    return ds


def count_gflops(model, num_points, *, batch=1):
    """Billions of operations of a forward, as :func:`count_parts` counts them."""
    _check(model, num_points=num_points, batch=batch)
    return sum(count_parts(model, num_points, batch=batch, training=False)["forward"].values())


def disagreements(model, num_points, *, batch=1):
    """By how much counted operations lie above the closed form's, of every part that has some.

    Returns
    -------
    dict of str to dict
        For ``"forward"`` and ``"training"``: counted over analytic, less one, by part.
    """
    _check(model, num_points=num_points, batch=batch)
    closed, counted = (
        analytic_parts(model, num_points, batch=batch)["gflop"],
        count_parts(model, num_points, batch=batch),
    )
    return {
        step: {part: counted[step].get(part, 0.0) / needed - 1 for part, needed in closed[step].items() if needed}
        for step in STEPS
    }


def _peaks(model, work, num_points, batch, parts):
    """Peak MiB of a forward, of a training step and, where wanted, of the parts."""
    if work.device.type != "cuda":
        return cpu_peaks(model, num_points, batch, parts=parts)
    peak = partial(cuda_peak, device=work.device)
    found = {"forward": peak(work.forward), "training": peak(work.training_step)}
    return found | {"parts": part_peaks(work, peak)} if parts else found


def _by_part(analytic, counted, ms, mib, roofs):
    """The Dataset of the parts that the model has."""
    present = {part for found in (*counted.values(), *ms.values()) for part, value in found.items() if value}
    parts = [part for part in (*PARTS, "elsewhere") if part in present]
    table = lambda found: np.array([[found[name].get(part, 0.0) for part in parts] for name in STEPS])
    unknown = np.full((len(STEPS), len(parts)), np.nan)
    gflop, moved, times = table(analytic["gflop"]), table(analytic["mib"]), table(ms)
    bound = bound_ms(gflop, moved, roofs)
    of_parts = {
        "part_gflop": (("estimate", "step", "part"), np.stack([gflop, table(counted), unknown])),
        "part_ms": (("estimate", "step", "part"), np.stack([bound, unknown, times])),
        "part_moved_mib": (("step", "part"), moved),
        "part_peak_mib": (("step", "part"), unknown if mib is None else table(mib)),
    }
    ds = xr.Dataset(of_parts, coords={"estimate": list(ESTIMATES), "step": list(STEPS), "part": parts})
    module, branch, _ = zip(*(PARTS.get(part, ("elsewhere", "", "")) for part in parts))
    ds = ds.assign_coords(module=("part", list(module)), branch=("part", list(branch)))
    methods = {name: ds["part_gflop"].sel(estimate=name, drop=True) for name in ("analytic", "counted")}
    time_of = {name: ds["part_ms"].sel(estimate=name, drop=True) for name in ("analytic", "measured")}
    exact = xr.where(methods["counted"] == methods["analytic"], 0.0, methods["counted"] / methods["analytic"] - 1)
    attrs = {f"ceiling_{name}": value for name, value in roofs.items()}
    attrs["not_modelled"] = json.dumps(analytic["not_modelled"])
    return ds.assign(disagreement=exact, roofline_share=time_of["analytic"] / time_of["measured"]).assign_attrs(attrs)


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
