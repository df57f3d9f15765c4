"""Make sure of OpenGL before VTK starts it: two things end the whole process otherwise.

VTK crashes where it finds no OpenGL library. And Mesa's software OpenGL brings an LLVM: Triton, which brings its own,
crashes when it is loaded after that (torch loads it by itself at the first custom operator). Loaded before, both work.
"""

import ctypes
import importlib.util
import os
import sys

from bsaviz._checks import BsavizError, require

LIBRARIES = ("libEGL.so.1", "libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so")


def check_drawing():
    """Get ready to draw, or raise a clear error.

    pyvista must be there, and on Linux a display or an off-screen OpenGL library. Triton is loaded if it is installed.

    Raises
    ------
    ImportError
        Without pyvista; names the extra that brings it.
    BsavizError
        Without OpenGL; names the system packages that bring it.
    """
    require("pyvista", "view")
    if importlib.util.find_spec("triton") is not None:
        import triton  # noqa: F401
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
