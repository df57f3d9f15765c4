"""JupyterLab on the notebooks: those of the checkout, or a copy of the packaged ones."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from bsaviz._checks import BsavizError, require

START = "00_start.ipynb"


def notebook_folder(target=None):
    """Return the folder with the notebooks; an installed package copies its own into `target` first.

    Parameters
    ----------
    target : str or Path, optional
        Where an installed package puts its copy (default: ``bsaviz-notebooks`` in the working directory). Notebooks
        already there are kept, since they may hold a user's work.
    """
    checkout = Path(__file__).resolve().parent.parent / "notebooks"
    if (checkout / START).is_file():
        return checkout
    packaged = Path(__file__).resolve().parent / "_notebooks"
    if not (packaged / START).is_file():
        raise BsavizError("no notebooks found beside the package; clone the repository or reinstall bsaviz")
    target = Path(target or "bsaviz-notebooks")
    target.mkdir(parents=True, exist_ok=True)
    for notebook in packaged.glob("*.ipynb"):
        if not (target / notebook.name).exists():
            shutil.copy(notebook, target)
    return target


def open_lab(port=8888, browser=True):
    """Start JupyterLab on the page that links the notebooks and wait for it; return its exit status."""
    require("jupyterlab", "notebooks")
    # No question about news, and no look for updates: neither belongs to the work, and both ask the network.
    quiet = ["--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    command = [sys.executable, "-m", "jupyterlab", START, f"--port={port}", *quiet]
    if not browser:
        command.append("--no-browser")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")  # containers run as root, and Jupyter refuses it unasked
    return subprocess.call(command, cwd=notebook_folder())
