"""Notebook cells that show one mesh in each kind of live view, with one slider that recolours all of it.

Each view's cell defines ``view`` (a widget), ``paint(high)`` and fills ``picked`` when a point is picked.
"""

MESH = """
import os, sys, numpy as np, ipywidgets
sys.path.insert(0, {tests!r})
from view_cases import body
points, faces = body(*{shape})
low, high = np.zeros(len(points), np.float32), np.ones(len(points), np.float32)
picked = []
"""

IMPORT = {
    "anywidget": "import bsaviz.view, bsaviz.view.live.widget",
    "structural": "import bsaviz, bsaviz.fields, bsaviz.view.live.widget\nfrom bsaviz.datasets import Car\n"
    "from bsaviz.view import COLOURS\nfrom bsaviz.view.branches import rgb",
    "k3d": "import k3d",
    "pyvista": "import pyvista as pv; pv.global_theme.trame.server_proxy_enabled = True",
}

ANYWIDGET = """
scene = bsaviz.view.live_scene(height=400, width=600)
scene.set_surface(points, faces)
scene.on_pick(lambda point, panel: picked.append(point))
paint = lambda up: scene.set_scalars(high if up else low, clim=(0, 1))
paint(False)
view = scene.widget
"""

K3D = """
view = k3d.plot(height=400, grid_visible=False, menu_visibility=False, mode="callback", camera_auto_fit=True)
mesh = k3d.mesh(points, faces.astype(np.uint32), attribute=low, color_map=k3d.matplotlib_color_maps.Viridis,
                color_range=[0, 1], flat_shading=False)
mesh.click_callback = lambda content: picked.append(content)
view += mesh
def paint(up):
    mesh.attribute = high if up else low
"""

PYVISTA = """
mesh = pv.PolyData.from_regular_faces(points, faces)
mesh["value"] = low.copy()
plotter = pv.Plotter(notebook=True, window_size=(600, 400))
plotter.add_mesh(mesh, scalars="value", clim=(0, 1), cmap="viridis", show_scalar_bar=False)
plotter.enable_surface_point_picking(
    callback=lambda *spot: picked.append(str(spot)), left_clicking=True, show_message=False, show_point=False)
view = plotter.show(jupyter_backend={mode!r}, return_viewer=True)
def paint(up):
    mesh["value"] = high if up else low
    view.viewer.update()
"""

MODEL = """
car = Car("body", points, faces)
trace = bsaviz.fields.Trace(bsaviz.packaged_model(), car, layers=[0])
trace.readable(0, 0)
"""

STRUCTURAL = """
scene = bsaviz.view.live_scene(height=400, width=600)
scene.set_surface(points, faces)
queries = [int(np.abs(points - spot).sum(1).argmin()) for spot in ([-1.5, -0.8, 0], [1.5, -0.8, 0])]
def paint(up):
    reads = trace.readable(queries[bool(up)], 0)
    colours = np.full((len(points), 3), 217, np.uint8)
    for branch in reversed(list(reads)):
        colours[reads[branch]] = rgb(COLOURS[branch])
    scene.set_colours(colours)
paint(False)
view = scene.widget
"""

SHOW = """
slider = ipywidgets.IntSlider(0, 0, 1000)
slider.observe(lambda change: paint(change["new"] % 2), "value")
stage = ipywidgets.VBox([slider, ipywidgets.Box([view], layout=ipywidgets.Layout(width="620px", height="410px"))])
stage.add_class("measured")
stage
"""


def cells(kind, mode, shape, tests):
    """The two cells of a kind of view: what may be loaded before, and what shows it."""
    view = {"anywidget": ANYWIDGET, "k3d": K3D, "structural": STRUCTURAL}.get(kind) or PYVISTA.format(mode=mode)
    before = MESH.format(shape=shape, tests=str(tests)) + IMPORT[kind] + (MODEL if kind == "structural" else "")
    return before, view + SHOW
