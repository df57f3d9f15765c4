"""``python -m bsa_kernels.bench``: Ball Sparse Attention's kernels timed against what else there is, in one run.

Nothing is timed before it is right: the kernels are first held against the float64 reference, the peers against the
kernels. Times are medians of CUDA events over rotated inputs; up to 16384 points both sides run in CUDA graphs as well,
since launches dominate there. Each row is a ratio to the better of PyTorch's flash and cuDNN attention at its size.
"""

import argparse
import datetime
import json
from pathlib import Path

import torch

from bsa_kernels.bench_timing import measure

VARIANTS = {"bsa": dict(), "bsa-group-compression": dict(group_compression=True)}
POINTS = (1024, 4096, 16384, 65536, 262144, 1048576)
GRAPH_POINTS = 16384
REPEATED_POINTS = 262144  # up to which dense attention is timed more than once
PEER_POINTS = (4096, 16384, 65536)
# One multiprocessor's rates a clock: exponentials, and bf16 multiply-adds of its matrix units.
EXPONENTIALS, MATRIX = 16, 2048
PEERS_DIFFER = 0.2  # near ties between blocks are decided by rounding: some groups read other blocks


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


def hold_against(name, peer, kernels, inputs):
    """Refuse to time a peer that computes something else."""
    from bsa_kernels.triton import check

    with torch.no_grad():
        error = check.relative(peer(*inputs), kernels(*inputs))
    if not error <= PEERS_DIFFER:
        raise SystemExit(f"{name}: off by {error:.2e} from the kernels: not timed")


class Table:
    """Rows of one number of heads, head dimension and dtype.

    Parameters
    ----------
    heads, head_dim : int
    dtype : torch.dtype
    whole_dense : int
        Beyond this many points dense attention is timed with one head and multiplied: each head fills the device.
    """

    def __init__(self, heads, head_dim, dtype, whole_dense=1048576):
        self.heads, self.head_dim, self.dtype, self.whole_dense = heads, head_dim, dtype, whole_dense

    def rows(self, n, graph, peers):
        """All rows of one size: dense attention, the kernels, and the peers asked for."""
        dense = self.dense(n, graph)
        best = [min((row[i] for row in dense.values()), default=None) for i in range(3)]
        rows = [self._row(f"dense-{name}", n, graph, row, best) for name, row in dense.items()]
        if n > self.whole_dense:
            for row in rows:
                row["note"] = f"one head timed, multiplied by {self.heads}"
        for variant in VARIANTS:
            measured = measure(self.arguments(n), self.kernels(variant), n, graph)
            torch.cuda.empty_cache()
            row = self._row(variant, n, graph, measured, best)
            for name, passes, ms in (("forward", 1, measured[0]), ("forward_backward", 3, measured[1])):
                row[f"{name}_floor_share"] = round(floor_ms(variant, n, self.heads, self.head_dim, passes) / ms, 3)
            rows.append(row)
        if n in PEER_POINTS and not graph:
            rows += [row for name in peers if name != "none" for row in self.peer_rows(name, n, best)]
        return rows

    def dense(self, n, graph):
        """{kernel: (forward, forward+backward, peak)} of PyTorch's dense attention."""
        from bsa_kernels import bench_peers

        heads = self.heads if n <= self.whole_dense else 1

        def make(seed):
            source = torch.Generator("cuda").manual_seed(seed)
            shape = 1, heads, n, self.head_dim
            tensors = [torch.randn(shape, generator=source, device="cuda").to(self.dtype) for _ in range(4)]
            return tensors[:3], tensors[3]

        rows = {}
        for name in bench_peers.DENSE:
            try:
                measured = measure(make, bench_peers.dense(name), n, graph, once=n > REPEATED_POINTS)
                rows[name] = [x * self.heads / heads for x in measured]
            except RuntimeError as error:
                print(f"dense {name} at {n}: {str(error).splitlines()[0]}")
        torch.cuda.empty_cache()
        return rows

    def kernels(self, variant):
        """The operator, of its arguments in the order of `check.inputs`."""
        from bsa_kernels import ball_sparse_attention

        def run(*x):
            coarse = dict(zip(("q_coarse", "k_coarse", "v_coarse"), x[7:]))
            return ball_sparse_attention(*x[:7], **coarse, backend="triton", **VARIANTS[variant])

        return run

    def peer_rows(self, name, n, best):
        """Rows of plain PyTorch, compiled, or of FlexAttention."""
        from bsa_kernels import bench_peers

        torch._dynamo.reset()

        def make(seed):
            arguments, dout = self.arguments(n)(seed)
            return arguments[:6], dout

        inputs = [x.detach() for x in make(0)[0]]
        rows = []
        for variant, options in VARIANTS.items() if name == "plain" else [("bsa", {})]:
            if name == "plain":
                run = torch.compile(lambda *x, options=options: bench_peers.plain(*x, **options), dynamic=False)
            else:
                run = bench_peers.Flex(self._chosen(inputs), torch.compile(bench_peers.flex_attention, dynamic=False))
            hold_against(f"{variant}, {name}", run, self.kernels(variant), inputs)
            # FlexAttention's block masks belong to one set of inputs.
            measured = measure(make if name == "plain" else lambda seed: make(0), run, n, False)
            rows.append(self._row(f"{variant}-{name}", n, False, measured, best) | {"note": bench_peers.NOTES[name]})
            torch.cuda.empty_cache()
        return rows

    def _chosen(self, inputs):
        from bsa_kernels import pool_mean, select_blocks

        q, k = (pool_mean(x, None, 8) for x in inputs[:2])
        return select_blocks(q, k, ball_size=256, block_size=8, group_size=8, top_k=4, backend="triton")

    def arguments(self, n):
        from bsa_kernels.triton import check

        return lambda seed: check.inputs(n, self.heads, self.head_dim, self.dtype, seed=seed)

    def _row(self, variant, n, graph, measured, best):
        import triton

        forward, both, peak = measured
        ratio = lambda base, ms: None if base is None else round(base / ms, 3)
        return dict(
            variant=variant, n=n, heads=self.heads, head_dim=self.head_dim, dtype=str(self.dtype).split(".")[1],
            cuda_graph=graph, device=torch.cuda.get_device_name(), torch=torch.__version__, triton=triton.__version__,
            date=datetime.date.today().isoformat(), forward_ms=round(forward, 4), forward_backward_ms=round(both, 4),
            forward_ratio=ratio(best[0], forward), forward_backward_ratio=ratio(best[1], both),
            peak_gib=round(peak, 4), dense_peak_gib=None if best[2] is None else round(best[2], 4),
        )  # fmt: skip


def floor_ms(variant, n, heads, head_dim, passes, device=None):
    """The least time the operator's exponentials or multiply-adds can take here. passes: 1 forward, 3 with backward."""
    device = device or torch.cuda.get_device_properties(0)
    coarse = n // 8
    scores = heads * (n * (256 + 32) + (coarse if variant != "bsa" else n) * coarse)
    per_second = device.multi_processor_count * getattr(device, "clock_rate", 1_980_000) * 1e3
    exponentials = scores * (1 if passes == 1 else 2) / (EXPONENTIALS * per_second)
    products = scores * head_dim * (2 if passes == 1 else 7) / (MATRIX * per_second)
    return max(exponentials, products) * 1e3


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
    parser = argparse.ArgumentParser(prog="python -m bsa_kernels.bench", description=__doc__.split("\n\n")[0])
    parser.add_argument("--points", type=int, nargs="*", default=POINTS)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=32)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--peers", nargs="+", default=["plain", "flex"], choices=("plain", "flex", "none"))
    whole = "beyond this many points dense attention is timed with one head and multiplied"
    parser.add_argument("--whole-dense", type=int, default=1048576, help=whole)
    parser.add_argument("--out", type=Path, default=Path("data/measurements/kernels.json"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("the benchmark needs a CUDA device, and torch sees none")
    dtype = getattr(torch, options.dtype)
    gate(dtype, options.head_dim)
    table = Table(options.heads, options.head_dim, dtype, options.whole_dense)
    for n in options.points:
        for graph in (False, True) if n <= GRAPH_POINTS else (False,):
            rows = table.rows(n, graph, options.peers)
            write(rows, options.out)
            for row in rows:
                print(
                    f"{row['n']:>8} {row['variant']:<28} graph={int(graph)} {row['forward_ms']:>10.3f} ms "
                    f"{row['forward_backward_ms']:>10.3f} ms  "
                    f"x{row['forward_ratio']} / x{row['forward_backward_ratio']}  "
                    f"{row['peak_gib']:.3f} GiB (dense {row['dense_peak_gib']})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
