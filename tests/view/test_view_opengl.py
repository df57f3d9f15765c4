"""VTK ends the process where there is no OpenGL: we say so before it does."""

import subprocess
import sys

import pytest
from view_cases import field

from bsaviz._checks import BsavizError
from bsaviz.view import opengl


def test_a_machine_without_opengl_is_told_what_to_install(monkeypatch):
    monkeypatch.setattr(opengl, "LIBRARIES", ("libNoSuchOpenGL.so.1", "libNoSuchMesa.so.8"))
    monkeypatch.setattr(opengl.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(BsavizError, match=r"neither a display nor .*libNoSuchOpenGL.*apt-get install libegl1"):
        opengl.check_drawing()


def test_a_scene_is_told_too(monkeypatch):
    monkeypatch.setattr(opengl, "LIBRARIES", ())
    monkeypatch.setattr(opengl.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(BsavizError, match="pictures need OpenGL"):
        field().bsa.scene()


def test_a_display_or_a_library_is_enough(monkeypatch):
    opengl.check_drawing()
    monkeypatch.setattr(opengl, "LIBRARIES", ())
    monkeypatch.setenv("DISPLAY", ":0")
    opengl.check_drawing()


def test_torch_and_triton_work_after_a_picture(tmp_path):
    """Triton and Mesa each bring an LLVM; Triton must be loaded first, or the process dies."""
    pytest.importorskip("triton", reason="without Triton nothing can clash")
    code = (
        "import bsaviz; from bsaviz.view import car_figure; car_figure(bsaviz.load_car('generated:0'), 'car.png');"
        "from bsaviz.models import build; import torch; build('bsa', 'tiny')(torch.rand(100, 3)).sum().backward();"
        "print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout == "alive\n", done.stderr[-2000:]
