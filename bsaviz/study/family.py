"""What the benchmark of the family runs: models by task, the work of a step, and how a step is timed."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from bsaviz.models import build
from bsaviz.study.bench_training import captured
from bsaviz.study.cost import count_gflops
from bsaviz.study.peak_memory import cuda_peak, held

SLOW = 400  # milliseconds from which on a step's launches are a small part of it, and no graph is captured


@dataclass(frozen=True)
class Task:
    """A data set, as far as the cost of a training step depends on it.

    Attributes
    ----------
    points : int
        Points of a sample.
    batches : tuple of int
        Samples of a step: one, and the published number.
    schema : dict
        ``spatial_dims``, ``in_features``, ``out_features``.
    presets : dict of str to str
        Preset of Erwin, in its sizes, and of Erwin-NSA.
    """

    points: int
    batches: tuple
    schema: dict
    presets: dict


TASKS = {
    "cars": Task(
        3586, (1, 2), dict(spatial_dims=3, in_features=0, out_features=1),
        {"erwin": "shapenet-small", "erwin-nsa": "shapenet"},
    ),
    "elasticity": Task(
        972, (1, 16), dict(spatial_dims=2, in_features=0, out_features=1),
        {"erwin": "shapenet-small", "erwin-nsa": "shapenet"},
    ),
    "md": Task(
        890, (1, 32), dict(spatial_dims=3, in_features=52, out_features=6),
        {"erwin": "md-small", "erwin, medium": "md-medium", "erwin-nsa": "md"},
    ),
    "cosmology": Task(
        5000, (1, 16), dict(spatial_dims=3, in_features=0, out_features=3),
        {"erwin": "cosmology-small", "erwin, medium": "cosmology-medium", "erwin-nsa": "cosmology"},
    ),
}  # fmt: skip
TRANSFORMERS = ("full", "ball", "bsa", "bsa-group-compression", "bsa-no-group-selection", "nsa")
VARIANTS_OF_ERWIN_NSA = {"erwin-nsa, groups of 8": dict(group_size=8), "erwin-nsa, recomputed": dict(recompute=True)}


def models_of(task):
    """Names of a task's rows, each with how to build it: the model's name, preset and settings."""
    rows = {name: (name, "published", dict(task.schema)) for name in TRANSFORMERS}
    for name, preset in task.presets.items():
        settings = dict(task.schema)
        if not settings["in_features"] and preset.startswith("cosmology"):
            settings["coordinates"] = True
        rows[name] = (name.split(",")[0], preset, settings)
    for name, settings in VARIANTS_OF_ERWIN_NSA.items():
        rows[name] = ("erwin-nsa", task.presets["erwin-nsa"], task.schema | settings)
    return rows


class Work:
    """A model in training on random clouds of a task.

    Trees, their levels and the edges are made once, as a loader makes them; a step begins at the points.

    Parameters
    ----------
    row : tuple
        An entry of :func:`models_of`.
    task : Task
    batch : int
    backend : {"auto", "torch"}
        Kernels where they run, or plain PyTorch.
    device : torch.device
    """

    def __init__(self, row, task, batch, backend, device):
        torch.manual_seed(0)
        name, preset, settings = row
        self.device, self.batch = device, batch
        self.model = build(name, preset, **settings).to(device).train()
        for module in self.model.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        dims, features = task.schema["spatial_dims"], task.schema["in_features"]
        self.positions = torch.rand(batch * task.points, dims, device=device)
        self.features = torch.randn(batch * task.points, features, device=device) if features else None
        self.sample = torch.arange(batch, device=device).repeat_interleave(task.points)
        self.prepare()
        self.target = torch.randn(batch * task.points, task.schema["out_features"], device=device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(parameters, fused=on_gpu, capturable=on_gpu)

    def prepare(self):
        """The trees of all samples, and the edges for a model that passes messages: what a step is given."""
        self.tree = self.model.tree(self.positions, self.sample)
        edges = {"edges": self.model.graph(self.positions, self.tree)} if hasattr(self.model, "graph") else {}
        self.arguments = self.model.leaf_arguments(self.positions, self.features, self.tree, **edges)

    def step(self):
        """Forward, backward and optimiser, under bfloat16 autocast on a GPU, as in training."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            out = self.tree.scatter(self.model.forward_leaves(**self.arguments))
        F.mse_loss(out.float(), self.target).backward()
        self.optimiser.step()
        self.optimiser.zero_grad()


def time_steps(call, device, seconds, most=30, before=()):
    """Median milliseconds of a call: one that is not counted, then about so many seconds of them, at least one.

    `before`: milliseconds of calls that were timed already, in place of the first two.
    """
    times = list(before) or [_milliseconds(call, device), _milliseconds(call, device)][1:]
    count = int(min(1e3 * seconds / min(times), most)) - len(times)
    return float(np.median(times + [_milliseconds(call, device) for _ in range(count)]))


def measure(name, task, batch, backend, device, seconds, *, counted=False):
    """One row of the result.

    ``step_ms`` is a step as Python runs it, ``captured_ms`` the same step as one CUDA graph: what the GPU needs. Where
    the two differ much, the first says how many operations a model is made of (``launches``, where `counted`), and
    little of their size.
    """
    row = models_of(task)[name]
    before = held(device)
    work = Work(row, task, batch, backend, device)
    result = {
        "model": name,
        "backend": backend,
        "batch": batch,
        "preset": row[1],
        "parameters": sum(p.numel() for p in work.model.parameters()),
        "prepare_ms": time_steps(work.prepare, device, seconds / 10, most=3),
    }
    if device.type == "cuda":
        work.step()
        own, timed = held(device) - before, []
        result["step_peak_mib"] = cuda_peak(lambda: timed.append(_milliseconds(work.step, device)), device)
        result["peak_mib"] = own + result["step_peak_mib"]
        result["step_ms"] = time_steps(work.step, device, seconds, before=timed)
        if counted and result["step_ms"] < SLOW:
            result["launches"] = launches(work.step)
        if result["step_ms"] < SLOW and _can_be_captured(row[0], backend):
            result["captured_ms"] = time_steps(captured(work.step), device, seconds)
            result["captured_steps_per_s"] = 1e3 / result["captured_ms"]
    else:
        result["step_ms"] = time_steps(work.step, device, seconds)
    result["steps_per_s"] = 1e3 / result["step_ms"]
    return result


def _can_be_captured(model, backend):
    """Plain PyTorch asks the GPU whether blocks that are chosen are tied: such a step cannot be recorded."""
    return backend != "torch" or model in ("full", "ball", "erwin")


def operations(task, names):
    """GFLOPs and attention pairs of a forward on one sample, counted, by the name of the model."""
    counted = {}
    for name in names:
        model_name, preset, settings = models_of(task)[name]
        model = build(model_name, preset, **settings)
        gflops = count_gflops(model, task.points)
        counted[name] = {"gflops_of_a_forward": gflops, "pairs_of_a_forward": attention_pairs(model, task.points)}
    return counted


def attention_pairs(model, num_points):
    """How many weights of queries for keys a forward takes in all layers, heads and branches, one exponential each."""
    positions = torch.rand(num_points, model.config.spatial_dims)
    pairs = 0
    for site in model.attention_sites(model.tree(positions)):
        slots, attention = len(site.attended), site.attention
        known = getattr(attention, "options", None) or attention.trace_parameters()
        block, top_k = known.get("block_size"), known.get("top_k", getattr(attention, "top_k", 0))
        keys = known.get("ball_size", 0) + known.get("window", 0) or slots
        if block:
            keys += top_k * block + slots // block // (block if known.get("group_compression") else 1)
        pairs += slots * attention.num_heads * keys
    return pairs


def launches(call):
    """How many operations a call gives to the GPU: kernels, and copies that it does itself."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if event.device_time_total > 0)


def _milliseconds(call, device):
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return 1e3 * (time.perf_counter() - start)
