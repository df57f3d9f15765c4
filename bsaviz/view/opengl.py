"""Whether this machine can draw. VTK ends the whole process where it finds no OpenGL, so we look before it does."""

import ctypes
import os
import sys

from bsaviz._checks import BsavizError, require

LIBRARIES = ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")


def check_drawing():
    """Raise a clear error where pyvista is missing, or where Linux has neither a display nor an off-screen OpenGL.

    Raises
    ------
    ImportError
        Without pyvista; names the extra that brings it.
    BsavizError
        Without OpenGL; names the system packages that bring it.
    """
    require("pyvista", "view")
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY") or any(map(_loads, LIBRARIES)):
        return
    raise BsavizError(
        "pictures need OpenGL, and this machine has neither a display nor an off-screen OpenGL library "
        f"({', '.join(LIBRARIES[:2])}); install one, e.g. with: apt-get install libegl1 libgl1 libxrender1"
    )


def _loads(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
