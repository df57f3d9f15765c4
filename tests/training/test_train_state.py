"""The generators of python, numpy and torch go on where they were."""

import json
import random

import numpy as np
import pytest
import safetensors.torch
import torch

from bsaviz.training import TrainConfig, train
from bsaviz.training.loop import seed_everything
from bsaviz.training.state import random_state, set_random_state


def draw():
    numpy = np.random  # the global generator
    return [random.random(), random.gauss(0, 1), numpy.standard_normal(), numpy.rand(), torch.rand(3).tolist()]


@pytest.mark.parametrize("drawn", [0, 1, 700])
def test_random_states_survive_json_and_safetensors(drawn):
    seed_everything(11)
    for _ in range(drawn):
        draw()
    numbers, tensors = random_state(torch.device("cpu"))
    stored = safetensors.torch.load(safetensors.torch.save(tensors))
    expected = [draw() for _ in range(5)]
    seed_everything(99)
    set_random_state(json.loads(json.dumps(numbers)), stored)
    assert [draw() for _ in range(5)] == expected


def test_the_state_lies_beside_the_checkpoint_as_plain_files(cars, make_model, tmp_path):
    config = TrainConfig(steps=2, ema=0.5)
    train(make_model(), cars[:2], config=config, progress=False, checkpoint=tmp_path / "run.safetensors")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["run.json", "run.safetensors", "run.train.json", "run.train.safetensors"]
    tensors = safetensors.torch.load_file(tmp_path / "run.train.safetensors")
    heads = {name.partition(".")[0] for name in tensors}
    assert heads == {"model", "optimiser", "average", "history", "random"}
    assert json.loads((tmp_path / "run.train.json").read_text())["step"] == 2
