"""The most memory that a call takes, over what is held before it."""

import contextlib
import ctypes
import gc
from pathlib import Path

import torch

MIB = 2**20


def held(device):
    """MiB of tensors on a device now; 0 for a CPU.

    Of an earlier measurement there is more left than one would think: cuBLAS keeps some tens of MiB for every stream,
    and a recorded graph is a cycle, which goes only when it is collected.
    """
    if device.type != "cuda":
        return 0.0
    gc.collect()
    return torch.cuda.memory_allocated(device) / MIB


def size(tensors):
    """Bytes of memory behind tensors, each storage once; None counts for nothing."""
    storages = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors if x is not None}
    return sum(storages.values())


def cuda_peak(call, device):
    """MiB that torch's allocator holds at most during `call`, over what it holds before."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def cpu_peak(call):
    """MiB of tensors that are held at most during `call`, over those before, on a CPU.

    It is read off the profiler, which hears of every tensor's memory: exact for a small part of a model, where the
    growth of a process is not. What libraries allocate for themselves is not in it. The profiler writes a line to
    standard error when it starts and when it stops.
    """
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = (event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]")
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / MIB


def growth(call):
    """MiB by which this process grows at most during `call`: everything is in it, rounded up to pages."""
    gc.collect()
    with contextlib.suppress(AttributeError):  # GNU's C library: hand back what is free, else a call could reuse it
        ctypes.CDLL(None).malloc_trim(0)
    with contextlib.suppress(OSError):  # where it cannot be reset, growth beyond an earlier peak is what can be seen
        Path("/proc/self/clear_refs").write_text("5")
    before = _peak_resident()
    call()
    return (_peak_resident() - before) / MIB


def _peak_resident():
    """Highest resident memory of this process in bytes, since it was last reset."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource  # macOS counts in bytes

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
