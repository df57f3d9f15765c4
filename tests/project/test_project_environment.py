"""environment.yml offers conda users what pyproject.toml offers pip users."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONDA_NAMES = {"torch": "pytorch", "safetensors": "python-safetensors"}


def pip_requirements():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = list(project["dependencies"])
    for extra in ("view", "cars", "sets", "study", "notebooks", "test"):
        lines += extras[extra]
    return {normalise(line) for line in lines}


def normalise(requirement):
    name, version = re.fullmatch(r"([\w.\-\[\],]+)\s*([<>=!~].*)?", requirement.split(";")[0].strip()).groups()
    return CONDA_NAMES.get(name, name), (version or "").replace(" ", "")


@pytest.fixture(scope="module")
def environment():
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def test_every_requirement_is_offered_with_the_same_version(environment):
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    offered = {normalise(line) for line in conda if not re.match(r"(python|pip)\b(?!-)", line)}
    offered |= {normalise(line) for line in pip if not line.startswith("--")}
    assert offered == pip_requirements()


def test_python_is_the_one_of_the_project(environment):
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert f"python {requires}" in environment["dependencies"]


def test_conda_reads_every_line(environment):
    rattler = pytest.importorskip("rattler")
    for line in environment["dependencies"]:
        if isinstance(line, str):
            assert rattler.MatchSpec(line).name is not None


def test_extra_all_and_dev_hold_the_others():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["all"] == ["bsaviz[view,cars,sets,study,notebooks]"]
    assert extras["dev"] == ["bsaviz[all,test]"]
