"""Steps read the same from the table as put together; steps recorded on a GPU are those taken one by one."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.datasets import generated_cars
from bsaviz.models import build
from bsaviz.training import TrainConfig, train
from bsaviz.training.batches import cars_of_step, collate, samples_of, with_trees
from bsaviz.training.feed import Drawn, Table, feed_of, leaf_batch
from bsaviz.training.ranks import Ranks

CPU = torch.device("cpu")
MODELS = ("bsa", "full", "nsa", "erwin", "erwin-nsa")


@pytest.fixture(scope="module")
def even_cars():
    return [car.subsample(90) for car in generated_cars(range(5))]


def samples(cars, model):
    return with_trees(samples_of(cars, model, TrainConfig(), CPU), model)


def flat(batch):
    several = lambda value: value if isinstance(value, tuple) else [value]
    arguments = [part for value in batch.arguments.values() for part in several(value)]
    return [part for part in (*arguments, batch.inverse, batch.target) if part is not None]


@pytest.mark.parametrize("name", MODELS)
def test_a_row_of_the_table_is_what_its_cars_make_together(even_cars, name):
    model, config = build(name, "tiny"), TrainConfig(steps=3, batch_size=2, loss="mse")
    some = samples(even_cars, model)
    for rank in range(2):
        ranks = Ranks(rank, 2)
        table = Table(some, model, replace(config, batch_size=4), ranks)
        for step in range(3):
            chosen = ranks.share([some[i] for i in cars_of_step(step, 5, 4, config.seed)])
            ours, theirs = table.at(torch.tensor([step])), leaf_batch(collate(chosen, model), model)
            assert (ours.sizes, ours.weight) == (theirs.sizes, 0.5)
            assert list(ours.arguments) == list(theirs.arguments)
            assert len(flat(ours)) == len(flat(theirs))
            assert all(torch.equal(a, b) for a, b in zip(flat(ours), flat(theirs)))


def test_trees_built_together_are_those_built_alone(even_cars, make_model):
    model = make_model()
    some = samples_of(even_cars, model, TrainConfig(), CPU)
    for sample, alone in zip(with_trees(some, model), some):
        tree = model.tree(alone.positions)
        for part in ("order", "mask", "positions", "rotation"):
            assert torch.equal(getattr(sample.tree, part), getattr(tree, part)), part
        assert (sample.tree.num_points, sample.tree.batch) == (tree.num_points, None)


def test_a_table_is_made_where_it_can_be_and_else_is_said_why(even_cars, cars, make_model):
    model, config = make_model(), TrainConfig(steps=2, loss="mse")
    feed = lambda some, redrawn=False, made=model: feed_of(samples(some, made), made, config, Ranks(), redrawn=redrawn)
    assert isinstance(feed(even_cars)[0], Table)
    assert feed(even_cars)[1] is None
    drawn, why = feed(cars)
    assert isinstance(drawn, Drawn)
    assert "different numbers of points (128 to 188)" in why
    assert "drawn anew in each step" in feed(even_cars, redrawn=True)[1]
    assert "different numbers of edges" in feed(even_cars, made=build("erwin", "tiny", radius=0.8))[1]


def test_a_recording_that_cannot_be_is_refused(even_cars, make_model):
    with pytest.raises(BsavizError, match="cuda_graph=True, but the steps cannot be recorded: there is no CUDA device"):
        train(make_model(), even_cars, config=TrainConfig(steps=1, device="cpu", cuda_graph=True), progress=False)
    with pytest.raises(BsavizError, match="cuda_graph must be True, False or None, got 'yes'"):
        TrainConfig(cuda_graph="yes")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", MODELS)
def test_recorded_steps_are_those_taken_one_by_one(name):
    """Sums by atomics come in any order, and with them the last bits of the models that pass messages."""
    cars, losses = generated_cars(range(4)), []
    for graph in (False, True):
        torch.manual_seed(0)
        config = TrainConfig(steps=20, ema=0.9, eval_every=7, cuda_graph=graph, device="cuda")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            losses.append(train(build(name, "small"), cars, cars[:1], config, progress=False).history.loss.values)
    np.testing.assert_allclose(*losses, rtol=2e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_that_cannot_be_recorded_are_launched_kernel_by_kernel(cars, make_model):
    with pytest.warns(UserWarning, match="kernel by kernel, since the cars have different numbers of points"):
        train(make_model(), cars, config=TrainConfig(steps=2, device="cuda"), progress=False)
