"""A browser and a JupyterLab that all tests of one process share; both start only when a test asks for them."""

import asyncio

import pytest


def pytest_collection_modifyitems(items):
    """Files with slow tests come first: the last ones are short, and no process waits long for another."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def no_loop_of_the_browser(request):
    """While a browser is held open, its driver's event loop counts as running; a test without a browser sees none."""
    if {"browser", "lab"} & set(request.fixturenames):
        yield
        return
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    yield
    asyncio._set_running_loop(loop)


@pytest.fixture(scope="session")
def browser():
    """Chromium with WebGL drawn in software."""
    from browser_lab import CHROMIUM, FLAGS

    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab server; ``lab.open(browser, cells)`` opens a notebook in it."""
    from browser_lab import Lab

    server = Lab(tmp_path_factory.mktemp("lab"))
    yield server
    server.stop()
