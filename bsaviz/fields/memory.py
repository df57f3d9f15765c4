"""How much memory a request for fields takes, told before it is taken."""

import math
import os

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.fields.collecting import BY_HEAD, KIND, THROUGH, Collector
from bsaviz.fields.gradient import AT_ONCE as AT_ONCE_GRADIENT
from bsaviz.fields.layerwise import AT_ONCE
from bsaviz.fields.surface import as_surface
from bsaviz.fields.tracing import check_model, tree_of

# How many numbers for each slot and channel are held at once, and how many arrays of a chunk: rounded up from measured
# peaks, which the tests hold against the estimates.
_PASS = 30  # a layer running without a graph
_KEPT = 6  # a layer's trace
_GRAPH = 50  # a layer running with its graph
_ARRAYS = 8


def estimate(model, car, query, *, layers=None, heads=None, kinds=("structural", "mass")):
    """Bytes that `receptive_field` will need at its peak for these arguments: its results and its work.

    Nothing is run but the building of a tree. It is rounded up: a bound to plan with, not a measurement.

    Parameters
    ----------
    model, car, query, layers, heads, kinds
        As in `receptive_field`.

    Returns
    -------
    int

    Raises
    ------
    BsavizError
        As `receptive_field` for these arguments.

    Examples
    --------
    >>> bsaviz.fields.estimate(model, car, range(3586)) / 2**30  # GiB  # doctest: +SKIP
    """
    check_model(model)
    surface = as_surface(car, model)
    sites = model.attention_sites(tree_of(model, surface))
    return sum(needed(model, Collector(sites, surface, query, layers, heads, kinds), sites))


def needed(model, asked, sites):
    """Bytes of the results and of the work of a `Collector`."""
    return _results(asked), _work(model, asked, sites)


def check_memory(model, asked, sites, limit=None):
    """Refuse what needs more than `limit` bytes, by default the memory that is free.

    Raises
    ------
    BsavizError
        Says how much is needed, what for, and what to ask for instead.
    """
    limit = free_memory() if limit is None else limit
    results, work = needed(model, asked, sites)
    if limit is not None and results + work > limit:
        count = f"{len(asked.queries)} queries, {len(asked.layers)} layers, {len(asked.heads)} heads"
        raise BsavizError(
            f"{', '.join(asked.kinds)} of {count} on {len(asked.surface.positions)} points need about "
            f"{_gib(results + work)} ({_gib(results)} of results), more than {_gib(limit)}; ask for fewer queries, "
            "layers=, heads= or kinds= at a time, or raise memory_limit= (bytes)"
        )


def free_memory():
    """Bytes of memory that can be had without swapping, or None where the system does not tell."""
    try:
        with open("/proc/meminfo") as lines:
            told = dict(line.split(":") for line in lines)
        return int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _results(asked):
    """The arrays of the dataset."""
    size = lambda kind: math.prod(asked.sizes[dim] for dim in kind.dims) * np.dtype(kind.dtype).itemsize
    return sum(size(KIND[name]) for name in asked.kinds)


def _work(model, asked, sites):
    """Everything else at its peak."""
    number = next(model.parameters()).element_size()
    channels = [len(site.attended) * site.attention.dim * number for site in sites]
    most = max(channels)
    work = [_PASS * most]
    if any(KIND[name].of_layer for name in asked.kinds):
        of_layer = asked.sizes | {"layer": 1}
        work.append(math.prod(of_layer[dim] for dim in BY_HEAD) * 4)
        work.append(_ARRAYS * 8 * min(AT_ONCE, len(asked.queries.points) * asked.sizes["head"] * asked.sizes["point"]))
    if "gradient" in asked.kinds:
        work.append(_GRAPH * most + _ARRAYS * max(AT_ONCE_GRADIENT * number, 3 * most))
    if asked.through:
        state = math.prod(asked.sizes[dim] for dim in THROUGH) * number
        work.append(_KEPT * sum(channels[layer] for layer in asked.visits) + 4 * state + 12 * AT_ONCE * number)
    if "model_gradient" in asked.kinds:
        work.append(_GRAPH * sum(channels))
    return sum(work)


def _gib(count):
    return f"{count / 2**30:.2g} GiB"
