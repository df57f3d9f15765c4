"""Time a whole training step of the published model: forward, backward and AdamW, bf16 autocast, trees made before.

``python -m bsaviz.study.bench_training`` prints a table and writes ``data/measurements/training-step.json``. A step is
timed in four ways: eager; with every layer compiled (one graph, which all layers share); and each of these inside a
CUDA graph, which is launched as one. Before that, its losses must follow those of the same steps in plain PyTorch.
"""

import argparse
import json
import statistics
import sys
from collections import defaultdict
from contextlib import contextmanager, nullcontext
from datetime import date
from pathlib import Path

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from bsaviz._files import whole_file
from bsaviz.models import build
from bsaviz.study.workload import SEED, sphere

VARIANTS = ("bsa", "bsa-group-compression", "full")
MODES = ("eager", "compiled", "eager in a CUDA graph", "compiled in a CUDA graph")
SIZES = ("4096x2", "65536x1")
CHECKED_STEPS = 5
TOLERANCE = 0.01
WARM_STEPS = 3
KERNELS_SHOWN = 12


class TrainingStep:
    """One step of the published model on random clouds; calling it gives the loss.

    Parameters
    ----------
    variant : str
        A name of :func:`bsaviz.models.build`.
    num_points, batch : int
    device : torch.device
    backend : {"auto", "triton", "torch"}
        Of the attention's kernels.
    compiled : bool
        Compile every layer with torch.compile, as one graph each.
    preset : str
    """

    def __init__(self, variant, num_points, batch, device, *, backend="auto", compiled=False, preset="published"):
        torch.manual_seed(SEED)
        self.device, self.dense = device, variant == "full"
        self.model = build(variant, preset).to(device)
        for module in self.model.modules():
            if hasattr(module, "backend"):
                module.backend = backend
        self.parameters = [p for p in self.model.parameters() if p.requires_grad]
        on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.AdamW(self.parameters, lr=1e-3, weight_decay=0.01, fused=True, capturable=on_gpu)
        positions, features = sphere(num_points * batch, self.model.config)
        samples = torch.arange(batch).repeat_interleave(num_points)
        positions, samples = positions.to(device), samples.to(device)
        tree = self.model.tree(positions, samples)
        self.arguments = self.model.leaf_arguments(positions, features, tree)
        self.target = tree.gather(torch.sin(3 * positions[:, :1]))
        if compiled:
            for layer in self.model.layers:
                layer.compile(fullgraph=True, dynamic=False)

    def __call__(self):
        # A captured autocast may not keep weights it has cast: the next replay must cast the new ones.
        with self._attention(), torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False):
            out = self.model.forward_leaves(**self.arguments)
        loss = F.mse_loss(out.float(), self.target)
        loss.backward()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()

    def _attention(self):
        """Full attention takes the faster of PyTorch's kernels."""
        backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
        return sdpa_kernel(backends, set_priority=True) if self.dense else nullcontext()


def check(step, variant, num_points, batch, device, preset="published"):
    """Refuse to time a wrong step: its first losses must be those of plain PyTorch within 1 %."""
    plain = TrainingStep(variant, num_points, batch, device, backend="torch", preset=preset)
    for number in range(CHECKED_STEPS):
        ours, theirs = step().item(), plain().item()
        if not abs(ours - theirs) <= TOLERANCE * abs(theirs):
            raise SystemExit(f"{variant}: loss {ours:.6f} at step {number}, {theirs:.6f} in plain PyTorch: not timed")


def captured(step):
    """`step` as a CUDA graph, to be replayed."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_STEPS):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def time_ms(call, repeats, warm):
    """Median milliseconds between CUDA events around a call, after `warm` calls that are not counted."""
    for _ in range(warm):
        call()
    events = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


@contextmanager
def peak_gib():
    """Gives a function that says the most memory held since, weights and optimiser included."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield lambda: torch.cuda.max_memory_allocated() / 2**30


def kernels_of(call, shown=KERNELS_SHOWN):
    """Where a step's time goes: ``{"kernel": name, "ms", "calls"}``, the longest first."""
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    total, calls = defaultdict(float), defaultdict(int)
    for event in profile.events():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            total[event.name] += event.time_range.elapsed_us() / 1e3
            calls[event.name] += 1
    names = sorted(total, key=total.get, reverse=True)
    rows = [{"kernel": name[:80], "ms": round(total[name], 3), "calls": calls[name]} for name in names[:shown]]
    return rows, {"ms": round(sum(total.values()), 3), "calls": sum(calls.values())}


def measure(variant, num_points, batch, mode, device, repeats, profile=False):
    """One row of the table."""
    with peak_gib() as peak:
        step = TrainingStep(variant, num_points, batch, device, compiled=mode.startswith("compiled"))
        call = captured(step) if mode.endswith("graph") else step
        ms = time_ms(call, repeats, warm=1 if mode.endswith("graph") else WARM_STEPS)
        gib = peak()
    row = {"variant": variant, "points": num_points, "batch": batch, "mode": mode}
    row |= {"step_ms": round(ms, 3), "peak_gib": round(gib, 3)}
    if profile:
        row["kernels"], row["all_kernels"] = kernels_of(call)
    return row


def write(rows, path):
    """The file of all rows; those of an earlier run that were not measured again are kept, and what is said of them."""
    key = lambda row: tuple(row[name] for name in ("variant", "points", "batch", "mode"))
    kept = json.loads(path.read_text()) if path.exists() else {}
    merged = {key(row): row for row in [*kept.get("rows", []), *rows]}
    said = {name: kept[name] for name in ("remarks", "earlier") if name in kept}
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps({**about(), **said, "rows": list(merged.values())}, indent=1) + "\n")


def about():
    """Where and when this was measured."""
    import triton

    return {
        "what": "training step of the published model (18 layers, C=64, 8 heads, ball 256, blocks and groups of 8, "
        "top-k 4): forward, backward, fused AdamW, bf16 autocast; trees excluded",
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "date": date.today().isoformat(),
        "command": "python -m bsaviz.study.bench_training",
    }


def table(rows):
    """The measurements as text."""
    lines = [f"{'points':>8} {'batch':>5}  {'variant':<24}{'mode':<28}{'ms':>10}{'GiB':>8}"]
    for row in rows:
        lines.append(
            f"{row['points']:>8} {row['batch']:>5}  {row['variant']:<24}{row['mode']:<28}{row['step_ms']:>10.2f}"
            f"{row['peak_gib']:>8.2f}"
        )
        for kernel in row.get("kernels", []):
            lines.append(f"{'':>16}{kernel['ms']:>8.3f} ms {kernel['calls']:>5} x  {kernel['kernel']}")
    return "\n".join(lines)


def main(argv=None):
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bsaviz.study.bench_training", description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="points x clouds, e.g. 4096x2")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=VARIANTS)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--repeats", type=int, default=20, help="timed steps; medians are reported")
    parser.add_argument("--profile", action="store_true", help="also say which kernels the time goes to")
    parser.add_argument("--out", type=Path, default=Path("data/measurements/training-step.json"))
    options = parser.parse_args(argv)
    try:
        sizes = [tuple(int(n) for n in size.split("x")) for size in options.sizes]
        fits = options.repeats >= 1 and all(len(size) == 2 and min(size) >= 1 for size in sizes)
    except ValueError:
        fits = False
    if not fits:
        parser.error("--sizes are POINTSxCLOUDS, e.g. 4096x2, and --repeats is at least 1")
    if not torch.cuda.is_available():
        print("the benchmark needs a CUDA device, and torch sees none", file=sys.stderr)
        return 1
    device, rows = torch.device("cuda"), []
    for variant in options.variants:
        points, batch = sizes[0]
        for compiled in sorted({mode.startswith("compiled") for mode in options.modes}):
            check(TrainingStep(variant, points, batch, device, compiled=compiled), variant, points, batch, device)
        for points, batch in sizes:
            repeats = options.repeats if variant != "full" or points * batch <= 16384 else 3
            for mode in options.modes:
                rows.append(measure(variant, points, batch, mode, device, repeats, options.profile))
                print(table(rows[-1:]), flush=True)
                write(rows, options.out)
    print(f"written to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
