"""Settings are checked once, with a message that says what was wrong."""

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.training import TrainConfig, pick_device


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"steps": 10.5}, "steps must be a whole number of at least 1, got 10.5"),
        ({"batch_size": True}, "batch_size must be a whole number of at least 1, got True"),
        ({"learning_rate": 0}, "learning_rate must be above 0, got 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or above, got -0.1"),
        ({"warmup": -1}, "warmup must be a whole number of at least 0, got -1"),
        ({"warmup": 5, "steps": 5}, "warmup must be below steps=5, got 5"),
        ({"clip": 0.0}, "clip must be above 0, or None, got 0.0"),
        ({"ema": 1.0}, "ema must be between 0 and 1, or None, got 1.0"),
        ({"num_points": 0}, "num_points must be a whole number of at least 1 or None, got 0"),
        ({"draw": "twice"}, "draw must be 'step' or 'once', got 'twice'"),
        ({"features": "normals"}, "features must be a tuple of field names, got 'normals'"),
        ({"eval_every": 0}, "eval_every must be a whole number of at least 1 or None, got 0"),
        ({"checkpoint_every": "5"}, "checkpoint_every must be a whole number of at least 1 or None, got '5'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, message):
    with pytest.raises(BsavizError) as error:
        TrainConfig(**settings)
    assert message in str(error.value)


def test_learning_rate_is_the_cosine_of_torch():
    config = TrainConfig(steps=20, learning_rate=0.3)
    weight = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([weight], lr=0.3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=20)
    for step in range(20):
        assert config.learning_rate_at(step) == pytest.approx(cosine.get_last_lr()[0], rel=1e-12)
        optimiser.step()
        cosine.step()


def test_warm_up_rises_to_the_learning_rate_and_the_cosine_starts_there():
    config = TrainConfig(steps=20, warmup=4, learning_rate=0.4)
    assert [config.learning_rate_at(step) for step in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4])
    assert config.learning_rate_at(12) == pytest.approx(0.2)


def test_device_is_picked_or_refused():
    assert pick_device("cpu").type == "cpu"
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(BsavizError, match="device 'gpu' is not known to torch; use 'cpu' or 'cuda'"):
        pick_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_cuda_where_there_is_none_is_refused():
    with pytest.raises(BsavizError, match="torch sees no CUDA device here; use device='cpu'"):
        pick_device("cuda")
