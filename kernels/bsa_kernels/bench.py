"""``python -m bsa_kernels.bench``: Ball Sparse Attention's kernels timed against dense attention, in one run.

Nothing is timed before it is right: the kernels are first held against the float64 reference. Times are medians of CUDA
events over rotated inputs; up to 4096 points both sides run in CUDA graphs as well, since launches dominate there. Each
row is a ratio to the better of PyTorch's flash and cuDNN attention.
"""

import argparse
import datetime
import json
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

VARIANTS = {"bsa": dict(), "bsa-group-compression": dict(group_compression=True)}
DENSE = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
POINTS = (1024, 4096, 16384, 65536, 262144, 1048576)
GRAPH_POINTS = 4096
DENSE_POINTS = {"flash": 65536, "cudnn": 262144}
# One multiprocessor's rates a clock: exponentials, and bf16 multiply-adds of its matrix units.
EXPONENTIALS, MATRIX = 16, 2048


def gate(dtype, head_dim):
    """Refuse to time kernels that are wrong."""
    from bsa_kernels.triton import check

    forward, backward, most = check.limits(dtype)
    for variant, options in VARIANTS.items():
        arguments, dout = check.inputs(4096, 2, head_dim, dtype)
        for name, (ours, plain) in check.errors(arguments, dout, **options).items():
            limit = (forward if name == "out" else backward) * plain + 1e-6
            if not ours <= limit:
                raise SystemExit(f"{variant}: {name} is off by {ours:.2e}, more than {limit:.2e}: not timed")
        regret = check.regret(arguments, **options)
        if not regret < most:
            raise SystemExit(f"{variant}: chosen blocks score {regret:.2e} less than the best: not timed")


def time_ms(runs, repeats, graph):
    """Median milliseconds of one call, the callables taking turns."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    if graph:
        runs = [_captured(run) for run in runs]
    events = []
    for i in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        runs[i % len(runs)]()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def _captured(run):
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    graph.replay()
    return graph.replay


def peak_gib(run):
    """Peak memory of one call, the arguments it was made with included."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() / 2**30


def measure(make, function, n, graph):
    """(forward ms, forward+backward ms, peak GiB) of function(*arguments); make(seed) gives (arguments, dout)."""
    repeats = 40 if n <= 65536 else 3 if n <= 262144 else 2

    def both(arguments, dout):
        leaves = [x.requires_grad_() if x is not None and x.is_floating_point() else x for x in arguments]
        wanted = [x for i, x in enumerate(leaves) if x is not None and x.is_floating_point() and i != 4]

        def forward():
            with torch.no_grad():
                function(*leaves)

        def backward():
            torch.autograd.grad(function(*leaves), wanted, dout)

        return forward, backward

    runs = both(*make(0))
    peak = peak_gib(runs[1])
    sets = [runs] if n > 65536 else [runs, *(both(*make(seed)) for seed in range(1, 4))]
    forward, backward = (time_ms([s[i] for s in sets], repeats, graph) for i in range(2))
    return forward, backward, peak


def dense_rows(n, heads, head_dim, dtype, graph):
    """{backend: (forward, forward+backward, peak)} of PyTorch's dense attention."""
    rows = {}
    for name, backend in DENSE.items():
        if n > DENSE_POINTS[name]:  # flash is the slower one at every size; a million points take 20 s a step
            continue

        def attend(q, k, v, backend=backend):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v)

        def make(seed):
            source = torch.Generator("cuda").manual_seed(seed)
            tensors = [torch.randn(1, heads, n, head_dim, generator=source, device="cuda").to(dtype) for _ in range(4)]
            return tensors[:3], tensors[3]

        try:
            rows[name] = measure(make, attend, n, graph)
        except RuntimeError as error:
            print(f"dense {name} at {n}: {str(error).splitlines()[0]}")
    return rows


def floor_ms(variant, n, heads, head_dim, passes):
    """The least time the operator's exponentials or multiply-adds can take here. passes: 1 forward, 3 with backward."""
    device = torch.cuda.get_device_properties(0)
    coarse = n // 8
    scores = heads * (n * (256 + 32) + (coarse if variant != "bsa" else n) * coarse)
    per_second = device.multi_processor_count * getattr(device, "clock_rate", 1_980_000) * 1e3
    exponentials = scores * (1 if passes == 1 else 2) / (EXPONENTIALS * per_second)
    products = scores * head_dim * (2 if passes == 1 else 7) / (MATRIX * per_second)
    return max(exponentials, products) * 1e3


def rows_for(n, heads, head_dim, dtype, graph):
    """All rows of one size."""
    from bsa_kernels import ball_sparse_attention
    from bsa_kernels.triton import check

    dense = dense_rows(n, heads, head_dim, dtype, graph)
    torch.cuda.empty_cache()
    best = [min(row[i] for row in dense.values()) if dense else None for i in range(2)]
    peak = min(row[2] for row in dense.values()) if dense else None
    common = dict(
        n=n, heads=heads, head_dim=head_dim, dtype=str(dtype).removeprefix("torch."), cuda_graph=graph,
        device=torch.cuda.get_device_name(), torch=torch.__version__, triton=_triton_version(),
        date=datetime.date.today().isoformat(),
    )  # fmt: skip
    ratio = lambda base, ms: None if base is None else round(base / ms, 3)
    rows = []
    for name, row in dense.items():
        rows.append(_row(f"dense-{name}", row, common, ratio, best, peak))
    for variant, options in VARIANTS.items():
        run = lambda *x, options=options: ball_sparse_attention(
            *x[:7], q_coarse=x[7], k_coarse=x[8], v_coarse=x[9], backend="triton", **options
        )
        row = measure(lambda seed: check.inputs(n, heads, head_dim, dtype, seed=seed), run, n, graph)
        torch.cuda.empty_cache()
        rows.append(_row(variant, row, common, ratio, best, peak))
        rows[-1]["forward_floor_share"] = round(floor_ms(variant, n, heads, head_dim, 1) / row[0], 3)
        rows[-1]["forward_backward_floor_share"] = round(floor_ms(variant, n, heads, head_dim, 3) / row[1], 3)
    return rows


def _row(variant, measured, common, ratio, best, dense_peak):
    forward, both, peak = measured
    return dict(
        variant=variant, **common, forward_ms=round(forward, 4), forward_backward_ms=round(both, 4),
        forward_ratio=ratio(best[0], forward), forward_backward_ratio=ratio(best[1], both), peak_gib=round(peak, 4),
        dense_peak_gib=None if dense_peak is None else round(dense_peak, 4),
    )  # fmt: skip


def _triton_version():
    import triton

    return triton.__version__


def write(rows, path):
    """Rows as JSON; earlier rows of the file that were not measured again are kept."""
    names = "variant", "n", "heads", "head_dim", "dtype", "cuda_graph", "device"
    key = lambda row: tuple(row[name] for name in names)
    kept = json.loads(path.read_text()) if path.exists() else []
    merged = {key(row): row for row in kept} | {key(row): row for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("[\n" + ",\n".join(json.dumps(row) for row in merged.values()) + "\n]\n")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--points", type=int, nargs="*", default=POINTS)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--out", type=Path, default=Path("data/measurements/kernels.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("the benchmark needs a CUDA device, and torch sees none")
    dtype = getattr(torch, options.dtype)
    gate(dtype, options.head_dim)
    for n in options.points:
        for graph in (False, True) if n <= GRAPH_POINTS else (False,):
            rows = rows_for(n, options.heads, options.head_dim, dtype, graph)
            write(rows, options.out)
            for row in rows:
                print(
                    f"{row['n']:>8} {row['variant']:<22} graph={int(graph)} {row['forward_ms']:>10.3f} ms "
                    f"{row['forward_backward_ms']:>10.3f} ms  "
                    f"x{row['forward_ratio']} / x{row['forward_backward_ratio']}  "
                    f"{row['peak_gib']:.3f} GiB (dense {row['dense_peak_gib']})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
