"""Training on real cars, where they are at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from bsaviz.datasets import load_car
from bsaviz.training import TrainConfig, evaluate, load_model, train

REAL = Path(os.environ.get("BSAVIZ_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
SAMPLES = REAL / "mlcfd_data" / "training_data" / "param0"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no real data at {REAL}; set BSAVIZ_REAL_DATA")
def test_a_model_of_one_real_car_is_measured_on_another_and_saved(make_model, tmp_path):
    car, other = (load_car(SAMPLES / name) for name in ("car_a", "car_b"))
    model = make_model(ball_size=64)
    config = TrainConfig(steps=3, num_points=512)
    metrics = train(model, [car], [other], config, progress=False, checkpoint=tmp_path / "real").metrics
    assert model.output_mean.item() == pytest.approx(car.pressure.mean(), rel=1e-5)
    assert metrics.mse.attrs["units"] == "Pa^2"
    assert np.isfinite(metrics.mse).all()
    again = evaluate(load_model(tmp_path / "real", device="cpu"), [other], TrainConfig(device="cpu"), progress=False)
    assert again.mse.item() == pytest.approx(metrics.mse.item(), rel=1e-5)
