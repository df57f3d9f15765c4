"""VTK ends the process where there is no OpenGL: we say so before it does."""

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
