"""Every notebook runs top to bottom offline, is stored without outputs, and opens with what the reader will see."""

import re
from pathlib import Path

import nbformat
import pytest
from browser_lab import CHROMIUM
from nbclient import NotebookClient

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
START = FOLDER / "00_start.ipynb"
NOTEBOOKS = sorted(set(FOLDER.glob("*.ipynb")) - {START})
RUN_HERE = NOTEBOOKS[CHROMIUM is not None :]  # where there is a browser, the first one is run in it


def test_start_page_links_every_notebook_and_nothing_else():
    page = "".join(cell.source for cell in nbformat.read(START, as_version=4).cells)
    assert sorted(re.findall(r"\]\((\w+\.ipynb)\)", page)) == [path.name for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_without_outputs(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_needs_no_clone_no_path_and_no_network(path):
    source = path.read_text()
    assert "git clone" not in source
    assert "%cd" not in source
    assert "sys.path" not in source
    assert not re.search(r"!\s*pip", source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_with_what_you_will_see_and_how_long_it_takes(path):
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    assert re.search(r"\d+ (seconds|minutes?)", first.source)
    assert "memory" in first.source


@pytest.mark.slow
@pytest.mark.parametrize("path", RUN_HERE, ids=lambda path: path.stem)
def test_runs_top_to_bottom(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    parameters = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1, "one cell is tagged 'parameters' and sets FAST"
    assert "FAST = False" in parameters[0].source
    parameters[0].source = parameters[0].source.replace("FAST = False", "FAST = True")
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}).execute()
