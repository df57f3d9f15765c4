"""The training monitor without a browser: it trains, stops, says what is wrong, and draws what it was told."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import training_cars
from bsaviz.models import build
from bsaviz.training import TrainConfig
from bsaviz.ui import TrainingMonitor
from bsaviz.ui.charts import log_ticks
from bsaviz.ui.training_monitor import gate_chart, loss_axis, loss_chart, running_mean


@pytest.fixture(scope="module")
def cars():
    train_cars, test_cars = training_cars()
    return [car.subsample(256) for car in train_cars[:2]], [test_cars[0].subsample(256)]


@pytest.fixture
def monitor(cars):
    config = TrainConfig(steps=20, batch_size=1, num_points=256, eval_every=10, device="cpu")
    made = TrainingMonitor(build("bsa", "tiny", depth=1), *cars, config=config)
    yield made
    made.close()


def test_it_trains_and_hands_on_the_model_and_its_history(monitor):
    assert (monitor.start.disabled, monitor.stop.disabled) == (False, True)
    monitor.begin()
    assert (monitor.start.disabled, monitor.stop.disabled, monitor.steps.disabled) == (True, False, True)
    monitor.wait()
    assert monitor.status.value.startswith("finished · step 20 of 20 · checkpoint of step 20")
    assert monitor.history.sizes["step"] == 20
    assert monitor.model().config.depth == 1
    assert "relative L2 on test cars" in monitor.charts.value
    assert "selection" in monitor.charts.value
    assert (monitor.start.disabled, monitor.progress.value) == (False, 20)


@pytest.mark.parametrize(("steps", "learning_rate"), [(6, 0.5), (5000, 1e-6)])
def test_its_sliders_take_the_configuration_as_it_is(cars, steps, learning_rate):
    monitor = TrainingMonitor(None, *cars, config=TrainConfig(steps=steps, learning_rate=learning_rate, device="cpu"))
    assert monitor.steps.value == steps
    assert 10**monitor.learning_rate.value == pytest.approx(learning_rate)
    monitor.close()


def test_what_cannot_be_trained_is_said_in_place(cars):
    monitor = TrainingMonitor(build("bsa", "tiny", in_features=2), *cars, config=TrainConfig(steps=20, device="cpu"))
    monitor.begin()
    monitor.wait()
    assert "in_features=2" in monitor.message.value
    assert not monitor.start.disabled
    with pytest.raises(BsavizError, match="there is no checkpoint yet"):
        monitor.model()
    monitor.close()


def test_nothing_to_hand_on_before_the_start(monitor):
    assert monitor.history is None
    with pytest.raises(BsavizError, match="nothing was trained yet"):
        monitor.model()


def test_charts_hold_every_curve_and_stay_inside():
    losses = [(step, 10.0 / step, 0.1 * step) for step in range(1, 2001)]
    measured = [dict(step=s, errors={"relative_l2": 0.5}, gates={"ball": 0.4, "window": 0.6}) for s in (0, 1000, 2000)]
    drawn = loss_chart(losses, measured)
    assert drawn.count("<path") == 4  # axes and three curves
    assert all(name in gate_chart(measured) for name in ("ball", "window"))
    assert gate_chart([dict(step=0, errors={}, gates=None)]) == ""
    assert len(drawn) < 60_000
    assert loss_chart([], []).startswith("<svg")


@pytest.mark.parametrize(
    ("losses", "expected", "log"),
    [([0.5, 2.0, np.nan], (0.5 / 1.2, 2.4), True), ([-1.0, 3.0], (-1.4, 3.4), False), ([np.inf], (0.01, 1.0), True)],
)
def test_the_axis_of_the_loss_holds_what_is_finite(losses, expected, log):
    limits, logarithmic = loss_axis(np.array(losses))
    assert limits == pytest.approx(expected)
    assert logarithmic == log
    drawn = loss_chart([(step, loss, 0.1) for step, loss in enumerate(losses)], [])
    assert "nan" not in drawn
    assert ("logarithmic" in drawn) == log


def test_ticks_of_a_logarithmic_axis():
    assert log_ticks(0.009, 1.1) == pytest.approx([0.01, 0.1, 1])
    assert log_ticks(0.3, 2.4) == pytest.approx([0.5, 1, 2])
    assert log_ticks(0.75, 0.95) == pytest.approx([0.75, 0.8, 0.85, 0.9, 0.95])


def test_a_stop_before_the_first_step_ends_at_once(monitor):
    monitor.begin()
    monitor.halt()
    assert monitor.status.value == "stopped · before the first step, so there is no checkpoint"
    assert not monitor.start.disabled
    monitor.begin()
    assert monitor.status.value.startswith("starting · a process loads the libraries, 0 s")


def test_running_mean():
    np.testing.assert_allclose(running_mean(np.arange(5.0), window=2), [0, 0.5, 1.5, 2.5, 3.5])
