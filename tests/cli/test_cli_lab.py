"""`bsaviz lab` starts JupyterLab on the notebooks, from a checkout or from an installed package."""

import shutil

import pytest

from bsaviz import _lab
from bsaviz._checks import BsavizError
from bsaviz.cli import main


@pytest.fixture
def started(monkeypatch):
    """What would have been started."""
    calls = []
    monkeypatch.setattr(_lab.subprocess, "call", lambda command, cwd: calls.append((command, cwd)) or 0)
    return calls


def test_it_opens_the_first_notebook_of_the_checkout(started):
    assert main(["lab", "--no-browser", "--port", "9999"]) == 0
    command, folder = started[0]
    assert {"jupyterlab", _lab.START, "--port=9999", "--no-browser"} <= set(command)
    assert (folder / _lab.START).is_file()


@pytest.mark.parametrize(("user", "asked"), [(0, True), (1000, False)])
def test_root_is_allowed_only_for_root(user, asked, started, monkeypatch):
    monkeypatch.setattr(_lab.os, "geteuid", lambda: user, raising=False)
    _lab.open_lab(browser=False)
    assert ("--allow-root" in started[0][0]) is asked


def test_an_installed_package_copies_its_notebooks_and_keeps_a_users_work(tmp_path, monkeypatch):
    checkout = _lab.notebook_folder()
    package = tmp_path / "site" / "bsaviz"
    shutil.copytree(checkout, package / "_notebooks", ignore=shutil.ignore_patterns("outputs", ".*"))
    monkeypatch.setattr(_lab, "__file__", str(package / "_lab.py"))
    mine = _lab.notebook_folder(tmp_path / "mine")
    (mine / _lab.START).write_text("my work")
    assert _lab.notebook_folder(tmp_path / "mine") == mine
    assert (mine / _lab.START).read_text() == "my work"


def test_without_notebooks_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(_lab, "__file__", str(tmp_path / "site" / "bsaviz" / "_lab.py"))
    with pytest.raises(BsavizError, match="no notebooks found"):
        _lab.notebook_folder(tmp_path / "mine")
