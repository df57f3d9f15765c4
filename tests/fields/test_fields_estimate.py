"""Memory is told before it is taken, and what is told holds."""

import subprocess
import sys

import numpy as np
import pytest
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import Trace, estimate, receptive_field
from bsaviz.fields.memory import free_memory

_MEASURE = """
from pathlib import Path
import numpy as np, torch
from bsaviz.fields import estimate, receptive_field
from bsaviz.models import build

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024

torch.set_num_threads(1)
points = np.random.default_rng(0).normal(size=(16384, 3)).astype(np.float32)
model = build("bsa-group-compression", "small", depth=2)
for choice in (
    dict(query=range(100), layers=1),
    dict(query=0, kinds=("reach", "rollout")),
    dict(query=0, layers=1, kinds="gradient"),
    dict(query=0, kinds="model_gradient"),
):
    receptive_field(model, points[:600], **{**choice, "query": 0})
    told = estimate(model, points, **choice)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmHWM")
    receptive_field(model, points, **choice)
    print(told, memory("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux tells it")
def test_the_estimate_holds_and_is_not_far_off():
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    lines = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(lines) == 4
    for told, taken in lines:
        assert taken < told < 2**29 + 3 * taken


def test_it_counts_the_results():
    model, points = random_model(), cloud(3000)
    one, many = (estimate(model, points, range(n), layers=0, kinds="structural") for n in (1, 1001))
    assert many - one >= 1000 * 2 * 3 * 3000
    every = receptive_field(model, cloud(), [0, 1], kinds=("structural", "mass", "reach", "rollout"))
    results = sum(every[kind].nbytes for kind in ("structural", "mass", "reach", "rollout"))
    assert results < estimate(model, cloud(), [0, 1])


def from_a_trace(model, points, query, **choice):
    return Trace(model, points).receptive_field(query, **choice)


@pytest.mark.parametrize("ask", [receptive_field, from_a_trace])
def test_too_much_is_refused_before_it_runs(ask):
    message = (
        r"structural, mass of 37 queries, 2 layers, 2 heads on 37 points need about .* of results\), more than "
        r"9.3e-10 GiB; ask for fewer queries, layers=, heads= or kinds= at a time, or raise memory_limit="
    )
    with pytest.raises(BsavizError, match=message):
        ask(random_model(), cloud(), range(37), memory_limit=1)


def test_by_default_free_memory_is_the_limit(monkeypatch):
    assert free_memory() is None or free_memory() > 2**20
    monkeypatch.setattr("bsaviz.fields.memory.free_memory", lambda: 1000)
    with pytest.raises(BsavizError, match="ask for fewer queries"):
        receptive_field(random_model(), cloud(), 0)
    monkeypatch.setattr("bsaviz.fields.memory.free_memory", lambda: None)
    assert np.isfinite(receptive_field(random_model(), cloud(), 0).mass).all()
