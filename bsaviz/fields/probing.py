"""Look at what a model computes on the way, by name."""

import difflib
import fnmatch
from contextlib import ExitStack, contextmanager

import torch

from bsaviz._checks import BsavizError
from bsaviz.attention.probe_point import ProbePoint

# Last part of a name -> (shape, meaning). B samples, N slots in leaf order, C channels, H heads, d channels of a head,
# M = N / block_size blocks, G groups, k selected blocks.
POINTS = {
    "embed": ("(B, N, C)", "embedded points, before the first layer"),
    "input": ("(B, N, C)", "what a layer is given"),
    "output": ("(B, N, C)", "what a layer gives"),
    "q": ("(B, H, N, d)", "queries"),
    "k": ("(B, H, N, d)", "keys"),
    "v": ("(B, H, N, d)", "values"),
    "q_coarse": ("(B, H, M, d)", "one query for each block (group compression or coarse scores)"),
    "k_coarse": ("(B, H, M, d)", "one key for each block"),
    "v_coarse": ("(B, H, M, d)", "one value for each block"),
    "gate": ("(B, H, N, 3)", "gates of ball, compression and selection, after the sigmoid"),
    "indices": ("(B, H, G, k)", "blocks chosen by each group, best first; -1 = missing slot"),
    "ball": ("(B, H, N, d)", "output of the ball branch, before its gate"),
    "compression": ("(B, H, N, d)", "output of the compression branch, before its gate"),
    "selection": ("(B, H, N, d)", "output of the selection branch, before its gate"),
    "window": ("(B, H, N, d)", "output of the sliding window, before its gate"),
    "ball_lse": ("(B, H, N)", "log-sum-exp of the scores in the ball branch; -inf where nothing is read"),
    "compression_lse": ("(B, H, N)", "log-sum-exp of the scores in the compression branch"),
    "selection_lse": ("(B, H, N)", "log-sum-exp of the scores in the selection branch"),
    "out": ("(B, N, C)", "output of the attention, after its projection"),
}


class UnknownProbe(BsavizError, KeyError):
    """A name that the model has no probe point for."""

    __str__ = BaseException.__str__  # KeyError would show the message in quotes


class Record(dict):
    """Tensors by probe name, filled by every forward pass inside the `probe` block (the last pass stands).

    A name that is not there raises an error (a BsavizError and a KeyError) that lists the nearest names.
    """

    def __init__(self, watched):
        super().__init__()
        self._watched = tuple(watched)

    def __missing__(self, name):
        if name in self._watched:
            raise UnknownProbe(f"{name!r} is watched but not recorded yet: run the model inside the with block")
        raise UnknownProbe(f"{name!r} is not recorded{_nearest(name, self._watched)}")

    def table(self):
        """Name, shape, dtype and meaning of what has been recorded, as text."""
        rows = [("name", "shape", "dtype", "meaning")]
        for name, tensor in self.items():
            rows.append((name, str(tuple(tensor.shape)), str(tensor.dtype).removeprefix("torch."), _meaning(name)))
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join("  ".join([*(text.ljust(w) for text, w in zip(row, widths)), row[3]]) for row in rows)


@contextmanager
def probe(model, names_filter=None, *, detach=True, device=None):
    """Record named tensors of every forward pass inside the block; the hooks are gone after it, however it ends.

    ============================================ ============== ====================================================
    name                                         shape          meaning
    ============================================ ============== ====================================================
    ``embed``                                    (B, N, C)      embedded points, before the first layer
    ``layers.{i}.input``, ``layers.{i}.output``  (B, N, C)      what a layer is given and gives
    ``layers.{i}.attn.q``, ``.k``, ``.v``        (B, H, N, d)   queries, keys, values
    ``layers.{i}.attn.q_coarse``, ``.k_coarse``, (B, H, M, d)   one for each block (q_coarse with group compression or
    ``.v_coarse``                                               coarse scores)
    ``layers.{i}.attn.gate``                     (B, H, N, 3)   gates of the branches, after the sigmoid: ball,
                                                                compression, selection; of NSA the window comes last
    ``layers.{i}.attn.indices``                  (B, H, G, k)   blocks chosen by each group, best first; -1 = missing
    ``layers.{i}.attn.ball``, ``.compression``,  (B, H, N, d)   output of each branch, before its gate
    ``.selection``, ``.window``
    ``layers.{i}.attn.ball_lse``,                (B, H, N)      log-sum-exp of the scores in each branch; -inf where
    ``.compression_lse``, ``.selection_lse``                    nothing is read
    ``layers.{i}.attn.out``                      (B, N, C)      output of the attention, after its projection
    ============================================ ============== ====================================================

    B samples, N slots in leaf order, C channels, H heads of d channels, M blocks, G groups, k selected blocks.
    Everything under ``layers.{i}`` is in the leaf order of that layer's own tree, which in odd layers is the rotated
    one: with ``tree = model.tree(positions)``, ``tree.scatter`` or ``tree.rotated.scatter`` brings (B, N, ...) to input
    order. A model has the names that its attention kind has: see `probe_names`.

    Parameters
    ----------
    model : torch.nn.Module
        A model of bsaviz, or one of its parts (names are then relative to the part).
    names_filter : None, str, sequence of str, or callable
        All names; one name or glob (``"layers.*.attn.gate"``); several of them; or a function of a name.
    detach : bool
        False keeps the graph, and each tensor's ``.grad`` after a backward pass.
    device : str or torch.device, optional
        Move what is recorded there, e.g. ``"cpu"``. Tensors that are not moved share the model's memory.

    Yields
    ------
    Record
        Dict of name -> tensor.

    Raises
    ------
    BsavizError
        For a name or glob that matches nothing (lists near ones), and a model without probe points.

    Examples
    --------
    >>> with bsaviz.probe(model, "layers.0.attn.*") as record:  # doctest: +SKIP
    ...     model(positions)
    >>> record["layers.0.attn.indices"]  # doctest: +SKIP
    """
    points = _points(model)
    names = _chosen(names_filter, list(points))
    record = Record(names)
    with ExitStack() as hooks:
        for name in names:
            handle = points[name].register_forward_hook(_recorder(record, name, detach, device))
            hooks.callback(handle.remove)
        yield record


def probe_names(model):
    """Names of a model's probe points, with shape and meaning: a dict of name -> text, in the order of the modules."""
    return {name: f"{_shape(name)} {_meaning(name)}".strip() for name in _points(model)}


def _recorder(record, name, detach, device):
    def keep(module, inputs, output):
        if detach:
            record[name] = output.detach() if device is None else output.detach().to(device)
            return
        kept = output if device is None else output.to(device)
        if kept.requires_grad:
            kept.retain_grad()
        record[name] = kept

    return keep


def _points(model):
    if not isinstance(model, torch.nn.Module):
        raise BsavizError(f"probe needs a torch.nn.Module, got {type(model).__name__}")
    points = {name: module for name, module in model.named_modules() if isinstance(module, ProbePoint)}
    if not points:
        raise BsavizError(f"{type(model).__name__} has no probe points; build a model with bsaviz.models.build(...)")
    return points


def _chosen(names_filter, names):
    """Names that the filter picks, in the order of the modules."""
    if names_filter is None:
        return names
    if callable(names_filter):
        chosen = [name for name in names if names_filter(name)]
        if not chosen:
            raise UnknownProbe(f"names_filter picked none of the {len(names)} probe points; they are {_few(names)}")
        return chosen
    patterns = [names_filter] if isinstance(names_filter, str) else list(names_filter)
    chosen = set()
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise BsavizError(f"names_filter takes names and globs, got {pattern!r} among them")
        matched = [name for name in names if fnmatch.fnmatchcase(name, pattern)]
        if not matched:
            raise UnknownProbe(f"{pattern!r} matches no probe point{_nearest(pattern, names)}")
        chosen.update(matched)
    if not chosen:
        raise BsavizError("names_filter is empty; leave it out to record every probe point")
    return [name for name in names if name in chosen]


def _nearest(name, names):
    near = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
    return f"; near names: {', '.join(near)}" if near else f"; the names are {_few(names)}"


def _few(names):
    return ", ".join(names[:30]) + (f", ... ({len(names)} in all)" if len(names) > 30 else "")


def _shape(name):
    return POINTS.get(name.rpartition(".")[2], ("", ""))[0]


def _meaning(name):
    return POINTS.get(name.rpartition(".")[2], ("", ""))[1]
