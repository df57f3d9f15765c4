"""A browser and a JupyterLab that all tests of one process share; both start only when a test asks for them."""

import pytest


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
