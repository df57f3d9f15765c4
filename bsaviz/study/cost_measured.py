"""Time and memory of every part of a model, each run by itself on what it is given inside the model."""

from collections import defaultdict
from typing import NamedTuple

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bsa_kernels import pool_mean
from bsaviz.attention import ProbePoint
from bsaviz.attention.heads import Heads
from bsaviz.study.cost_parts import STEPS, operator_part, parts_of


class Call(NamedTuple):
    """One piece of work of a part: what is called, with what, and what it trains.

    Attributes
    ----------
    part : str
    function : callable
    args, kwargs : tuple, dict
    weights : list of Tensor
    """

    part: str
    function: object
    args: tuple
    kwargs: dict
    weights: list


def part_times(work, clock):
    """Milliseconds by part.

    Each part is taken out of the model and run alone, as often as the model has it: modules with what they were given
    in a forward, the branches as operators. So the kernels that compute several branches at once are not seen here, nor
    what lies between the parts (residuals, reordering, gating of the branches, the optimiser): the whole model's time
    is another than the sum, and both are worth knowing.

    Parameters
    ----------
    work : Workload
    clock : callable
        Median milliseconds of a callable.

    Returns
    -------
    dict of str to dict
        For ``"forward"`` and ``"training"`` (forward with backward): milliseconds by part.
    """
    ms = {name: defaultdict(float) for name in STEPS}
    for call, count in _calls_of(work):
        for name, run in zip(STEPS, _runs(call, work)):
            ms[name][call.part] += count * clock(run)
    return ms


def part_peaks(work, peak):
    """Most memory that a call of each part takes: as :func:`part_times`, with MiB of a callable in place of its time.

    Where a part is several calls, the largest of them counts.
    """
    mib = {name: defaultdict(float) for name in STEPS}
    for call, _ in _calls_of(work):
        for name, run in zip(STEPS, _runs(call, work)):
            mib[name][call.part] = max(mib[name][call.part], peak(run))
    return mib


def _calls_of(work):
    """Pairs (call, how often the model makes such a call) of one forward: calls of equal shapes count as one."""
    model, found, counts = work.model, {}, defaultdict(int)
    alone = lambda x: x.detach().requires_grad_(x.requires_grad)

    def keep(part, function, args, kwargs, weights=()):
        args, kwargs = tree_map_only(torch.Tensor, alone, (args, kwargs))
        call = Call(part, function, args, kwargs, list(weights))
        shapes = [(tuple(x.shape), x.dtype) for x in tree_leaves((call.args, call.kwargs)) if torch.is_tensor(x)]
        kind = type(call.function) if isinstance(call.function, torch.nn.Module) else call.function
        key = (call.part, kind, str(shapes), str([tuple(w.shape) for w in call.weights]))
        found.setdefault(key, call)
        counts[key] += 1

    hooks = []
    for module, part in parts_of(model).items():
        if not isinstance(module, Heads):
            hooks.append(module.register_forward_pre_hook(_recorder(part, keep), with_kwargs=True))
    # What is observed is computed: the branches one by one, and not in a kernel that does all at once.
    watched = [m for m in model.modules() if isinstance(m, ProbePoint)]
    hooks += [m.register_forward_hook(lambda *_: None) for m in watched]
    attention = next((m for m in model.modules() if isinstance(m, Heads)), None)
    try:
        with _Operators(keep, "full" if "full" in attention.branches else "window", _block_size(model)):
            work.predict()
    finally:
        for hook in hooks:
            hook.remove()
    return [(found[key], counts[key]) for key in found]


def _recorder(part, keep):
    def hook(module, args, kwargs):
        keep(part, module, args, kwargs, [p for p in module.parameters() if p.requires_grad])

    return hook


class _Operators(TorchFunctionMode):
    """Hands every call of a branch's operator to `keep`; a mode of this thread alone."""

    def __init__(self, keep, dense, block_size):
        super().__init__()
        self.keep, self.dense, self.block_size = keep, dense, block_size

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        part = self.dense if function is F.scaled_dot_product_attention else operator_part(function)
        if part is not None:
            self.keep(part, function, args, kwargs)
        if part == "selection" and self.block_size:  # means of blocks are no operator: keys and values, as it has them
            for x in args[1:3]:
                self.keep("pooling", pool_mean, (x, args[4], self.block_size), {})
        return function(*args, **kwargs)


def _block_size(model):
    """Points of a block, if its mean is its coarse vector: perceptrons are modules of their own."""
    return getattr(model.config, "block_size", None) if getattr(model.config, "pooling", None) == "mean" else None


def _runs(call, work):
    """The call alone, and with its backward."""
    args, kwargs, on_gpu = call.args, call.kwargs, work.device.type == "cuda"

    def run():
        with torch.autocast("cuda", torch.bfloat16, enabled=on_gpu, cache_enabled=False):
            out = call.function(*args, **kwargs)
        return next(x for x in tree_leaves(out) if torch.is_tensor(x))

    def forward():
        with torch.no_grad():
            run()

    wanted = [*call.weights, *(x for x in tree_leaves((args, kwargs)) if torch.is_tensor(x) and x.requires_grad)]

    def training():
        out = run()
        if out.requires_grad:
            torch.autograd.grad(out, wanted, torch.ones_like(out), allow_unused=True)

    return forward, training
