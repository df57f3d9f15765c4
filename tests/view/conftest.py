"""Where reference pictures lie, and a file-size limit that stands in for a full disk."""

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
