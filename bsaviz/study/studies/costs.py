"""Times and memory of the studies' models, each alone on the device."""

import torch

from bsaviz.models import build
from bsaviz.study.bench_training import captured, time_ms
from bsaviz.study.cost import median_ms
from bsaviz.study.peak_memory import cuda_peak
from bsaviz.study.workload import SEED, Workload
from bsaviz.training import pick_device

NUM_POINTS = 3586  # of a car
REPEATS = 20


def measure_costs(plan, names, *, num_points=NUM_POINTS, device=None, done=lambda name, row: None):
    """Time a forward and a training step of variants of a plan, and their peak memory, for one cloud.

    On a GPU both are recorded as CUDA graphs, as they are in training, so that what is timed is the work of the device
    and not the launching of it. A variant that fails is left out.

    Parameters
    ----------
    plan : SweepPlan
    names : sequence of str
        Of its variants.
    num_points : int
    device : str, optional
    done : callable
        Told each name and its row.

    Returns
    -------
    dict of str to dict
        ``forward_ms``, ``training_ms`` and, on a GPU, ``forward_mib``, ``training_mib``.
    """
    device, rows = pick_device(device), {}
    for name in names:
        try:
            rows[name] = _costs(plan, name, num_points, device)
        except Exception as error:  # noqa: BLE001  one model that cannot run must not end the others
            done(name, f"{type(error).__name__}: {error}")
        else:
            done(name, rows[name])
    return rows


def _costs(plan, name, num_points, device):
    _, model, preset, settings, _ = plan.arguments({"variant": name})
    torch.manual_seed(SEED)
    work = Workload(build(model, preset, **settings), num_points, 1, device)
    calls = {"forward": work.forward, "training": work.training_step}
    if device.type != "cuda":
        return {f"{key}_ms": median_ms(call, device, 3) for key, call in calls.items()}
    row = {f"{key}_ms": time_ms(captured(call), REPEATS, warm=2) for key, call in calls.items()}
    torch.cuda.empty_cache()
    work = Workload(build(model, preset, **settings), num_points, 1, device)
    peaks = {"forward_mib": cuda_peak(work.forward, device), "training_mib": cuda_peak(work.training_step, device)}
    return row | peaks
