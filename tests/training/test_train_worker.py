"""A training in its own process: watched, stopped within a second, and its checkpoint whole."""

import time

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.datasets import training_cars
from bsaviz.models import build
from bsaviz.training import TrainConfig, TrainingWorker, checkpoint_info, train


@pytest.fixture(scope="module")
def cars():
    train_cars, test_cars = training_cars()
    return [car.subsample(256) for car in train_cars[:2]], [test_cars[0].subsample(256)]


def model():
    torch.manual_seed(0)
    return build("bsa", "tiny", depth=2)


def test_stop_ends_within_a_second_and_the_run_goes_on_from_there(cars, tmp_path):
    config = TrainConfig(steps=10_000, batch_size=1, num_points=256, eval_every=5, device="cpu")
    worker = TrainingWorker(model(), *cars, config, tmp_path / "x")
    told = []
    while not any("loss" in news for news in told):
        told += worker.wait(0.1)
        assert worker.running, worker.error
    asked = time.monotonic()
    worker.stop()
    told += worker.wait(10)
    assert time.monotonic() - asked < 1
    assert worker.state == "stopped"
    steps = [news["step"] for news in told if "loss" in news]
    assert steps == list(range(1, worker.saved + 1))
    assert checkpoint_info(tmp_path / "x")["meta"]["step"] == worker.saved
    assert worker.model().config == model().config
    assert set(told[0]["gates"]) == {"ball", "compression", "selection"}
    worker.close()
    again = train(model(), *cars, config, progress=False, resume=tmp_path / "x",
                  should_stop=iter([False, False, True]).__next__)  # fmt: skip
    assert again.metrics.attrs["steps"] == worker.saved + 2


def test_it_finishes_with_the_result_of_a_plain_run(cars, tmp_path):
    config = TrainConfig(steps=3, batch_size=1, num_points=256, device="cpu")
    given = model()
    worker = TrainingWorker(given, *cars, config, tmp_path / "x")
    worker.wait()
    assert all(torch.equal(a, b) for a, b in zip(given.parameters(), model().parameters())), "only a copy is trained"
    plain = train(model(), *cars, config, progress=False)
    assert worker.state == "finished"
    assert worker.result.history.loss.values.tolist() == pytest.approx(plain.history.loss.values.tolist(), rel=1e-4)
    worker.close()


def test_a_stop_that_is_heard_of_late_is_a_stop(cars, tmp_path):
    worker = TrainingWorker(model(), *cars, TrainConfig(steps=3, device="cpu"), tmp_path / "x")
    worker.state = "stopping"
    for news in (("watch", dict(saved=1, last=False)), ("watch", dict(saved=2, last=True)), ("finished", "late")):
        worker._news.put(news)
    told = worker.wait(10)
    assert (worker.state, worker.saved, worker.result) == ("stopped", 2, None)
    assert [news["saved"] for news in told] == [1, 2]
    worker.close()


def test_neither_start_nor_a_stop_before_the_first_step_waits_for_the_process(tmp_path):
    train_cars, _ = training_cars()
    begun = time.monotonic()
    worker = TrainingWorker(model(), train_cars, None, TrainConfig(steps=3, device="cpu"), tmp_path / "x")
    assert time.monotonic() - begun < 2, "the process takes longer to load its libraries"
    asked = time.monotonic()
    worker.stop()
    worker.close()
    assert time.monotonic() - asked < 1
    assert worker.state == "stopped"
    assert not list(tmp_path.iterdir())
    with pytest.raises(BsavizError, match="there is no checkpoint yet"):
        worker.model()


def test_failures_are_told(cars, tmp_path):
    wrong = build("bsa", "tiny", depth=1, in_features=3)
    worker = TrainingWorker(wrong, *cars, TrainConfig(steps=3, device="cpu"), tmp_path / "x")
    with pytest.raises(BsavizError, match="there is no checkpoint yet"):
        worker.model()
    worker.wait()
    assert worker.state == "failed"
    assert "in_features=3" in worker.error
    worker.close()


def test_event_is_granted_within_a_step(cars):
    class Event:
        """Set once half of the layers of the first step have been seen."""

        asked = 0

        def is_set(self):
            self.asked += 1
            return self.asked > 4

    event, before = Event(), model()
    after = model()
    result = train(after, *cars, TrainConfig(steps=5, device="cpu"), progress=False, should_stop=event)
    assert result.stopped
    assert result.history.sizes["step"] == 0
    for old, new in zip(before.parameters(), after.parameters()):
        torch.testing.assert_close(old, new, rtol=0, atol=0)
