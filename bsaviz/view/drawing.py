"""A `Picture` drawn by pyvista: linked panels with one fixed camera. Opens no window by itself and needs no display."""

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.view.branches import QUERY_COLOUR, SURFACE_COLOUR
from bsaviz.view.camera import VIEW_ANGLE, direction, fit
from bsaviz.view.opengl import check_drawing
from bsaviz.view.overlay import Overlay, draw_strip
from bsaviz.view.panels import dot_radii

STRIP, HEAD = 0.21, 0.16  # shares of the window's height for the legend, and of a panel's height for its heading


def scene(picture, *, camera="auto", window_size=None, off_screen=True):
    """Plotter of a picture.

    Parameters
    ----------
    picture : Picture
    camera : str or (float, float, float)
        See `bsaviz.view.camera.direction`.
    window_size : (int, int), optional
        Pixels; by default 620 x 560 a panel. Text and dots scale with it.
    off_screen : bool
        True for a plotter that never opens a window.

    Returns
    -------
    pyvista.Plotter
        With the panels at ``[0, i]``, all showing one camera, and the legend below.
    """
    return build(picture, camera=camera, window_size=window_size, off_screen=off_screen)[0]


def build(picture, *, camera="auto", window_size=None, off_screen=True):
    """The plotter of `scene`, and its 2D overlays: one a panel, then the strip below."""
    check_drawing()
    pv = require("pyvista", "view")
    panels = len(picture.panels)
    size = check_window(window_size, (620 * panels if panels > 1 else 900, 560 if panels > 1 else 640))
    eye = direction(camera, picture.positions, picture.faces, picture.query)
    with pv.vtk_verbosity("error"):  # with no display VTK warns before it falls back to a window in memory
        plotter = pv.Plotter(
            shape=(2, panels), groups=[(1, slice(None))], row_weights=[1 - STRIP, STRIP],
            border=False, off_screen=off_screen, window_size=size,
        )  # fmt: skip
    plotter.set_background("white", all_renderers=True)
    light(plotter, panels)
    surface = surface_mesh(picture)
    for i, panel in enumerate(picture.panels):
        plotter.subplot(0, i)
        draw_surface(plotter, surface, panel, picture.bar)
        for dots in filter(lambda d: len(d.points), panel.dots):
            plotter.add_actor(dots_actor(picture.positions, dots), reset_camera=False, name=dots.name, pickable=False)
    overlays = [Overlay(plotter.renderers[i], (1, 1)) for i in range(panels + 1)]
    plotter.link_views(list(range(panels)))
    plotter.subplot(0, 0)
    draw_overlays(overlays, picture, size)
    place_camera(plotter, picture, eye, size)
    plotter.enable_anti_aliasing("ssaa", all_renderers=True)

    def resized(window, _event):
        draw_overlays(overlays, picture, window.GetSize())

    plotter.render_window.AddObserver("WindowResizeEvent", resized)
    return plotter, overlays


def check_window(window_size, default, name="window_size"):
    """Window size in pixels, or an error that says what is wrong with it."""
    if window_size is None:
        return default
    sizes = np.asarray(window_size)
    if sizes.shape != (2,) or not np.issubdtype(sizes.dtype, np.integer) or sizes.min() < 100 or sizes.max() > 16384:
        raise BsavizError(f"{name} must be two integers (width, height) from 100 to 16384, got {window_size!r}")
    return tuple(int(s) for s in sizes)


def light(plotter, panels):
    """White lights that move with the camera, so that every side is lit alike and colours keep their hue."""
    pv = require("pyvista", "view")
    plotter.remove_all_lights()
    for i in range(panels):
        for position, strength in (((-0.5, 0.9, 1.0), 0.75), ((0.9, 0.1, 0.6), 0.25), ((0, -0.8, 0.4), 0.12)):
            plotter.renderers[i].add_light(pv.Light(position=position, light_type="camera light", intensity=strength))


def surface_mesh(picture):
    """The car's triangles as pyvista mesh, or None for a cloud."""
    if picture.faces is None:
        return None
    return require("pyvista", "view").PolyData.from_regular_faces(picture.positions, picture.faces)


def draw_surface(plotter, surface, panel, bar):
    """Light grey, or painted with the panel's values."""
    if surface is None:
        return
    look = {"smooth_shading": True, "split_sharp_edges": True, "feature_angle": 40, "name": "surface"}
    if panel.levels is None:
        plotter.add_mesh(surface, color=SURFACE_COLOUR, ambient=0.42, diffuse=0.72, specular=0.06, **look)
        return
    pv = require("pyvista", "view")
    table = pv.LookupTable(values=np.column_stack([bar.ramps[0], np.full(256, 255, np.uint8)]))
    table.scalar_range = (0, 255)
    painted = surface.copy(deep=False)
    painted["level"] = panel.levels.astype(np.float32)
    look |= {"cmap": table, "clim": (0, 255), "show_scalar_bar": False}
    plotter.add_mesh(painted, scalars="level", ambient=0.62, diffuse=0.42, **look)


def dots_actor(positions, dots):
    """Shaded spheres as one instanced actor."""
    vtk, pv = require("vtk", "view"), require("pyvista", "view")
    cloud = pv.PolyData(positions[dots.points])
    cloud["colour"], cloud["radius"] = dots.colours, dots.radii
    mapper = vtk.vtkGlyph3DMapper()
    mapper.SetInputData(cloud)
    mapper.SetSourceData(pv.Icosphere(radius=1, nsub=2 if len(dots.points) < 10000 else 1))
    mapper.SetScaleArray("radius")
    mapper.SetScaleModeToScaleByMagnitude()
    mapper.SetScalarModeToUsePointFieldData()
    mapper.SelectColorArray("colour")
    actor = pv.Actor(mapper=mapper)
    actor.prop.interpolation, actor.prop.ambient, actor.prop.diffuse = "phong", 0.5, 0.6
    return actor


def draw_overlays(overlays, picture, size):
    """Headings, captions, markers, legend and bar, again for every size the window takes."""
    width, height = size[0] / len(picture.panels), size[1] * (1 - STRIP)
    text = min(0.047 * width, 0.044 * size[1])
    *heads, strip = overlays
    for overlay, panel in zip(heads, picture.panels):
        overlay.clear()
        overlay.width, overlay.height = width, height
        room = 0.96 * width
        overlay.text(panel.heading, width / 2, height - 0.9 * text, text, align="center", bold=True, max_width=room)
        overlay.text(panel.caption, width / 2, height - 2.2 * text, 0.85 * text, align="center", max_width=room)
        if picture.query is not None:
            overlay.marker(picture.positions[picture.query], 0.013 * min(width, height), QUERY_COLOUR)
    strip.clear()
    strip.width, strip.height = size[0], size[1] * STRIP
    draw_strip(strip, picture, text)


def place_camera(plotter, picture, eye, size):
    """One camera for all panels that just holds the car below the headings."""
    aspect = size[0] / len(picture.panels) / (size[1] * (1 - STRIP))
    camera = fit(grown(picture), eye, aspect, top=HEAD)
    plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = camera.position, camera.focus, camera.up
    plotter.camera.view_angle = VIEW_ANGLE
    for renderer in plotter.renderers:
        renderer.reset_camera_clipping_range()


def grown(picture):
    """Positions with room for the dots at the rim."""
    radius = dot_radii(picture.positions)[0]
    offsets = np.vstack([np.eye(3), -np.eye(3)]) * radius
    return (picture.positions[:, None] + offsets).reshape(-1, 3)
