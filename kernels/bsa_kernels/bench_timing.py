"""How the benchmark times a function and its gradients: CUDA events, medians, inputs that take turns."""

import statistics

import torch

POSITIONS = 4  # place of the positions among the operator's arguments: constants, without a gradient


def measure(make, function, n, graph, once=False):
    """(forward ms, forward+backward ms, peak GiB) of function(*arguments); make(seed) gives (arguments, dout).

    The peak counts the arguments themselves. `once`: time a single call, for those that take seconds and have nothing
    to compile.
    """
    forward, both = passes(function, *make(0))
    peak, first = _peak(both)
    if once:
        return _once(forward), first, peak
    calls = [(forward, both)]
    if n <= 65536:  # larger ones do not stay in the cache
        calls += [passes(function, *make(seed)) for seed in range(1, 4)]
    return *(_median([pair[i] for pair in calls], graph) for i in range(2)), peak


def passes(function, arguments, dout):
    """Forward alone, and forward with the gradients of all floating arguments but the positions."""
    leaves = [x.requires_grad_() if x is not None and x.is_floating_point() else x for x in arguments]
    wanted = [x for i, x in enumerate(leaves) if x is not None and x.is_floating_point() and i != POSITIONS]

    def forward():
        with torch.no_grad():
            function(*leaves)

    def both():
        torch.autograd.grad(function(*leaves), wanted, dout, allow_unused=True)

    return forward, both


def _once(run):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def _peak(run):
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    first = _once(run)
    return torch.cuda.max_memory_allocated() / 2**30, first


def _median(runs, graph):
    """Median milliseconds of one call, the callables taking turns: of 3 to 40 calls in about half a second."""
    for run in runs:
        run()
    torch.cuda.synchronize()
    if graph:
        runs = [captured(run) for run in runs]
    repeats = max(3, min(40, int(500 / max(_once(runs[0]), 1e-3))))
    events = []
    for i in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        runs[i % len(runs)]()
        end.record()
        events.append((begin, end))
    torch.cuda.synchronize()
    return statistics.median(begin.elapsed_time(end) for begin, end in events)


def captured(run):
    """`run` as a CUDA graph, to be replayed."""
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
