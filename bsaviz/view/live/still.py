"""A still of a live scene, drawn by pyvista with no browser: same camera, colours, marks, titles and keys."""

from io import BytesIO

import numpy as np

from bsaviz._checks import require
from bsaviz.view import panels as pictures
from bsaviz.view.branches import SURFACE_COLOUR, rgb
from bsaviz.view.camera import VIEW_ANGLE
from bsaviz.view.drawing import check_window, dots_actor, draw_surface, light
from bsaviz.view.live.state import Scalars
from bsaviz.view.opengl import check_drawing
from bsaviz.view.overlay import Overlay, draw_bar, draw_legend

KEY, HEAD = 0.14, 0.1  # shares of the height for the keys and, where there are titles, for these


def draw(surface, panels, view_point, size=None):
    """PNG bytes of `panels` of a `bsaviz.view.live.state.Surface`; arguments as a `LiveScene` holds them."""
    check_drawing()
    pv, image = require("pyvista", "view"), require("PIL.Image", "view")
    count = len(panels)
    width, height = check_window(size, (620 * count if count > 1 else 900, 560 if count > 1 else 640), "size")
    with pv.vtk_verbosity("error"):  # with no display VTK warns before it falls back to a window in memory
        plotter = pv.Plotter(
            shape=(2, count), row_weights=[1 - KEY, KEY], border=False, off_screen=True, window_size=(width, height)
        )
    try:
        plotter.set_background("white", all_renderers=True)
        light(plotter, count)
        box = (width / count, height * (1 - KEY))
        text = min(0.045 * box[0], 0.04 * height)
        for i, panel in enumerate(panels):
            plotter.subplot(0, i)
            _draw_points(plotter, surface, panel)
            _write(Overlay(plotter.renderers[i], box), surface, panel, text)
            _draw_key(Overlay(plotter.renderers[count + i], (box[0], height * KEY)), panel.paint, text)
        _look(plotter, surface, view_point, box, HEAD if any(panel.title for panel in panels) else 0.0)
        plotter.enable_anti_aliasing("ssaa", all_renderers=True)
        pixels = plotter.screenshot(return_img=True)
    finally:
        plotter.close()
    out = BytesIO()
    image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def _draw_points(plotter, surface, panel):
    """The surface, or the cloud's dots, and the marks that it can hide."""
    everything = np.arange(len(surface.positions))
    if surface.faces is not None:
        _draw_mesh(plotter, surface, panel.paint)
    else:
        colours = np.tile(rgb(SURFACE_COLOUR), (len(everything), 1)) if panel.paint is None else panel.paint.colours
        _draw_dots(plotter, surface, "points", everything, colours, 1.0)
    for marks in panel.marks.values():
        if not marks.on_top:
            colours = np.tile(rgb(marks.colour), (len(marks.points), 1))
            _draw_dots(plotter, surface, f"marks {marks.colour}", marks.points, colours, marks.scale)


def _draw_mesh(plotter, surface, paint):
    mesh = require("pyvista", "view").PolyData.from_regular_faces(surface.positions, surface.faces)
    if paint is None or (isinstance(paint, Scalars) and not paint.some_missing):
        levels, bar = (None, None) if paint is None else (paint.levels, paint.bar)
        draw_surface(plotter, mesh, pictures.Panel("", "", levels=levels), bar)
        return
    mesh["colour"] = paint.colours
    look = {"smooth_shading": True, "split_sharp_edges": True, "feature_angle": 40, "ambient": 0.62, "diffuse": 0.42}
    plotter.add_mesh(mesh, scalars="colour", rgb=True, name="surface", **look)


def _draw_dots(plotter, surface, name, points, colours, scale):
    radii = np.full(len(points), scale * surface.radius, np.float32)
    actor = dots_actor(surface.positions, pictures.Dots(name, points, colours, radii))
    plotter.add_actor(actor, reset_camera=False, name=name, pickable=False)


def _write(overlay, surface, panel, text):
    """The title, and the marks that nothing hides."""
    width, height = overlay.width, overlay.height
    if panel.title:
        overlay.text(panel.title, width / 2, height - text, text, align="center", bold=True, max_width=0.96 * width)
    for marks in panel.marks.values():
        if marks.on_top:
            for point in marks.points:
                radius = 0.0065 * marks.scale * min(width, height)
                overlay.marker(surface.positions[point], radius, marks.colour)


def _draw_key(overlay, paint, text):
    middle = 0.5 * overlay.height
    if paint is None:
        return
    if not isinstance(paint, Scalars):
        if paint.legend:
            draw_legend(overlay, paint.legend, overlay.width, middle, 0.9 * text)
        return
    bar = min(0.6 * overlay.width, 16 * text)
    left = (overlay.width - bar) / 2
    draw_bar(overlay, paint.bar, left, middle, bar, 0.9 * text)
    if paint.some_missing:
        overlay.disc(left + bar + 1.2 * text, middle, 0.3 * text, paint.nan_colour)
        overlay.text("no value", left + bar + 1.8 * text, middle, 0.65 * text)


def _look(plotter, surface, view_point, box, top):
    camera = view_point.camera(surface, box[0] / box[1], top)
    columns = list(range(plotter.shape[1]))
    plotter.link_views(columns)
    plotter.subplot(0, 0)
    plotter.camera.position, plotter.camera.focal_point, plotter.camera.up = camera.position, camera.focus, camera.up
    plotter.camera.view_angle = VIEW_ANGLE
    for i in columns:
        plotter.renderers[i].reset_camera_clipping_range()
