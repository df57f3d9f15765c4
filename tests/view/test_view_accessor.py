"""``dataset.bsa``: what loads when, and where a picture is shown."""

import os
import subprocess
import sys

import pytest
import xarray as xr
from view_cases import field, gates

import bsaviz.view
from bsaviz._checks import BsavizError
from bsaviz.view import display


def run(code, **env):
    env = {k: v for k, v in {**os.environ, **env}.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)


def test_registering_loads_no_graphics():
    heavy = ("pyvista", "vtk", "trimesh", "bsaviz.view")
    code = f"import sys, bsaviz._accessors; print([m for m in {heavy} if m in sys.modules])"
    assert run(code).stdout.strip() == "[]"


def test_a_still_needs_no_display_and_prints_nothing(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})
import bsaviz._accessors
from view_cases import field
field().bsa.screenshot({str(tmp_path / "x.png")!r}, window_size=(600, 200))
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").stat().st_size > 5000
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("method", ["scene", "show", "screenshot", "export_html", "export_glb", "save_vtp"])
def test_other_datasets_are_refused(method, tmp_path):
    arguments = [] if method in ("scene", "show") else [tmp_path / "x.png"]
    if method.startswith(("export", "save")):
        arguments = [tmp_path / f"x.{method[-4:].strip('_')}"]
    with pytest.raises(BsavizError, match=r"expected a dataset of bsaviz.receptive_field .* got variables \['t'\]"):
        getattr(xr.Dataset({"t": 1}).bsa, method)(*arguments)


def test_show_needs_a_notebook_or_a_display(monkeypatch):
    monkeypatch.setattr(display, "in_notebook", lambda: False)
    monkeypatch.setattr(display, "has_display", lambda: False)
    with pytest.raises(BsavizError, match="no display and no notebook.*screenshot.*export_html"):
        field().bsa.show()


def test_show_in_a_notebook_is_a_page_in_a_frame(monkeypatch):
    shown = []
    monkeypatch.setattr(display, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", shown.append)
    assert gates().bsa.show(head=1) is None
    (frame,) = shown
    assert frame.data.startswith("<div><iframe srcdoc=")
    assert "gate: ball" in frame.data
    assert "<script" not in frame.data, "the page inside is escaped"


def test_the_accessor_and_the_functions_are_the_same(tmp_path):
    drawn = bsaviz.view.picture(field(), kind="mass", layer=0)
    assert drawn.panels[0].caption.startswith("ball: mass")
    a = bsaviz.view.save_vtp(field(), tmp_path / "a.vtp", head=1).read_bytes()
    assert a == field().bsa.save_vtp(tmp_path / "b.vtp", head=1).read_bytes()
