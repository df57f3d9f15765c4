"""Live 3D in a notebook: a surface that is recoloured, turned and picked, with no display and no network.

The browser draws, so that the kernel needs neither a display nor OpenGL. pyvista's trame views were measured too
(``tests/tools/bench_live_views.py``) and are no backend: with no display they go black after an update, and elsewhere
one takes over half a second. pyvista draws the stills of a live scene, and all other pictures, films and exports.
"""

from bsaviz._checks import BsavizError, require
from bsaviz.view.live.scene import LiveScene
from bsaviz.view.live.state import whole_number

BACKENDS = ("anywidget",)

__all__ = ["BACKENDS", "LiveScene", "live_scene"]


def live_scene(panels=1, *, titles=None, width=None, height=420, backend="auto"):
    """A live 3D view for a notebook.

    Parameters
    ----------
    panels : int
        Views of the surface side by side; they share one camera.
    titles : list of str, optional
        One a panel.
    width : int, optional
        Pixels; by default all there is.
    height : int
        Pixels.
    backend : {"auto", "anywidget"}
        What draws it. ``"anywidget"`` is our own WebGL2 view, the only one of those measured that works on a server
        without a display, behind a hub and offline (``data/measurements/live-views.json``).

    Returns
    -------
    LiveScene

    Examples
    --------
    >>> scene = bsaviz.view.live_scene(titles=["pressure"])
    >>> scene.set_surface(car.positions, car.faces)
    >>> scene.set_scalars(car.fields["pressure"], label="pressure (Pa)")
    >>> scene.on_pick(lambda point, panel: print(point))
    >>> scene
    """
    if backend not in ("auto", *BACKENDS):
        raise BsavizError(f"backend must be 'auto' or one of {', '.join(map(repr, BACKENDS))}, got {backend!r}")
    for name, value in (("width", width), ("height", height)):
        if value is None and name == "width":
            continue
        if not whole_number(value) or not 100 <= value <= 10000:
            raise BsavizError(f"{name} must be whole pixels from 100 to 10000, got {value!r}")
    require("anywidget", "notebooks")
    from bsaviz.view.live.widget import WidgetScene

    return WidgetScene(panels, titles, width=width, height=height)
