"""One JupyterLab and one Chromium for all tests of a process, and what tests do in them: open, run, look, click.

A test opens a notebook of its own cells, reaches its kernel from Python (`Notebook.do`, `Notebook.value`) as well as by
hand (`Notebook.page`), and at the end `Notebook.problems` says what went wrong in the page.
"""

import ast
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import numpy as np
from jupyter_client import BlockingKernelClient
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# As on a machine without a graphics card: pages are composed in software, and WebGL is drawn by SwiftShader.
FLAGS = [
    "--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-gpu", "--enable-unsafe-swiftshader",
]  # fmt: skip
SCREEN = {"width": 1400, "height": 1000}
PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
# Lab itself: it finds no help page offline, and warns of its own deprecated parts.
LAB_SAYS = ("Failed to load resource", "deprecated", "favicon")
# What the kernel sent before it answers the page has been taken in by then, and is on the screen two frames later.
CAUGHT_UP = """async () => {
    const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    await kernel.requestExecute({ code: "", silent: true, store_history: false }).done;
    for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
}"""


class Lab:
    """A JupyterLab server in `folder`, with settings of its own.

    prefix: first part of its addresses, as a hub gives it, e.g. ``"/user/someone"``; environment: variables that its
    kernels see, None to remove one.
    """

    def __init__(self, folder, *, prefix="", environment=None):
        self.folder = Path(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.runtime = self.folder / "runtime"
        private = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTERLAB_SETTINGS_DIR": "settings",
            "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython",
        }  # fmt: skip
        quiet = self.folder / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"fetchNews": "false"}')
        variables = os.environ | {name: str(self.folder / sub) for name, sub in private.items()} | (environment or {})
        variables = {name: value for name, value in variables.items() if value is not None}
        options = [
            "--no-browser",
            "--allow-root",
            f"--port={port}",
            "--IdentityProvider.token=",
            "--LabApp.news_url=None",
            "--LabApp.expose_app_in_browser=True",
        ]
        options += [f"--ServerApp.base_url={prefix}/", "--ServerApp.disable_check_xsrf=True"]  # tests end kernels
        self.server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options], cwd=self.folder, env=variables,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.address = f"http://127.0.0.1:{port}{prefix}"
        self._wait()

    def _wait(self):
        for _ in range(120):
            try:
                self.ask("/api/status")
                return
            except OSError:
                time.sleep(0.5)
        self.server.kill()
        raise RuntimeError("JupyterLab did not start within a minute")

    def ask(self, path, method="GET"):
        """What the server answers, from JSON."""
        with urllib.request.urlopen(urllib.request.Request(self.address + path, method=method), timeout=5) as answer:
            return json.loads(answer.read() or "null")

    def set_theme(self, name):
        """Use ``"JupyterLab Light"`` or ``"JupyterLab Dark"`` in pages loaded from now on."""
        body = json.dumps({"raw": json.dumps({"theme": name})}).encode()
        path = "/lab/api/settings/@jupyterlab/apputils-extension:themes"
        with urllib.request.urlopen(urllib.request.Request(self.address + path, body, method="PUT"), timeout=5):
            pass

    def open(self, browser, notebook, *, name=None, screen=SCREEN, scale=1):
        """`Notebook` of a list of cells' sources, or of an ``.ipynb`` file, opened and idle but not run."""
        if isinstance(notebook, list):
            cells = [nbformat.v4.new_code_cell(source) for source in notebook]
            name = name or f"test-{time.time_ns()}"
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=PYTHON), self.folder / f"{name}.ipynb")
        else:
            name = name or Path(notebook).stem
            if Path(notebook).parent != self.folder:
                shutil.copy(notebook, self.folder / f"{name}.ipynb")
        return Notebook(self, browser, f"{name}.ipynb", screen, scale)

    def stop(self):
        self.server.terminate()
        self.server.wait(timeout=30)


class Notebook:
    """A notebook in a browser tab of its own. Use it in a with statement: it ends its kernel."""

    def __init__(self, lab, browser, name, screen, scale):
        self.lab, self.name, self.outside, self.errors, self.client = lab, name, [], [], None
        self.context = browser.new_context(viewport=screen, device_scale_factor=scale)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self._local(request.url) or self.outside.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._listen)
        self.load()

    def load(self):
        """Open the notebook's page, again if need be, and wait until its kernel is idle."""
        self.page.goto(f"{self.lab.address}/lab/tree/{self.name}?reset", timeout=60_000)
        self.page.locator(".jp-Notebook").wait_for(timeout=60_000)
        self.page.locator(".jp-StatusBar-TextItem", has_text="| Idle").wait_for(timeout=60_000)
        self.page.wait_for_timeout(500)

    def _local(self, url):
        address = self.lab.address
        return url.startswith((address, address.replace("http", "ws"), "data:", "blob:", "about:"))

    def _listen(self, message):
        if message.type == "error" and not any(known in message.text for known in LAB_SAYS):
            self.errors.append(message.text)

    @property
    def problems(self):
        """Errors in the page's console, and requests to other places."""
        return [f"error: {error}" for error in self.errors] + [f"request: {url}" for url in self.outside]

    def run_all(self, seconds=120):
        """Run all cells from the menu; a traceback anywhere ends the wait, since the cells after it never run."""
        self.menu("Run", "Run All Cells")
        last = self.page.locator(".jp-CodeCell").last.locator(".jp-InputPrompt")
        broken = self.page.locator('.jp-RenderedText[data-mime-type="application/vnd.jupyter.error"]')
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if last.inner_text().strip("[]: ").isdigit():
                return
            assert broken.count() == 0, broken.first.inner_text()
            self.page.wait_for_timeout(200)
        prompts = self.page.locator(".jp-InputPrompt").all_inner_texts()
        raise AssertionError(f"the last cell did not finish within {seconds} s; the cells are at {prompts}")

    def reload(self):
        """Save the notebook and load its page again; the kernel goes on."""
        self.page.keyboard.press("Control+s")
        self.page.wait_for_timeout(500)
        self.load()

    def menu(self, *path):
        """Choose an entry of Lab's menus."""
        for name in path:
            self.page.get_by_role("menuitem", name=name, exact=True).click()

    def do(self, code, seconds=60):
        """Run code in the notebook's kernel, beside its cells, and wait for its end."""
        self._ask(code, {}, seconds)

    def value(self, expression, seconds=60):
        """Value of a Python expression in the notebook's kernel: numbers, texts, lists, dicts."""
        answer = self._ask("", {"it": f"repr({expression})"}, seconds)["user_expressions"]["it"]
        assert answer["status"] == "ok", answer.get("evalue")
        return ast.literal_eval(ast.literal_eval(answer["data"]["text/plain"]))

    def _ask(self, code, expressions, seconds):
        if self.client is None:
            self.client = BlockingKernelClient()
            self.client.load_connection_file(str(self.lab.runtime / f"kernel-{self.kernel}.json"))
            self.client.start_channels()
        message = self.client.execute(code, silent=not expressions, store_history=False, user_expressions=expressions)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = self.client.get_shell_msg(timeout=max(until - time.monotonic(), 0.01))
            if answer["parent_header"].get("msg_id") == message:
                content = answer["content"]
                assert content["status"] == "ok", "\n".join(content.get("traceback", []))
                return content
        raise AssertionError(f"the kernel did not answer within {seconds} s")

    @property
    def kernel(self):
        """Identifier of the notebook's kernel."""
        sessions = self.lab.ask("/api/sessions")
        return next(s["kernel"]["id"] for s in sessions if Path(s["path"]).name == self.name)

    def until(self, expression, wanted, seconds=20):
        """Wait until an expression in the kernel has a value."""
        self.wait(lambda: self.value(expression) == wanted, seconds, lambda: f"{expression} is not {wanted!r}")

    def wait(self, check, seconds=20, what=lambda: "what was waited for did not come"):
        """Wait until a function gives true."""
        until = time.monotonic() + seconds
        while not check():
            assert time.monotonic() < until, f"{what()} after {seconds} s"
            self.page.wait_for_timeout(100)

    def catch_up(self):
        """Wait until the page shows what the kernel has sent, and the kernel has what the page has sent."""
        self.page.evaluate(CAUGHT_UP)

    def look(self, locator, settle=0):
        """Pixels (height, width, 3) of an element, once it shows what the kernel has sent, and edges are smooth."""
        self.page.wait_for_timeout(settle)
        self.catch_up()
        self.page.locator("[data-rough]").first.wait_for(state="detached")
        return np.asarray(Image.open(io.BytesIO(locator.screenshot())).convert("RGB"))

    def leave(self, code):
        """Close the view on show by a line of code: it goes, and the page must have complained of nothing."""
        self.do(code)
        self.wait(lambda: self.page.locator(".bsaviz-live").count() == 0, what=lambda: "the view is still there")
        problems, self.errors[:] = self.problems, []
        assert problems == []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.client is not None:
            self.client.stop_channels()
        for session in self.lab.ask("/api/sessions"):
            if Path(session["path"]).name == self.name:
                self.lab.ask(f"/api/sessions/{session['id']}", "DELETE")
        self.context.close()
