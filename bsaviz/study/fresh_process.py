"""Peak memory on a CPU, taken in a process that has not worked before.

An allocator keeps what it was once given: in a process that has worked before, a call may find its memory ready and add
nothing.
"""

import json
import os
import subprocess
import sys
from dataclasses import asdict

import torch

from bsaviz._checks import BsavizError
from bsaviz.models import rebuild
from bsaviz.study.cost_measured import part_peaks
from bsaviz.study.peak_memory import cpu_peak, growth
from bsaviz.study.workload import Workload

WARM_POINTS = 64
LARGE = str(64 * 1024)  # bytes from which the C library takes memory from the system and gives it back at once


def cpu_peaks(model, num_points, batch, *, parts=False):
    """MiB by which a fresh process with such a model grows in a forward and in a training step.

    Parameters
    ----------
    model : PointModel
        Only its class and configuration count.
    num_points, batch : int
    parts : bool
        Also by part.

    Returns
    -------
    dict
        ``"forward"`` and ``"training"``; with `parts` also ``"parts"``, as :func:`part_peaks` gives it.

    Raises
    ------
    BsavizError
        Where the process fails, as when memory runs out.
    """
    task = {"model": type(model).__name__, "config": asdict(model.config), "parts": parts}
    task |= {"num_points": num_points, "batch": batch, "threads": torch.get_num_threads()}
    command = [sys.executable, "-c", "from bsaviz.study.fresh_process import measure_here; measure_here()"]
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
    found = {"forward": growth(work.forward), "training": growth(work.training_step)}
    if task["parts"]:
        found["parts"] = part_peaks(work, cpu_peak)
    json.dump(found, sys.stdout)
