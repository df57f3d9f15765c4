"""`import bsaviz` is quick and needs nothing optional; a missing optional part says which extra brings it."""

import subprocess
import sys

import pytest

from bsaviz._checks import require

HEAVY = ("triton", "vtk", "pyvista", "trimesh", "skimage", "xarray", "jupyterlab")


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_bsaviz_brings_nothing_heavy_and_is_fast():
    done = run(
        "import torch, sys, time; before = set(sys.modules); start = time.perf_counter(); import bsaviz;"
        "print(time.perf_counter() - start, *(set(sys.modules) - before))"
    )
    seconds, *modules = done.stdout.split()
    assert float(seconds) < 1.0, done.stderr
    assert not {name.split(".")[0] for name in modules} & set(HEAVY)


@pytest.mark.parametrize("package", ["attention", "datasets", "models", "trees", "physics"])
def test_library_packages_import_without_the_optional_parts(package):
    names = ("triton", "vtk", "pyvista", "trimesh", "skimage")
    blocked = "import sys; " + "; ".join(f"sys.modules[{name!r}] = None" for name in names)
    done = run(f"{blocked}; import bsaviz.{package}")
    assert done.returncode == 0, done.stderr


def test_unknown_public_name_lists_those_there_are():
    done = run("import bsaviz; bsaviz.receptive_feild")
    assert "no attribute 'receptive_feild'" in done.stderr
    assert "receptive_field" in done.stderr


def test_missing_optional_package_names_the_extra():
    with pytest.raises(ImportError, match=r"pip install 'bsaviz\[view\]'"):
        require("no_such_package_of_anybody", "view")


def test_public_names_resolve():
    done = run("import bsaviz\nfor name in bsaviz.__all__: getattr(bsaviz, name)")
    assert done.returncode == 0, done.stderr
