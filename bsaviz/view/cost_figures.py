"""Charts of what models cost: by part, and against the number of points. Lines and bars differ without colour, too."""

import numpy as np

from bsaviz._checks import BsavizError, require

# variant: colour (Okabe and Ito's), marker, dashes
_LINES = {
    "full": ("#000000", "o", "-"), "bsa": ("#0072B2", "s", "-"), "bsa-group-compression": ("#D55E00", "^", "--"),
    "bsa-no-group-selection": ("#009E73", "v", "-."), "ball": ("#E69F00", "D", ":"), "nsa": ("#CC79A7", "P", "--"),
    "erwin": ("#56B4E9", "X", "-."), "erwin-nsa": ("#882255", "*", ":"),
}  # fmt: skip
_BARS = {  # estimate: face, hatch
    "analytic": ("#ffffff", "////"), "counted": ("#9ecae1", ""), "measured": ("#3f3f3f", ""),
}  # fmt: skip


def scaling_figure(ds, *, step="training", backend="kernels", scope="model", variants=None):
    """Time and peak memory against the number of points, on logarithmic axes.

    Parameters
    ----------
    ds : xarray.Dataset
        Of :mod:`bsaviz.study.scaling_dataset`: ``to_dataset``, or ``operator_scaling`` for what is kept of a GPU.
    step : {"training", "forward"}
    backend, scope : str
        Of the dataset.
    variants : sequence of str, optional
        Those to draw; all by default.

    Returns
    -------
    matplotlib.figure.Figure
        The legend says from how many points on a variant is faster than full attention, and where memory ran out. Bars
        at a marker span the quartiles.

    Raises
    ------
    BsavizError
        Where the dataset does not hold what is asked for.
    """
    plt = require("matplotlib.pyplot", "view")
    for name, value in (("step", step), ("backend", backend), ("scope", scope)):
        if name not in ds.coords or value not in ds[name]:
            known = ", ".join(map(str, ds[name].values)) if name in ds.coords else f"no {name} at all"
            raise BsavizError(f"the dataset has no {name} {value!r}; it has {known}")
    chosen = ds.sel(step=step, backend=backend, scope=scope)
    names = [str(name) for name in chosen["variant"].values if variants is None or name in variants]
    has_memory = bool(np.isfinite(chosen["peak_mib"]).any())
    if not np.isfinite(chosen["ms"].sel(variant=names)).any():
        raise BsavizError(f"no variant was measured with backend {backend!r}, scope {scope!r} and step {step!r}")
    size = (6.4 * (1 + has_memory), 4.6)
    figure, axes = plt.subplots(1, 1 + has_memory, figsize=size, sharex=True, layout="constrained")
    axes = np.atleast_1d(axes)
    for name in names:
        line = chosen.sel(variant=name)
        there = np.isfinite(line["ms"].values)
        if there.any():
            _draw_line(axes, line.isel(n=there), name, _said(line, name))
    axes[0].set(ylabel=f"time of a {_STEP_NAMES[step]} (ms)")
    if has_memory:
        axes[1].set(ylabel=f"peak memory of a {_STEP_NAMES[step]} (MiB)")
    for panel in axes:
        panel.set(xscale="log", yscale="log", xlabel="points")
        panel.grid(True, which="major", color="#dddddd", linewidth=0.6)
        panel.set_axisbelow(True)
    axes[0].legend(fontsize=8, frameon=False)
    about = [ds.attrs.get("device"), _SCOPE_NAMES.get(scope, scope), backend]
    figure.suptitle(", ".join(str(text) for text in about if text), fontsize=10)
    return figure


def cost_figure(ds, *, step="forward"):
    """The parts of a model: operations in closed form beside those counted, least time beside the time measured.

    Parameters
    ----------
    ds : xarray.Dataset
        Of :func:`bsaviz.study.cost`, with its parts.
    step : {"forward", "training"}

    Returns
    -------
    matplotlib.figure.Figure
        At the bars: by how much counted and closed form disagree, and the share of the roofline that is reached.
    """
    plt = require("matplotlib.pyplot", "view")
    if "part_gflop" not in ds or ds["part_gflop"].ndim != 3:
        raise BsavizError("the dataset holds no parts of one model; make it with bsaviz.cost(model, num_points)")
    if step not in ds["step"]:
        raise BsavizError(f"step must be 'forward' or 'training', got {step!r}")
    shown = ds.sel(step=step)
    parts = [str(part) for part in shown["part"].values]
    figure, axes = plt.subplots(1, 2, figsize=(12.8, 0.42 * len(parts) + 1.6), sharey=True, layout="constrained")
    off = shown["disagreement"].values
    said = ["not modelled" if np.isnan(x) else "" if abs(x) < 5e-4 else f"{x:+.0%}" for x in off]
    _bars(axes[0], shown["part_gflop"], ("analytic", "counted"), parts, said)
    axes[0].set(xlabel=f"operations of a {_STEP_NAMES[step]} (GFLOP)")
    shares = ["" if np.isnan(x) else f"{x:.1%}" for x in shown["roofline_share"].values]
    _bars(axes[1], shown["part_ms"], ("analytic", "measured"), parts, shares)
    axes[1].set(xlabel=f"time in a {_STEP_NAMES[step]}, every part alone (ms)")
    axes[0].invert_yaxis()
    axes[0].legend(["closed form", "counted"], fontsize=8, frameon=False, loc="lower right")
    axes[1].legend(["least (roofline)", "measured"], fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(f"{int(ds['num_points']):,} points, {ds.attrs.get('device', '')}", fontsize=10)
    return figure


_STEP_NAMES = {"forward": "forward", "training": "training step"}
_SCOPE_NAMES = {"model": "whole model", "attention": "one attention layer", "operator": "attention operator"}


def _draw_line(axes, line, name, label):
    colour, marker, dashes = _LINES.get(name, ("#777777", ".", "-"))
    style = dict(color=colour, marker=marker, linestyle=dashes, markersize=5, linewidth=1.5)
    n, ms = line["n"].values, line["ms"].values
    spread = np.clip(np.stack([ms - line["ms_low"].values, line["ms_high"].values - ms]), 0, None)
    axes[0].errorbar(n, ms, yerr=spread, label=label, capsize=2, elinewidth=0.8, **style)
    if len(axes) > 1:
        axes[1].plot(n, line["peak_mib"].values, label=label, **style)


def _said(line, name):
    """The legend's line of a variant."""
    text, crossing = name, float(line["crossover"])
    if crossing == 0:
        text += ", faster than full throughout"
    elif np.isfinite(crossing):
        text += f", faster than full from {float(f'{crossing:.2g}'):,.0f}"
    lacking = line["n"].values[line["status"].values == "out of memory"]
    return text + (f", out of memory at {lacking[0]:,}" if len(lacking) else "")


def _bars(panel, values, estimates, parts, labels):
    """Two bars a part, and a word at their ends."""
    longest = np.zeros(len(parts))
    for offset, name in zip((-0.19, 0.19), estimates):
        widths = np.nan_to_num(values.sel(estimate=name).values)
        face, hatch = _BARS[name]
        panel.barh(np.arange(len(parts)) + offset, widths, height=0.36, color=face, hatch=hatch, edgecolor="#222222")
        longest = np.maximum(longest, widths)
    for i, label in enumerate(labels):
        panel.annotate(label, (longest[i], i), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    panel.set_yticks(range(len(parts)), parts)
    panel.set_xlim(0, 1.15 * longest.max() if longest.max() else 1)
    panel.grid(True, axis="x", color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
