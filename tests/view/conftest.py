"""Where reference pictures lie, a file-size limit that stands in for a full disk, and pages open in a browser."""

import os
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

import bsaviz._accessors  # noqa: F401  (registers dataset.bsa)


def pytest_configure(config):
    if config.option.image_cache_dir is None:
        config.option.image_cache_dir = str(Path(__file__).parent / "image_cache")


@pytest.fixture
def real_data():
    folder = Path(os.environ.get("BSAVIZ_REAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set BSAVIZ_REAL_DATA")
    return folder


@pytest.fixture
def full_disk():
    """A context in which no file can grow past `limit` bytes, as on a disk that is full by then."""

    @contextmanager
    def limited(limit=4096):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture
def opened(browser, tmp_path):
    """Open a dataset's page; in the end nothing was asked for outside, and no error came."""
    tabs = []

    def open_page(ds, width=1200, height=620, *, export="export_html", touch=False, **choice):
        path = getattr(ds.bsa, export)(tmp_path / "page.html", **choice)
        tab = browser.new_page(viewport={"width": width, "height": height}, has_touch=touch)
        tabs.append(tab)
        tab.asked, tab.failed = [], []
        tab.on("request", lambda request: tab.asked.append(request.url))
        tab.on("pageerror", lambda error: tab.failed.append(str(error)))
        tab.on("console", lambda message: message.type == "error" and tab.failed.append(message.text))
        tab.goto(path.as_uri())
        # By selector: waiting for a script's value would evaluate strings, which the page's own policy forbids.
        tab.wait_for_selector('body[data-drawn]:not([data-drawn="0"])', state="attached", timeout=60_000)
        return tab

    yield open_page
    for tab in tabs:
        assert tab.failed == []
        assert [url for url in tab.asked if not url.startswith("file:")] == []
        tab.close()
