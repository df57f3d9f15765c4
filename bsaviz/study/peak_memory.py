"""The most memory that a call takes, over what is held before it."""

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from bsaviz._checks import BsavizError
from bsaviz.models import rebuild
from bsaviz.study.workload import Workload

MIB = 2**20
WARM_POINTS = 64
LARGE = str(64 * 1024)  # bytes from which the C library takes memory from the system and gives it back at once


def cuda_peak(call, device):
    """MiB that torch's allocator holds at most during `call`, over what it holds before."""
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def cpu_peaks(model, num_points, batch):
    """MiB by which a fresh process with such a model grows in a forward, and in a training step.

    A fresh one, since an allocator keeps what it was once given: in a process that has worked before, a call may find
    its memory ready and add nothing.
    """
    task = {"model": type(model).__name__, "config": asdict(model.config)}
    task |= {"num_points": num_points, "batch": batch, "threads": torch.get_num_threads()}
    command = [sys.executable, "-c", "from bsaviz.study.peak_memory import measure_here; measure_here()"]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": LARGE}
    done = subprocess.run(command, input=json.dumps(task), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}, as when memory runs out"]
        raise BsavizError(f"the process that measures peak memory failed: {last[0]}; use fewer points, or memory=False")
    return json.loads(done.stdout)


def measure_here():
    """What :func:`cpu_peaks` runs in the fresh process: a task on standard input, the peaks on standard output."""
    task = json.load(sys.stdin)
    torch.set_num_threads(task["threads"])
    model = rebuild(task["model"], task["config"])
    work = Workload(model, WARM_POINTS, 1, torch.device("cpu"))
    work.forward()
    work.training_step()  # what libraries load at first use, and the optimiser's moments, are not counted
    work.use(task["num_points"], task["batch"])
    json.dump([_growth(work.forward), _growth(work.training_step)], sys.stdout)


def _growth(call):
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
