"""Our modules held against outputs of the published code."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.models.upstream import golden_weights, import_upstream, read_npz
from bsaviz.models.upstream_config import golden_settings
from bsaviz.models.upstream_erwin import golden_erwin_settings, is_erwin
from bsaviz.trees import BallTree
from bsaviz.trees.golden import SLACK, check_tree_file

TOLERANCE = 1e-5  # float64, of the largest magnitude
SINGLE_TOLERANCE = 1e-4  # one layer in float32
FORMATS = (
    "an attention layer (bsa_*.npz: x, pos, out), a transformer (transformer_*.npz: features, pos, tree_idx, "
    "tree_mask, out), an Erwin transformer (erwin_*.npz: also edge_index, rotated_perm/*) and reference trees "
    "(balltrees.npz: */pos, */mean_radius_*)"
)


class GoldenRow(NamedTuple):
    """One comparison: the error found, the error allowed, and whether it holds."""

    name: str
    error: float
    tolerance: float
    ok: bool


@dataclass(frozen=True)
class GoldenReport:
    """All comparisons of one file; print it for a table."""

    path: Path
    rows: tuple[GoldenRow, ...]

    @property
    def ok(self):
        """Whether every comparison holds."""
        return all(row.ok for row in self.rows)

    def __str__(self):
        lines = [f"{self.path.name}: {'ok' if self.ok else 'MISSED'}"]
        width = max(len(row.name) for row in self.rows)
        for row in self.rows:
            verdict = "ok" if row.ok else "MISSED"
            lines.append(f"  {row.name:<{width}}  error {row.error:9.2e}  allowed {row.tolerance:8.2e}  {verdict}")
        return "\n".join(lines)


def check_golden(path):
    """Recompute what a golden file holds, and compare.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with inputs, upstream weights (``param/*``), ``config`` (JSON) and outputs: an attention layer, a
        transformer, an Erwin transformer, or reference trees.

    Returns
    -------
    GoldenReport
        Errors are the largest difference over the largest magnitude of what is expected (in float64 but for the rows
        that say float32); of the chosen blocks, the share of groups that chose otherwise; of trees, how much larger
        the mean ball radius is.

    Raises
    ------
    BsavizError
        When the file is missing, unreadable, or of another format.
    """
    path = Path(path)
    arrays = read_npz(path)
    _check_numbers(arrays, path)
    if any("/mean_radius_" in name for name in arrays):
        rows = _check_trees(path)
    elif is_erwin(golden_weights(arrays)):
        rows = _check_erwin(arrays, path)
    elif {"x", "pos", "out"} <= set(arrays):
        rows = _check_layer(arrays, path)
    elif {"pos", "tree_idx", "tree_mask", "out"} <= set(arrays):
        rows = _check_transformer(arrays, path)
    else:
        there = f"{', '.join(list(arrays)[:6])}, ..." if arrays else "nothing"
        raise BsavizError(f"{path} holds {there}: no known format; supported are {FORMATS}")
    return GoldenReport(path, tuple(rows))


def _check_layer(arrays, path):
    layer = import_upstream(golden_weights(arrays), **_settings(arrays, path))
    x, positions = _tensor(arrays, "x"), _tensor(arrays, "pos")

    single = layer(x.float(), positions.float())

    layer, x = layer.double(), x.requires_grad_()
    seen = {}
    hooks = [
        getattr(layer, name).register_forward_hook(lambda module, args, value, name=name: seen.update({name: value}))
        for name in ("ball", "compression", "selection", "indices")
        if hasattr(layer, name)
    ]
    try:
        out = layer(x, positions)
    finally:
        for hook in hooks:
            hook.remove()

    rows = [_compare("out", out, arrays["out"]), _compare("out, float32", single, arrays["out"], SINGLE_TOLERANCE)]
    if {"grad_x", "cotangent"} <= set(arrays):
        (gradient,) = torch.autograd.grad(out, x, _tensor(arrays, "cotangent"))
        rows.append(_compare("grad_x", gradient, arrays["grad_x"]))
    for name in ("ball", "compression", "selection"):
        if f"branch/{name}" in arrays and name in seen:
            rows.append(_compare(f"branch/{name}", seen[name], arrays[f"branch/{name}"]))
    if "selected" in arrays and "indices" in seen:
        rows.append(_compare_blocks(seen["indices"], arrays["selected"]))
    return rows


def _check_transformer(arrays, path):
    model = import_upstream(golden_weights(arrays), **_settings(arrays, path)).double()
    features = _tensor(arrays, "features") if "features" in arrays else None
    positions = _tensor(arrays, "pos")
    tree = _tree(arrays, positions, model.config)
    with torch.no_grad():
        out = model(positions, features, tree=tree)
    return [_compare("out", out, arrays["out"])]


def _check_erwin(arrays, path):
    settings = golden_erwin_settings(_config(arrays, path))
    model = import_upstream(golden_weights(arrays), **settings).double()
    turned = model.rotated_levels
    needed = ["pos", "features", "tree_idx", "tree_mask", "out", *(f"rotated_perm/{i}" for i in turned)]
    missing = [name for name in needed + ["edge_index"] * bool(model.mpnn) if name not in arrays]
    if missing:
        raise BsavizError(f"{path} has no {', '.join(missing)}, which its Erwin transformer reads; write it again")
    # Upstream lays all samples into one row of slots, whose indices count through all of them: so does this tree.
    order, mask, positions = torch.from_numpy(arrays["tree_idx"]), arrays["tree_mask"], _tensor(arrays, "pos")
    tree = BallTree.from_arrays(order, mask, positions, ball_size=model.config.ball_size, block_size=1)
    model.check_tree(tree, positions, multiple=model.config.slot_multiple)
    levels = range(len(model.config.dims))
    rotations = [torch.from_numpy(arrays[f"rotated_perm/{i}"])[None] if i in turned else None for i in levels]
    edges = torch.from_numpy(arrays["edge_index"]) if model.mpnn else None
    with torch.no_grad():
        out = model.forward_leaves(
            positions, _tensor(arrays, "features"), edges, tree.order, tree.inverse, rotations=rotations
        )
    return [_compare("out", tree.scatter(out) if model.config.decode else out[0], arrays["out"])]


def _check_trees(path):
    return [
        GoldenRow(f"{row.cloud}, mean radius at {row.size}", max(row.ours / row.published - 1, 0.0), SLACK - 1, row.ok)
        for row in check_tree_file(path)
    ]


def _tree(arrays, positions, config):
    """The file's own tree. Several samples lie one after the other, with indices that count through all of them."""
    samples = 1 if "batch_idx" not in arrays else int(arrays["batch_idx"].max()) + 1
    order, mask = (torch.from_numpy(arrays[name]).reshape(samples, -1) for name in ("tree_idx", "tree_mask"))
    rotation = None
    if "rotated_perm" in arrays and config.rotates:
        rotation = torch.from_numpy(arrays["rotated_perm"]).reshape(samples, -1) % order.shape[1]
    sizes = dict(ball_size=config.ball_size, block_size=config.block_size)
    return BallTree.from_arrays(order, mask, positions, rotation=rotation, **sizes)


def _compare(name, ours, expected, tolerance=TOLERANCE):
    if tuple(ours.shape) != expected.shape:
        came = tuple(ours.shape)
        raise BsavizError(f"{name} is {expected.shape} in the file but the model gives {came}; check its config")
    difference = np.abs(ours.detach().double().numpy() - expected).max()
    error = float(difference / max(np.abs(expected).max(), np.finfo(np.float32).tiny))
    return GoldenRow(name, error, tolerance, error <= tolerance)


def _compare_blocks(indices, expected):
    ours = indices.sort(-1).values.numpy()
    if ours.shape != expected.shape:
        raise BsavizError(f"selected is {expected.shape} in the file, the model gives {ours.shape}; check its config")
    differing = float((ours != np.sort(expected, -1)).any(-1).mean())
    return GoldenRow("selected blocks", differing, 0.0, differing == 0)


def _settings(arrays, path):
    return golden_settings(_config(arrays, path))


def _config(arrays, path):
    try:
        text = arrays["config"].item()
        config = json.loads(text)
        if not isinstance(config, dict):
            raise ValueError("it is no JSON object")
    except (KeyError, TypeError, ValueError) as error:
        raise BsavizError(f"{path} has no readable 'config' (a JSON object as text); copy the file again") from error
    return config


def _tensor(arrays, name):
    return torch.from_numpy(arrays[name]).double()


def _check_numbers(arrays, path):
    """Refuse arrays other than numbers, where numbers are expected: all but the texts beside them."""
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" and name not in ("config", "note"):
            raise BsavizError(f"{path}: {name} holds {array.dtype}, expected numbers; write the file again")
