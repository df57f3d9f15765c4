"""Runtime and memory against the number of points: what is run, and how one number is taken."""

import time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from bsaviz._checks import BsavizError
from bsaviz.models import build
from bsaviz.study.bench_training import captured
from bsaviz.study.peak_memory import MIB, cuda_peak, size
from bsaviz.study.workload import SEED, Workload, use_backend

VARIANTS = (
    "full", "bsa", "bsa-group-compression", "bsa-no-group-selection", "ball", "nsa", "erwin", "erwin-nsa",
)  # fmt: skip
BACKENDS = {
    "kernels": "the fastest kernels: Triton's for sparse attention, cuDNN's or flash for full attention",
    "graph": "the same inside a CUDA graph, launched as one",
    "plain": "plain PyTorch; full attention with its scores in memory",
}
SCOPES = {
    "model": "the whole model of the published size",
    "attention": "its first attention layer alone, with its projections",
}
STEPS = ("forward", "training")
OUT_OF_TIME = "no time left"
_DENSE = {
    "plain": [SDPBackend.MATH],
    "kernels": [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH],
}


@dataclass(frozen=True)
class Series:
    """A line of the plot.

    Attributes
    ----------
    variant : str
        A name of :func:`bsaviz.models.build`.
    backend : str
        A key of ``BACKENDS``.
    scope : str
        A key of ``SCOPES``.
    preset : str
    """

    variant: str
    backend: str
    scope: str
    preset: str = "published"

    def __post_init__(self):
        for name, value, known in (("backend", self.backend, BACKENDS), ("scope", self.scope, SCOPES)):
            if value not in known:
                raise BsavizError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
        if self.variant == "erwin" and self.scope == "attention":
            raise BsavizError("Erwin's layers differ by level, so that none stands for all; use scope='model'")


class Attention:
    """One attention layer of a workload's model, on tokens in leaf order; forward, and forward with backward."""

    def __init__(self, work):
        self.device, self.layer = work.device, work.model.layers[0].attn
        tree = work.tree
        self.positions = tree.positions
        self.mask = None if tree.mask.numel() == tree.num_points else tree.mask
        generator = torch.Generator().manual_seed(SEED)
        tokens = torch.randn(*tree.order.shape, self.layer.dim, generator=generator)
        self.tokens = tokens.to(work.device).requires_grad_()
        self.leaves = [self.tokens, *(p for p in self.layer.parameters() if p.requires_grad)]

    def tensors(self, step):
        """Weights and inputs."""
        return [*self.layer.parameters(), *self.layer.buffers(), self.tokens, self.positions, self.mask]

    def forward(self):
        with torch.no_grad():
            return self._run()

    def training_step(self):
        out = self._run()
        torch.autograd.grad(out, self.leaves, torch.ones_like(out), allow_unused=True)

    def _run(self):
        on_gpu = self.device.type == "cuda"
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            return self.layer(self.tokens, self.positions, self.mask)


class Line:
    """A series' model, that goes from size to size.

    Parameters
    ----------
    series : Series
    device : torch.device
    """

    def __init__(self, series, device):
        if series.backend == "graph" and device.type != "cuda":
            raise BsavizError("a CUDA graph needs a CUDA device; use backend 'kernels' or 'plain'")
        self.series, self.device = series, device
        torch.manual_seed(SEED)
        model = build(series.variant, series.preset)
        self.model = use_backend(model, "torch" if series.backend == "plain" else "auto").to(device)
        self.work = self.run = None

    def at(self, num_points):
        """The calls to time at this size: a dict of step to callable."""
        if self.work is None:
            self.work = Workload(self.model, num_points, 1, self.device)
        else:
            self.work.use(num_points, 1)
        self.run = self.work if self.series.scope == "model" else Attention(self.work)
        calls = {"forward": self.run.forward, "training": self.run.training_step}
        return {name: self._ready(call) for name, call in calls.items()}

    def peak(self, step, growth):
        """MiB at the peak of a step that adds `growth`: what it is given is there before."""
        return size(self.run.tensors(step)) / MIB + growth

    def _ready(self, call):
        def with_kernels():
            with self._dense():
                call()

        return captured(with_kernels) if self.series.backend == "graph" else with_kernels

    def _dense(self):
        if self.series.variant != "full" or self.device.type != "cuda":
            return nullcontext()
        return sdpa_kernel(_DENSE["plain" if self.series.backend == "plain" else "kernels"], set_priority=True)


def time_call(call, device, *, most=20, seconds=0.3):
    """Milliseconds of single calls, and the most memory in MiB that one adds to what is held before it.

    The first call, which may compile or load something, is not timed. There are as many timed ones as fit in about so
    many seconds, three at least and `most` at most; of a call that takes longer than that alone, there is one. The
    memory is NaN on a CPU.
    """
    call()
    times, mib = [], float("nan")
    first = lambda: times.append(_milliseconds(call, device))
    if device.type == "cuda":
        mib = cuda_peak(first, device)
    else:
        first()
    if times[0] < 1e3 * seconds:
        count = int(min(max(1e3 * seconds / max(times[0], 1e-3), 3), most))
        times = [_milliseconds(call, device) for _ in range(count)]
    return times, mib


def _milliseconds(call, device):
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return 1e3 * (time.perf_counter() - start)
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def predicted(seen, n):
    """Seconds of a call at `n` points, from those at fewer: by the steepness of the last step, and half a power more.

    Never more than quadratic; from a single size, linear.

    Parameters
    ----------
    seen : sequence of (int, float)
        Numbers of points, ascending, and seconds of a call.
    n : int
    """
    if not seen:
        return 0.0
    steepness = 0.5
    if len(seen) > 1:
        (before, fast), (last, slow) = seen[-2:]
        steepness = np.log(max(slow / fast, 1.0)) / np.log(last / before)
    return seen[-1][1] * (n / seen[-1][0]) ** min(steepness + 0.5, 2.0)


def run_series(series, sizes, device, *, longest=3.0, seconds=0.3, out_of_time=lambda: False):
    """Measure a series from its smallest size on.

    Parameters
    ----------
    series : Series
    sizes : sequence of int
        Numbers of points, ascending.
    device : torch.device
    longest : float
        Seconds that a forward with its backward may take: a size that would take longer (:func:`predicted`) is not run.
    seconds : float
        For the repeats of one number.
    out_of_time : callable
        Asked before each size; the rest is then not run.

    Yields
    ------
    dict
        ``n``, ``status`` and, where it was measured, ``ms`` (a dict of step to times) and, of what is launched step by
        step on a GPU, ``mib`` (of step to the most memory held, weights and inputs included).
    """
    line, seen, failed = None, [], None
    for n in sizes:
        row = {"series": series, "n": n}
        if failed:
            yield row | {"status": failed}
            continue
        if out_of_time():
            yield row | {"status": OUT_OF_TIME}
            continue
        if predicted(seen, n) > longest:
            yield row | {"status": "would take too long"}
            continue
        try:
            line = Line(series, device) if line is None else line
            calls = line.at(n)
            found = {name: time_call(call, device, seconds=seconds) for name, call in calls.items()}
        except torch.OutOfMemoryError:
            failed = "out of memory at fewer points"
            yield row | {"status": "out of memory"}
            continue
        except RuntimeError as error:  # one series that breaks does not take the others' numbers with it
            failed = "failed at fewer points"
            yield row | {"status": f"failed: {' '.join(str(error).split())[:100]}"}
            continue
        ms = {name: times for name, (times, _) in found.items()}
        seen.append((n, float(np.median(ms["training"])) / 1e3))
        row |= {"status": "measured", "ms": ms}
        if device.type == "cuda" and series.backend != "graph":  # its memory is in the pool of its capture
            row["mib"] = {name: line.peak(name, growth) for name, (_, growth) in found.items()}
        yield row
