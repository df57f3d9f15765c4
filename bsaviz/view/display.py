"""Show a picture to a person: a page inside a notebook, a window on a display, a clear error where there is neither."""

import html
import os
import sys

from bsaviz._checks import BsavizError, require
from bsaviz.view.drawing import scene
from bsaviz.view.page import page
from bsaviz.view.panels import check_choice, picture

NOTEBOOK_HEIGHT = 520  # pixels: three panels, their captions and the legend in a notebook's usual width


def show(ds, *, camera="auto", window_size=None, **choice):
    """Show a dataset's picture.

    In a notebook this is the page of `export_html`, which needs neither a display nor a server; elsewhere a window of
    pyvista, which returns once it is closed. Arguments as for `bsaviz.view.screenshot`.

    Raises
    ------
    BsavizError
        With no notebook and no display.
    """
    choice = check_choice(ds, choice)
    if in_notebook():
        display = require("IPython.display", "notebooks")
        height = window_size[1] if window_size else NOTEBOOK_HEIGHT
        inner = html.escape(page(ds, camera=camera, **choice), quote=True)
        style = f"width:100%;height:{int(height)}px;border:0"
        frame = f'<iframe srcdoc="{inner}" style="{style}" sandbox="allow-scripts"></iframe>'
        display.display(display.HTML(f"<div>{frame}</div>"))  # IPython warns of a bare frame
        return
    if not has_display():
        raise BsavizError(
            "there is no display and no notebook to show a picture in; write one with .bsa.screenshot('picture.png') "
            "or .bsa.export_html('picture.html')"
        )
    scene(picture(ds, **choice), camera=camera, window_size=window_size, off_screen=False).show()


def in_notebook():
    """Whether this runs in a Jupyter kernel."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def has_display():
    """Whether windows can open here."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
