"""Small cars and small models, so that a training test takes about a second."""

import pytest
import torch

from bsaviz.datasets import generated_cars
from bsaviz.models import build


@pytest.fixture(scope="session")
def cars():
    """Six generated cars of 128 to 188 points: batches are ragged."""
    return [car.subsample(128 + 12 * i) for i, car in enumerate(generated_cars(range(6)))]


@pytest.fixture
def make_model():
    """A tiny model with the same weights at every call."""

    def make(name="bsa", **overrides):
        torch.manual_seed(1)
        return build(name, "tiny", **{"depth": 2, "ball_size": 32, **overrides})

    return make
