"""Time the explorers in a real JupyterLab and browser: slider to redrawn picture, first display, a fast drag.

``python tests/tools/bench_explorers.py`` opens each explorer on the packaged car (3 586 points) and on the same car
with 65 536 points, prints a table and writes ``data/measurements/explorers.json``.

A step is one press of an arrow key on a slider, whose time is the page's own; it ends two frames of the browser after
WebGL has drawn the new state (a pixel is read back, which waits for it), so that the picture is on the screen: whole,
while its edges are smoothed once it rests. The drag is 21 presses as fast as they come, there and back, that end one
step away.

The first display is from running the explorer's cell to its first picture, in a notebook whose cell before loaded car
and model, as in those of the project; what needs a run of the model follows (`whole_picture_s`), since the first run
loads torch's own compiler. ``fresh`` rows are the one line in a kernel that has imported nothing but ``bsaviz``.

Kernel, browser and WebGL (in software, as on a machine without a graphics card) share the machine's cores; where others
work on them too, ``chrt -r 10 python tests/tools/bench_explorers.py`` goes before these.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

TESTS = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TESTS))

from browser_lab import CHROMIUM, FLAGS, Lab  # noqa: E402

from bsaviz._files import whole_file  # noqa: E402

NEEDED = {3586: 150, 65536: 500}  # ms, median from slider to redrawn picture of structural fields
FIRST_S = 3.0  # s, first display
DRAG = 21
THERE_AND_BACK = ("ArrowLeft", "ArrowRight")
SETUP = "import bsaviz\ncar, model = bsaviz.load_car('generated:48', num_points={points}), bsaviz.packaged_model()"
# Explorer, slider by its label, what is looked at
CASES = (
    ("ReceptiveFieldExplorer(model, car)", "Query", "query, structural, layer 0"),
    ("ReceptiveFieldExplorer(model, car)", "Ball size", "ball size, structural, layer 0"),
    ("ReceptiveFieldExplorer(model, car)", "Top-k", "top-k, structural, layer 0"),
    ("ReceptiveFieldExplorer(model, car, layer=5)", "Ball size", "ball size, structural, layer 5"),
    ("BallTreeExplorer(car)", "Level", "level, two trees"),
    ("BallTreeExplorer(car)", "Ball size", "ball size, two trees"),
    ("GateExplorer(model, car)", "Layer", "layer, gates"),
)
FRESH = ("ReceptiveFieldExplorer()", "BallTreeExplorer()", "GateExplorer()", "CompareExplorer()")
WHOLE_PASS = ("gates", "layer 5")  # take a pass through the layers, on a CPU no matter of a slider for 65 536 points
# A step's end is waited for in the page: asking it again and again would slow it.
WATCH = """() => {
  window.step = { pressed: null, key: 0, drawn: 0, last: 0, done: null };
  const view = document.querySelector('.bsaviz-live');
  document.addEventListener('keydown', (event) => { window.step.pressed = window.step.key = event.timeStamp; }, true);
  new MutationObserver(() => {
    window.step.drawn += 1;
    const { pressed } = window.step;
    window.step.pressed = null;
    const gl = view.querySelector('canvas').getContext('webgl2');
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
    requestAnimationFrame(() => requestAnimationFrame(() => {
      window.step.last = performance.now();
      if (pressed !== null && window.step.done) window.step.done(window.step.last - pressed);
    }));
  }).observe(view, { attributes: true, attributeFilter: ['data-drawn'] });
}"""

EXPECT = """() => { window.step.seen = new Promise((done, missed) => {
  window.step.done = done;
  setTimeout(() => missed(new Error('no picture came within 30 s')), 30000);
}); }"""


def measure(lab, browser, call, label, points, presses):
    """Numbers of one slider of one explorer."""
    with opened(lab, browser, call, SETUP.format(points=points)) as (notebook, first):
        rest(notebook)
        page = notebook.page
        page.evaluate(WATCH)
        steps = single_steps(notebook, label, presses)
        return {
            "explorer": call.split("(")[0],
            "slider": label,
            "points": points,
            **first,
            "median_ms": round(median(steps)),
            "steps_ms": [round(step) for step in steps],
            **drag(notebook, label),
            "problems": notebook.problems[:3],
        }


@contextmanager
def opened(lab, browser, call, setup):
    """An explorer in a notebook, and when its first picture came and when its whole one."""
    cells = [setup, f"explorer = bsaviz.ui.{call}\nexplorer"]
    with lab.open(browser, cells, screen={"width": 1300, "height": 1000}) as notebook:
        page = notebook.page
        page.locator(".jp-Cell .cm-content").first.click()
        page.keyboard.press("Shift+Enter")
        prompt = page.locator(".jp-CodeCell .jp-InputPrompt").first
        wait(page, lambda: prompt.inner_text().strip("[]: ").isdigit(), 300)
        started = time.monotonic()
        page.keyboard.press("Shift+Enter")
        page.locator(".bsaviz-live[data-drawn]").wait_for(timeout=60_000)
        first = time.monotonic() - started
        page.locator(".bsaviz-title", has_text="running the").first.wait_for(state="detached", timeout=60_000)
        whole = time.monotonic() - started
        yield notebook, {"first_display_s": round(first, 2), "whole_picture_s": round(whole, 2)}


def fresh(lab, browser, call):
    """First display in a kernel that has loaded nothing."""
    with opened(lab, browser, call, "import bsaviz") as (notebook, first):
        return {
            "explorer": call.split("(")[0],
            "fresh": True,
            "points": 3586,
            **first,
            "problems": notebook.problems[:3],
        }


def single_steps(notebook, label, presses):
    """Milliseconds from each press to its picture; there and back, so that every press changes the value."""
    page, steps = notebook.page, []
    handle(page, label).focus()
    for number in range(presses + 1):
        page.evaluate(EXPECT)
        page.keyboard.press(keys(label)[number % 2])
        steps.append(page.evaluate("() => window.step.seen"))
        rest(notebook)
    return steps[1:]  # the first warms up


def drag(notebook, label):
    """How long after the last of many quick presses the last picture came, how many came, and which is shown."""
    page = notebook.page
    drawn = page.evaluate("() => window.step.drawn")
    handle(page, label).focus()
    for number in range(DRAG):
        page.keyboard.press(keys(label)[number % 2])
    shown = page.locator(".widget-slider", has_text=label).locator(".widget-readout").inner_text()
    notebook.until(f"str({CONTROLS[label]}.value) == {shown!r}", True, 30)
    rest(notebook)
    page.wait_for_timeout(1000)
    return {
        # 0 where the press before the last two had led to the same picture, and it was there
        "drag_last_picture_ms": round(page.evaluate("() => Math.max(0, window.step.last - window.step.key)")),
        "drag_pictures": page.evaluate("() => window.step.drawn") - drawn,
        "drag_ends_on_last": notebook.value("explorer._latest.shown == explorer._wanted()"),
    }


CONTROLS = {
    "Query": "explorer.query",
    "Ball size": "(explorer.sizes['ball_size'] if hasattr(explorer, 'sizes') else explorer.ball_size)",
    "Top-k": "explorer.sizes['top_k']",
    "Level": "explorer.level",
    "Layer": "explorer.layer",
}


def keys(label):
    """The keys of a step and of the step back; layers start at the lower end of their slider."""
    return THERE_AND_BACK[::-1] if label == "Layer" else THERE_AND_BACK


def handle(page, label):
    return page.locator(".widget-slider", has_text=label).locator(".noUi-handle")


def rest(notebook):
    notebook.until("explorer.working or explorer._latest.shown != explorer._wanted()", False, 60)
    notebook.page.wait_for_timeout(150)


def wait(page, condition, seconds):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"nothing came within {seconds} s")
        page.wait_for_timeout(5)


def run(points, presses):
    from playwright.sync_api import sync_playwright

    rows, lab = [], Lab(tempfile.mkdtemp())
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for count in points:
                for call, label, what in CASES:
                    if count > min(NEEDED) and any(part in what for part in WHOLE_PASS):
                        continue
                    told(rows, {"what": what} | measure(lab, browser, call, label, count, presses))
            for call in FRESH:
                told(rows, {"what": "one line in a fresh kernel"} | fresh(lab, browser, call))
            browser.close()
    finally:
        lab.stop()
    return rows


def told(rows, row):
    row["load_average"] = round(os.getloadavg()[0], 1)
    rows.append(row)
    print(json.dumps({k: v for k, v in row.items() if k != "steps_ms"}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", nargs="+", type=int, default=list(NEEDED))
    parser.add_argument("--presses", type=int, default=11)
    parser.add_argument("--out", default=str(TESTS.parent / "data" / "measurements" / "explorers.json"))
    choice = parser.parse_args()
    load = round(os.getloadavg()[0], 1)  # before anything of this runs
    rows = run(choice.points, choice.presses)
    browser = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    names = ("torch", "jupyterlab", "ipykernel", "ipywidgets", "anywidget")
    result = {
        "date": date.today().isoformat(),
        "command": "python tests/tools/bench_explorers.py",
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "priority": priority(), "other_load": load},
        "versions": {"python": platform.python_version(), "browser": browser} | {n: version(n) for n in names},
        "needed": {"slider_ms": NEEDED, "first_display_s": FIRST_S},
        "rows": rows,
    }
    with whole_file(choice.out) as path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def priority():
    names = {os.SCHED_OTHER: "usual", os.SCHED_RR: "real time", os.SCHED_FIFO: "real time"}
    return names.get(os.sched_getscheduler(0), "other")


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
