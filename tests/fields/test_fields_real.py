"""Fields on real cars, and on a GPU."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model

from bsaviz.datasets import load_car
from bsaviz.fields import gates, receptive_field, summary
from bsaviz.models import build

REAL = Path(os.environ.get("BSAVIZ_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.mark.skipif(not REAL.is_dir(), reason="no real data: set BSAVIZ_REAL_DATA")
def test_a_shapenet_car():
    car = load_car(REAL / "mlcfd_data" / "training_data" / "param0" / "car_a")
    torch.manual_seed(0)
    model = build("bsa", "tiny")
    query = car.positions[1200].astype(float)
    field = receptive_field(model, car, query)
    assert field["query"].values.tolist() == [1200]
    assert field.structural.isel(point=1200).sel(branch="ball").all()
    assert dict(field.sizes) | dict(point=3586, layer=4, head=2, branch=3) == dict(field.sizes)
    np.testing.assert_allclose(field.mass.sum("point"), field.gate, rtol=1e-4)
    numbers = summary(field)
    assert (numbers.surface_read.sel(branch="compression").round(3) == 100).all()
    ball = numbers.sel(branch="ball")
    assert ((ball.surface_read > 0.1) & (ball.surface_read < 10)).all()
    assert (ball.mean_distance < 0.2).all()
    np.testing.assert_array_equal(gates(model, car).gate.isel(point=1200), field.gate.isel(query=0))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("name", ["bsa", "bsa-group-compression", "bsa-no-group-selection", "full", "ball"])
def test_a_gpu_gives_the_same_field(name):
    model = random_model(name, ball_size=32, block_size=8, group_size=8)
    here = receptive_field(model, cloud(150), [3, 149])
    there = receptive_field(model.cuda(), cloud(150), [3, 149])
    assert there.attrs["device"].startswith("cuda")
    np.testing.assert_array_equal(there.structural, here.structural)
    np.testing.assert_allclose(there.mass, here.mass, rtol=2e-3, atol=1e-6)
