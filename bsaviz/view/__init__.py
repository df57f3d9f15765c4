"""Pictures of receptive fields, gates and cars: stills, pages for a browser, glTF and VTK files.

Everything works with no display, and no window opens unless `show` is called. The functions take the datasets of
`bsaviz.fields`; the same are methods of ``dataset.bsa``.
"""

from bsaviz.view.atlas import atlas_size, export_atlas
from bsaviz.view.branches import COLOURS
from bsaviz.view.camera import CAMERAS
from bsaviz.view.car import car_figure
from bsaviz.view.cost_figures import cost_figure, scaling_figure
from bsaviz.view.display import show
from bsaviz.view.drawing import scene as _draw
from bsaviz.view.files import save_vtp, write_still
from bsaviz.view.film import export_film
from bsaviz.view.glb import export_glb
from bsaviz.view.live import LiveScene, live_scene
from bsaviz.view.opengl import check_drawing
from bsaviz.view.page import export_html
from bsaviz.view.panels import picture

__all__ = [
    "CAMERAS",
    "COLOURS",
    "LiveScene",
    "atlas_size",
    "car_figure",
    "check_drawing",
    "cost_figure",
    "export_atlas",
    "export_film",
    "export_glb",
    "export_html",
    "live_scene",
    "picture",
    "save_vtp",
    "scaling_figure",
    "scene",
    "screenshot",
    "show",
]


def scene(ds, *, camera="auto", window_size=None, **choice):
    """pyvista plotter of a dataset's panels; see ``dataset.bsa`` for the arguments."""
    return _draw(picture(ds, **choice), camera=camera, window_size=window_size)


def screenshot(ds, path, *, camera="auto", window_size=None, **choice):
    """Write a still of a dataset's panels; see ``dataset.bsa`` for the arguments. Returns the path."""
    return write_still(picture(ds, **choice), path, camera=camera, window_size=window_size)
