"""Time live 3D views in a real browser: slider to redrawn picture, first display, a fast drag, picking.

``python tests/tools/bench_live_views.py`` shows one mesh of 3 586 and of 65 536 points in JupyterLab behind a hub's
address, in our anywidget, in k3d and in pyvista's trame views (client, server, trame) with no display (EGL, OSMesa)
and with one (Xvfb), prints a table and writes ``data/measurements/live-views.json``.

A slider's key press recolours the whole mesh. Its time is the page's own; the picture's is that of the first frame, as
Chromium's screencast records them, that looks like the new state. Kernel, browser and WebGL share the machine's cores;
where others work on them too, ``chrt -r 1 python tests/tools/bench_live_views.py`` goes before these.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import median

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "view")]

from browser_lab import CHROMIUM, FLAGS, Lab  # noqa: E402
from live_view_cells import cells  # noqa: E402
from screen import Screen, distance, nearer  # noqa: E402

from bsaviz._files import whole_file  # noqa: E402

SHAPES = {3586: (64, 56), 65536: (217, 302)}  # points around and along the body
OSMESA = {"VTK_DEFAULT_OPENGL_WINDOW": "vtkOSOpenGLRenderWindow"}
HUB = {"JUPYTERHUB_SERVICE_PREFIX": "/user/someone/", "PYVISTA_TRAME_SERVER_PROXY_PREFIX": "/proxy/"}
NEEDED = {3586: 150, 65536: 500}  # ms, slider to redrawn picture
CASES = [("anywidget", None), ("k3d", None), *(("pyvista", mode) for mode in ("client", "server", "trame"))]
CHOSEN = (
    "anywidget. pyvista's trame views go black after the second update where there is no display (EGL); with OSMesa or "
    "Xvfb they need several times the 150 ms, and behind a hub a proxy for a port of their own: pyvista stays for "
    "scenes, stills, films and exports. k3d is as quick as ours, but each panel would be a plot with a copy of the "
    "surface and a browser context of its own, a click gives a place on the surface and not a point, and its stills "
    "need a browser: a second backend would bring nothing that the first lacks."
)
DARK = 20  # brightness, of 255, in the middle of a picture that went black
SAME = 25  # a picture this near to another (of 255) shows no change


def measure(lab, browser, kind, mode, points, presses):
    """Numbers of one view of one mesh; a number is None where the picture never came."""
    first, second = cells(kind, mode, SHAPES[points], TESTS / "view")
    (lab.folder / "first.py").write_text(first)
    (lab.folder / "second.py").write_text(second)
    source = [f"from pathlib import Path\nexec(Path('{name}.py').read_text())\n{end}" for name, end in
              (("first", "None"), ("second", "stage"))]  # fmt: skip
    with lab.open(browser, source, screen={"width": 1000, "height": 760}) as notebook:
        screen = Screen(notebook.page)
        run_first(notebook)
        shown = screen.key("Control+Enter")  # the other way a new cell would scroll this one away
        notebook.page.locator(".measured .noUi-handle").wait_for(timeout=120_000)
        place = notebook.page.locator(".measured > :nth-child(2)")
        place.scroll_into_view_if_needed()
        screen.appears(place.bounding_box)
        place.scroll_into_view_if_needed()  # warnings above it may have come meanwhile
        box = place.bounding_box()
        out = {"view": kind, "mode": mode, "points": points}
        out |= timed(notebook, screen, box, shown, presses)
        out |= {
            "pick": pick(notebook, box),
            "errors": notebook.errors[:3],
            "outside": sorted(set(notebook.outside))[:3],
        }
        screen.stop()
        return out


def run_first(notebook):
    notebook.page.locator(".jp-Cell .cm-content").first.click()
    notebook.page.keyboard.press("Shift+Enter")
    prompt = notebook.page.locator(".jp-CodeCell .jp-InputPrompt").first
    notebook.wait(lambda: prompt.inner_text().strip("[]: ").isdigit(), 400)


def timed(notebook, screen, box, shown, presses):
    """First display, single steps and a fast drag."""
    low, blank = screen.last(box), screen.blank(box)
    first = screen.first_like(low, blank, box, shown) if distance(low, blank) > SAME else None
    notebook.page.locator(".measured .noUi-handle").focus()
    high, back, _ = (stepped(screen, box) for _ in range(3))
    far = distance(low, high)
    came_back = distance(back, low) < 0.3 * far
    update = "unchanged" if far < SAME else "right" if came_back else "black" if centre(back) < DARK else "wrong"
    out = {"first_display_s": rounded(first, shown, 1), "after_update": update}
    if update != "right":
        return out | {"slider_ms": None, "drag_ends_on_last": False, "drag_ms": None}
    steps = []
    for number in range(presses):
        wanted, other = (low, high) if number % 2 == 0 else (high, low)
        screen.frames.clear()
        pressed = screen.key("ArrowRight")
        came = screen.first_like(wanted, other, box, pressed)
        steps.append(rounded(came, pressed, 1000))
        screen.settle()
    seen = [step for step in steps if step is not None]
    out |= {"slider_ms": round(median(seen)) if len(seen) == len(steps) else None, "steps_ms": steps}
    return out | drag(screen, box, *((low, high) if presses % 2 else (high, low)))


def stepped(screen, box):
    """The picture after one step of the slider."""
    screen.key("ArrowRight")
    screen.settle()
    return screen.last(box)


def centre(picture):
    """Mean brightness of the picture's middle."""
    h, w = picture.shape[:2]
    return picture[2 * h // 5 : 3 * h // 5, 2 * w // 5 : 3 * w // 5].mean()


def drag(screen, box, now, other):
    """21 steps as fast as keys come, which end on the other picture; when it came to stay, after the last of them."""
    screen.frames.clear()
    last = screen.key("ArrowRight", times=21)
    screen.first_like(other, now, box, last)
    screen.settle()
    right = nearer(screen.last(box), other, now)
    unlike = [frame[0] for frame in screen.frames if not nearer(screen.picture(frame, box), other, now)]
    came = next((t for t, _ in screen.frames if t > max([last, *unlike])), None) if right else None
    return {"drag_ends_on_last": right, "drag_ms": rounded(came, last, 1000)}


def pick(notebook, box):
    """What Python hears of a click in the middle of the picture."""
    notebook.page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.5 * box["height"])
    notebook.page.wait_for_timeout(1000)
    return notebook.value("repr(picked[-1])[:200] if picked else None")


def rounded(end, start, unit):
    return None if end is None else round(unit * (end - start), 2 if unit == 1 else 0)


def environments(only):
    """Pairs of a way to OpenGL in the kernel and its variables; Xvfb runs while its own are used."""
    if "egl" in only:
        yield "EGL", {"DISPLAY": None}
    if "osmesa" in only:
        yield "OSMesa", {"DISPLAY": None, **OSMESA}
    if "xvfb" in only and shutil.which("Xvfb"):
        server = subprocess.Popen(["Xvfb", ":87", "-screen", "0", "1280x1024x24"], stderr=subprocess.DEVNULL)
        try:
            yield "Xvfb", {"DISPLAY": ":87"}
        finally:
            server.terminate()
            server.wait()


def run(only, views, points, presses):
    from playwright.sync_api import sync_playwright

    rows = []
    for opengl, variables in environments(only):
        lab = Lab(tempfile.mkdtemp(), prefix="/user/someone", environment={**HUB, **variables})
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                for kind, mode in [*CASES, ("structural", None)]:
                    if kind not in views or (kind != "pyvista" and opengl != "EGL"):
                        continue  # the others do not draw in the kernel
                    for count in points:
                        row = measure(lab, browser, kind, mode, count, presses) | {"opengl": opengl}
                        rows.append(row)
                        print(json.dumps({k: v for k, v in row.items() if k != "steps_ms"}), flush=True)
                browser.close()
        finally:
            lab.stop()
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--opengl", nargs="+", default=["egl", "osmesa", "xvfb"])
    parser.add_argument("--views", nargs="+", default=["anywidget", "structural", "k3d", "pyvista"])
    parser.add_argument("--points", nargs="+", type=int, default=list(SHAPES))
    parser.add_argument("--presses", type=int, default=11)
    parser.add_argument("--out", default=str(TESTS.parent / "data" / "measurements" / "live-views.json"))
    choice = parser.parse_args()
    before = os.getloadavg()
    rows = run(choice.opengl, choice.views, choice.points, choice.presses)
    browser = subprocess.run([CHROMIUM, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    names = ("jupyterlab", "ipywidgets", "anywidget", "k3d", "pyvista", "vtk", "trame", "trame-pyvista")
    result = {
        "date": date.today().isoformat(),
        "command": "python tests/tools/bench_live_views.py",
        "real_time_priority": os.sched_getscheduler(0) == os.SCHED_RR,
        "machine": {
            "cpu": cpu(),
            "cores": os.cpu_count(),
            "load_average": {"before": loads(before), "after": loads(os.getloadavg())},
        },
        "versions": {"python": platform.python_version(), "browser": browser} | {n: version(n) for n in names},
        "needed": {"slider_ms": NEEDED, "first_display_s": 3, "drag": "ends on the last value"},
        "chosen": CHOSEN,
        "rows": rows,
    }
    with whole_file(choice.out) as path:
        path.write_text(json.dumps(result, indent=1) + "\n")


def loads(three):
    return [round(load, 1) for load in three]


def cpu():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
