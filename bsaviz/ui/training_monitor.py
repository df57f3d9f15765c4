"""Training, live: started here, run in a process of its own, with loss, gates, time left and a Stop."""

import asyncio
import math
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.datasets import training_cars
from bsaviz.models import VARIANTS, build
from bsaviz.training import TrainConfig, TrainingWorker, model_sizes
from bsaviz.ui import controls, text
from bsaviz.ui.charts import Chart
from bsaviz.ui.subject import as_model
from bsaviz.view.branches import COLOURS

PAUSE = 0.2  # seconds between looks at the worker
TEST_CARS = 3  # of the packaged ones: all 16 would take longer to measure than the steps between take to train
SHOWN = 400  # steps drawn; of more, evenly spread ones
INK, PALE = "#222222", "#8A8A8A"


class TrainingMonitor:
    """Train a model from a notebook and watch it; the notebook stays free, and Stop leaves a usable checkpoint.

    Parameters
    ----------
    model : PointModel or file name, optional
        What to train (a copy is). None: chosen in the widget by name.
    train_cars, test_cars : sequence of Car or Sample, optional
        Default: the packaged generated cars, of the test cars three.
    config : TrainConfig, optional
        Default: 200 steps on 1024 points a car, measured every 20 steps. The sliders change steps, points and learning
        rate.
    checkpoint : str or Path, optional
        Where the model is written; a temporary folder by default.

    Attributes
    ----------
    widget : ipywidgets.VBox
    start, stop : ipywidgets.Button
    name, steps, num_points, learning_rate : ipywidgets widgets
        The controls; `name` only where no model was given.
    progress : ipywidgets.IntProgress
    status, message, charts : ipywidgets.HTML
    worker : TrainingWorker or None
    """

    title = "Training"

    def __init__(self, model=None, train_cars=None, test_cars=None, *, config=None, checkpoint=None):
        if train_cars is None:
            train_cars, test_cars = training_cars()
            test_cars = test_cars[:TEST_CARS]
        self.train_cars, self.test_cars = list(train_cars), None if test_cars is None else list(test_cars)
        self._given = None if model is None else as_model(model)
        self.config = config or TrainConfig(steps=200, num_points=1024, eval_every=20)
        self._folder = None if checkpoint is not None else tempfile.TemporaryDirectory(prefix="bsaviz-")
        self.checkpoint = Path(checkpoint) if checkpoint is not None else Path(self._folder.name) / "model"
        self.worker = self._task = None
        self._reading = threading.Lock()
        self._forget()
        self._make_widgets()
        self._draw()

    def begin(self, button=None):
        """Start training with the settings of the controls, anew."""
        if self.worker is not None and self.worker.running:
            return
        self.close_worker()
        self._forget()
        self.message.value = ""
        try:
            config = replace(
                self.config, steps=self.steps.value, num_points=self.num_points.value,
                learning_rate=10.0**self.learning_rate.value,
                warmup=min(self.config.warmup, self.steps.value - 1),
            )  # fmt: skip
            self._running = config
            self.worker = TrainingWorker(self._model(), self.train_cars, self.test_cars, config, self.checkpoint)
        except BsavizError as error:
            self.message.value = text.problem(str(error))
            return
        self._asked = time.monotonic()
        self._enable()
        self._draw()
        try:
            self._task = asyncio.get_running_loop().create_task(self._follow())
        except RuntimeError:  # a script: see wait
            self._task = None

    def halt(self, button=None):
        """Stop: within a second the training has ended and its checkpoint is written."""
        if self.worker is not None:
            self.worker.stop()
            self._update()

    def wait(self):
        """Follow the training until it ends; for scripts, and for later cells that need the model."""
        while self.worker is not None and self.worker.running:
            self._update()
            time.sleep(PAUSE)
        self._update()
        return self

    def model(self, device=None):
        """The model as the newest checkpoint has it."""
        if self.worker is None:
            raise BsavizError("nothing was trained yet; press Start, or call begin() and wait()")
        return self.worker.model(device)

    @property
    def history(self):
        """Of a training that has finished, as `bsaviz.train` gives it; None before."""
        result = None if self.worker is None else self.worker.result
        return None if result is None else result.history

    def close_worker(self):
        """End the process of the training."""
        if self.worker is not None:
            self.worker.close()

    def close(self):
        """End the training, and let go of the widgets and of a temporary checkpoint."""
        self.close_worker()
        self.widget.close()
        if self._folder is not None:
            self._folder.cleanup()

    def _repr_mimebundle_(self, **options):
        return self.widget._repr_mimebundle_(**options)

    def _model(self):
        if self._given is not None:
            return self._given
        sizes = model_sizes(self.train_cars[0], self.config)
        return build(self.name.value, "tiny", **sizes)

    def _make_widgets(self):
        widgets = require("ipywidgets", "notebooks")
        most = max(len(car.positions) for car in self.train_cars)
        points = min(self.config.num_points or most, most)
        self.name = controls.menu("Model", _names(), "bsa", "Attention of the model; its size is the preset 'tiny'")
        # A slider cuts off what lies outside it: each reaches as far as the configuration.
        steps, power = self.config.steps, math.log10(self.config.learning_rate)
        self.steps = controls.whole_slider("Steps", steps, min(20, steps), max(2000, steps), "Optimiser steps")
        self.num_points = controls.whole_slider("Points of a car", points, 1, most, "Points drawn anew in each step")
        self.learning_rate = controls.number_slider(
            "log10 learning rate", power, min(-5, power), max(-1, power), 0.1, "Of AdamW, at its highest"
        )
        self.start = widgets.Button(description="Start", icon="play", tooltip="Train anew with these settings")
        self.stop = widgets.Button(description="Stop", icon="stop", tooltip="End within a second, with a checkpoint")
        self.start.on_click(self.begin)
        self.stop.on_click(self.halt)
        self.progress = widgets.IntProgress(layout=widgets.Layout(width="420px"))
        self.status, self.message, self.charts = controls.html(), controls.html(), controls.html()
        self.status.layout = widgets.Layout(flex="1 1 320px")
        heading = widgets.HTML(text.STYLE + text.heading(self.title))
        own = [] if self._given is not None else [self.name]
        rows = controls.columns([*own, self.steps], [self.num_points, self.learning_rate], [self.start, self.stop])
        line = widgets.HBox([self.progress, self.status], layout=widgets.Layout(flex_flow="row wrap"))
        self.widget = widgets.VBox(
            [heading, rows, line, self.charts, self.message], layout=widgets.Layout(width="100%")
        )
        self._enable()

    def _forget(self):
        self._losses, self._measured, self._running, self._asked = [], [], self.config, None

    async def _follow(self):
        """Look at the worker until it ends, on the event loop that the widgets belong to."""
        while self.worker.running:
            self._update()
            await asyncio.sleep(PAUSE)
        self._update()

    def _update(self):
        with self._reading:  # a cell that waits, and the front end's thread, may both look
            self._read()
        self._enable()
        self._draw()

    def _read(self):
        for told in self.worker.news():
            if "loss" in told:
                self._losses.append((told["step"], told["loss"], told["elapsed"]))
            elif "errors" in told:
                self._measured.append(told)

    def _enable(self):
        running = self.worker is not None and self.worker.running
        self.start.disabled, self.stop.disabled = running, not running or self.worker.state == "stopping"
        for control in (self.name, self.steps, self.num_points, self.learning_rate):
            control.disabled = running

    def _draw(self):
        step = self._losses[-1][0] if self._losses else 0
        self.progress.max, self.progress.value = self._running.steps, step
        self.status.value = self._status(step)
        charts = loss_chart(self._losses, self._measured) + gate_chart(self._measured)
        self.charts.value = f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{charts}</div>'
        if self.worker is not None and self.worker.state == "failed":
            self.message.value = text.problem(self.worker.error)

    def _status(self, step):
        state = "ready" if self.worker is None else self.worker.state
        parts = [state]
        if state == "starting":
            parts.append(f"a process loads the libraries, {_duration(time.monotonic() - self._asked)}")
        if state == "stopped" and self.worker.saved is None:
            parts.append("before the first step, so there is no checkpoint")
        if self._losses:
            parts.append(f"step {step} of {self._running.steps}")
            if state == "training":
                seconds = self._losses[-1][2]
                parts.append(f"{_duration((self._running.steps - step) * seconds / step)} left")
        if self.worker is not None and self.worker.saved is not None and not self.worker.running:
            parts.append(f"checkpoint of step {self.worker.saved}: {self.checkpoint}")
        return " · ".join(parts)


def loss_chart(losses, measured):
    """SVG of the loss of each step, its running mean, and the error on the test cars."""
    steps, values = (np.array([row[i] for row in losses], float) for i in (0, 1)) if losses else (np.zeros(0),) * 2
    errors = [(told["step"], told["errors"].get("relative_l2")) for told in measured]
    errors = np.array([pair for pair in errors if pair[1] is not None], float).reshape(-1, 2)
    limits, log = loss_axis(np.concatenate([values, errors[:, 1]]))
    last = max([1.0, *steps[-1:], *errors[-1:, 0]])
    label = "logarithmic scale" if log else ""
    chart = Chart("Loss and error", "optimiser step", label, (0, last), limits, whole_x=True, log_y=log)
    if len(steps):
        keep = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), SHOWN)).astype(int))
        chart.line(steps[keep], values[keep], "loss of the step", PALE, width=1, opacity=0.6)
        chart.line(steps[keep], running_mean(values)[keep], "running mean", INK)
    if len(errors):
        chart.line(errors[:, 0], errors[:, 1], "relative L2 on test cars", "#D55E00")
    return chart.svg


def loss_axis(values):
    """Range that holds what is finite of some values, and whether it is logarithmic: a likelihood's loss may be < 0."""
    values = values[np.isfinite(values)]
    if not len(values):
        return (0.01, 1.0), True
    low, high = float(values.min()), float(values.max())
    if low > 0:
        return (low / 1.2, high * 1.2), True
    margin = 0.1 * (high - low) or 1.0
    return (low - margin, high + margin), False


def gate_chart(measured):
    """SVG of the mean gate of each branch, over layers and heads; nothing for a model without gates."""
    measured = [told for told in measured if told["gates"] is not None]
    if not measured:
        return ""
    steps = np.array([told["step"] for told in measured], float)
    chart = Chart("Gates", "optimiser step", "mean gate", (0, max(steps[-1], 1)), (0, 1), whole_x=True)
    for branch in measured[0]["gates"]:
        chart.line(steps, np.array([told["gates"][branch] for told in measured]), branch, COLOURS.get(branch, INK))
    return chart.svg


def running_mean(values, window=20):
    """Mean of each value and the up to 19 before it."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _names():
    return [name for name, variant in VARIANTS.items() if variant.family.model.__name__ == "Transformer"]


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
