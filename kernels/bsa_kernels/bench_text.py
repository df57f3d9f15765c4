"""``python -m bsa_kernels.bench_text``: the benchmark's rows as a page of tables, beside the file that holds them."""

import argparse
import json
from pathlib import Path

KERNELS = ("bsa", "bsa-group-compression")
NAMES = {
    "bsa": "BSA, these kernels",
    "bsa-group-compression": "BSA, group compression, these kernels",
    "dense-flash": "dense, flash",
    "dense-cudnn": "dense, cuDNN",
    "bsa-plain": "BSA, plain PyTorch compiled",
    "bsa-group-compression-plain": "BSA, group compression, plain PyTorch compiled",
    "bsa-flex": "BSA, FlexAttention",
}
# (forward, forward+backward) ms by number of points: one run of the public code on an H200, bf16, 8 heads of 32.
PUBLIC_KERNELS = {
    "LLSA, level 1 (blocks of 16, top 8)": {4096: (0.51, 1.1), 16384: (0.48, 1.9), 65536: (5.1, 23.9)},
    "LLSA, level 2": {4096: (0.40, 2.1), 16384: (0.40, 2.0), 65536: (0.76, 4.3)},
    "Mosaic (blocks of 128, top 4, grouped)": {4096: (0.75, 2.2), 16384: (0.43, 2.0), 65536: (1.00, 2.7)},
}
PUBLIC_NOTE = (
    "LLSA and Mosaic are the nearest public kernels. Their licences are non-commercial, so they are no part of the "
    "benchmark: the figures are from one earlier run of their public code on an H200 (bf16, 8 heads of 32, no CUDA "
    "graph). They read coarser blocks than these kernels, whose blocks have 8 points."
)


def page(rows):
    """All tables as Markdown."""
    parts = ["# Ball Sparse Attention's kernels, measured", _about(rows)]
    for heads, head_dim, dtype in sorted({(r["heads"], r["head_dim"], r["dtype"]) for r in rows}, key=_main_first):
        own = [r for r in rows if (r["heads"], r["head_dim"], r["dtype"]) == (heads, head_dim, dtype)]
        parts += [f"## {heads} heads of {head_dim}, {dtype}", _table(own)]
    notes = sorted({f"{NAMES.get(r['variant'], r['variant'])}: {r['note']}." for r in rows if "note" in r})
    return "\n\n".join([*parts, *notes, "## Other public kernels", _public(rows), PUBLIC_NOTE]) + "\n"


def _main_first(key):
    return key[1] != 32, key


def _about(rows):
    devices, dates = sorted({r["device"] for r in rows}), sorted({r["date"] for r in rows})
    return (
        f"{', '.join(devices)}; {' to '.join(dict.fromkeys((dates[0], dates[-1])))}. One sample, balls of 256, blocks "
        "and groups of 8, top-k 4, mean pooling. A ratio is how many times faster than the better of PyTorch's flash "
        "and cuDNN attention in the same run, forward / forward+backward. Floor: the share of the least time that the "
        "exponentials or products can take on this device. Peak memory is that of forward+backward, arguments "
        "included. The rows are in `kernels.json`, made by `python -m bsa_kernels.bench`; this page of them by "
        "`python -m bsa_kernels.bench_text`."
    )


def _table(rows):
    lines = ["| points | what | CUDA graph | ms | times dense | floor | peak GiB |", "|---|---|---|---|---|---|---|"]
    order = list(NAMES)
    for r in sorted(rows, key=lambda r: (r["n"], r["cuda_graph"], order.index(r["variant"]))):
        floor = "" if r["variant"] not in KERNELS else _pair(r, "floor_share", "{:.0%}")
        lines.append(
            f"| {r['n']} | {NAMES[r['variant']]} | {'yes' if r['cuda_graph'] else 'no'} | {_pair(r, 'ms', '{:.3g}')} | "
            f"{_pair(r, 'ratio', '{:.3g}')} | {floor} | {r['peak_gib']:.2f} |"
        )
    return "\n".join(lines)


def _pair(row, name, form):
    values = (row.get(f"{passes}_{name}") for passes in ("forward", "forward_backward"))
    return " / ".join("-" if value is None else form.format(value) for value in values)


def _public(rows):
    sizes = (4096, 16384, 65536)
    lines = ["| forward / forward+backward ms | " + " | ".join(map(str, sizes)) + " |", "|---" * (len(sizes) + 1) + "|"]
    ours = {(r["variant"], r["n"]): r for r in rows if (r["heads"], r["head_dim"], r["cuda_graph"]) == (8, 32, False)}
    for variant in KERNELS:
        cells = [_pair(ours[variant, n], "ms", "{:.3g}") if (variant, n) in ours else "-" for n in sizes]
        lines.append(f"| {NAMES[variant]} | " + " | ".join(cells) + " |")
    for name, times in PUBLIC_KERNELS.items():
        lines.append(f"| {name} | " + " | ".join("{:.3g} / {:.3g}".format(*times[n]) for n in sizes) + " |")
    return "\n".join(lines)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m bsa_kernels.bench_text", description=__doc__.split(": ", 1)[1])
    parser.add_argument("--rows", type=Path, default=Path("data/measurements/kernels.json"))
    options = parser.parse_args(argv)
    if not options.rows.exists():
        parser.error(f"there is no {options.rows}; make it with python -m bsa_kernels.bench, or name another --rows")
    options.rows.with_suffix(".md").write_text(page(json.loads(options.rows.read_text())))


if __name__ == "__main__":
    main()
