"""The training monitor in a real JupyterLab: Start, a curve, other cells meanwhile, Stop, and a model to go on with."""

import time

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

CELLS = [
    """\
import bsaviz, bsaviz.ui
from bsaviz.datasets import training_cars
cars = [car.subsample(256) for car in training_cars()[0][:2]]
model = bsaviz.models.build("bsa", "tiny", depth=1)
config = bsaviz.training.TrainConfig(steps=2000, batch_size=1, num_points=256, eval_every=5, device="cpu")""",
    "monitor = bsaviz.ui.TrainingMonitor(model, cars, cars[:1], config=config)\nmonitor",
    "print('seen at step', monitor.progress.value)",
]


def test_training_monitor(lab, browser):
    with lab.open(browser, CELLS) as notebook:
        notebook.run_all()
        page = notebook.page
        button = lambda name: page.locator(".widget-button", has_text=name)
        assert button("Stop").is_disabled()
        button("Start").click()
        page.get_by_text("starting · a process loads the libraries").wait_for(timeout=5_000)
        curve = page.locator("path", has_text="running mean")
        curve.wait_for(state="attached", timeout=120_000)
        drawn = curve.get_attribute("d")

        other = page.locator(".jp-CodeCell").last
        other.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        notebook.wait(lambda: other.locator(".jp-InputPrompt").inner_text() == "[4]:", 10)
        assert "seen at step 0" not in other.locator(".jp-OutputArea-output").inner_text()
        assert notebook.value("monitor.worker.state") == "training", "the cell ran while the model trained"
        notebook.wait(lambda: curve.get_attribute("d") != drawn, 20)
        assert page.locator("path", has_text="selection").count() == 1, "the gates are drawn too"

        button("Stop").click()
        asked = time.monotonic()
        page.get_by_text("stopped · step").wait_for(timeout=10_000)
        assert time.monotonic() - asked < 1.5, "a second, and the time until it is seen"
        step = notebook.value("monitor.worker.saved")
        assert 0 < step < 2000
        assert notebook.value("bsaviz.training.checkpoint_info(monitor.checkpoint)['meta']['step']") == step
        assert notebook.value("bool(monitor.model()(__import__('torch').rand(300, 3)).isfinite().all())")
        assert button("Start").is_enabled()
        notebook.do("monitor.close()")
        assert notebook.problems == []
