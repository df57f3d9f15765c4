"""Clouds of 65 536 points stay small: nothing of N x N is ever held."""

import subprocess
import sys

import pytest

_MEASURE = """
import resource, sys
import numpy as np, torch
from bsaviz.fields import receptive_field, summary
from bsaviz.models import build

torch.set_num_threads(1)
points = np.random.default_rng(0).normal(size=(65536, 3)).astype(np.float32)
points /= np.linalg.norm(points, axis=1, keepdims=True)
field = receptive_field(build(sys.argv[1], "small"), points, [7, 40000], layers=eval(sys.argv[2]))
np.testing.assert_allclose(summary(field).mass, field.gate, rtol=1e-4)
if sys.argv[3] == "through":
    field = receptive_field(build(sys.argv[1], "small", depth=2), points, [7, 40000], kinds=("reach", "rollout"))
    np.testing.assert_allclose(field["rollout"].sum(("branch", "point")), 1, rtol=1e-3)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads peak memory as Linux reports it, in KiB")
@pytest.mark.parametrize(
    ("name", "layers", "through"), [("bsa", "[0]", "not"), ("bsa-group-compression", "[1]", "through")]
)
def test_65536_points_on_a_cpu_stay_under_4_gib(name, layers, through):
    command = [sys.executable, "-c", _MEASURE, name, layers, through]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) / 2**20 < 4
