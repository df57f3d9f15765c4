"""The live view as an anywidget: our own WebGL2 (folder ``web``), loaded from package files, with binary buffers."""

from importlib.resources import files as package_files

import anywidget
import numpy as np
import traitlets as t

from bsaviz.view.branches import SURFACE_COLOUR
from bsaviz.view.camera import VIEW_ANGLE
from bsaviz.view.live.scene import LiveScene
from bsaviz.view.live.state import Classes, Scalars
from bsaviz.view.live.view_point import ViewPoint

SCRIPTS = ("renderer.js", "seen.js", "samples.js", "orbit.js", "key.js", "pick.js", "live.js")


def _web(*names):
    return "\n".join((package_files("bsaviz.view") / "web" / name).read_text("utf-8") for name in names)


class View(anywidget.AnyWidget):
    """What the browser is told. Each panel adds ``paint_0``, ``marks_0``, ``title_0``, so that each is sent alone."""

    _esm = _web(*SCRIPTS)
    _css = _web("live.css")
    panels = t.Int(1).tag(sync=True)
    surface = t.Dict().tag(sync=True)
    camera = t.Dict().tag(sync=True)
    home = t.List().tag(sync=True)
    group = t.Unicode().tag(sync=True)
    settings = t.Dict().tag(sync=True)


class WidgetScene(LiveScene):
    """`LiveScene` in a notebook's own page: nothing is drawn by the kernel, and nothing is loaded from elsewhere."""

    def __init__(self, panels=1, titles=None, *, width=None, height=420):
        super().__init__(panels, titles)
        settings = {"width": width, "height": height, "angle": VIEW_ANGLE, "grey": SURFACE_COLOUR}
        each = [f"{what}_{i}" for i in range(panels) for what in ("paint", "marks", "title")]
        kinds = {"paint": t.Dict, "marks": t.List, "title": t.Unicode}
        own = type("View", (View,), {name: kinds[name.split("_")[0]]().tag(sync=True) for name in each})
        titles = {f"title_{i}": panel.title for i, panel in enumerate(self._panels)}
        direction = list(self._view_point.direction)
        self._view = own(panels=panels, settings=settings, camera=self.camera, home=direction, **titles)
        self._view.observe(self._turned, "camera")
        self._view.on_msg(self._message)

    @property
    def widget(self):
        self._check_open()
        return self._view

    def _update(self, changed):
        with self._view.hold_sync():
            for one in sorted(changed, key=str):
                what, panel = (one, None) if isinstance(one, str) else one
                self._set(what, panel)

    def _set(self, what, panel):
        view = self._view
        if what == "surface":
            view.surface = surface_message(self._surface)
        elif what == "camera":
            view.home, view.camera = list(self._view_point.direction), self.camera
        elif what == "title":
            setattr(view, f"title_{panel}", self._panels[panel].title)
        elif what == "paint":
            setattr(view, f"paint_{panel}", paint_message(self._panels[panel].paint))
        else:
            setattr(view, f"marks_{panel}", [mark_message(m) for m in self._panels[panel].marks.values()])

    def _turned(self, change):
        """Someone turned the view (or the camera was set from here, which changes nothing)."""
        c = change["new"]
        target = None if c["target"] is None else tuple(c["target"])
        self._view_point = ViewPoint(tuple(c["direction"]), target, c["distance"])

    def _linked(self):
        together = self._together()
        group = min(str(id(scene)) for scene in together) if len(together) > 1 else ""
        for scene in together:
            scene._view.group = group

    def _message(self, _widget, content, _buffers):
        if isinstance(content.get("pick"), int) and isinstance(content.get("panel"), int):
            self._pick(content["pick"], content["panel"])

    def _free(self):
        self._view.unobserve_all()
        self._view.close()


def surface_message(surface):
    faces = b"" if surface.faces is None else surface.faces.astype("<u4").tobytes()
    return {"positions": surface.positions.astype("<f4").tobytes(), "triangles": faces, "radius": surface.radius}


def paint_message(paint):
    """Scalars as a byte a point and a ramp; classes as a byte a point, or a bit where there are two of them, and a
    palette; colours as they are; nothing for a grey surface."""
    if paint is None:
        return {}
    if isinstance(paint, Classes):
        few = len(paint.palette) <= 2
        packed = np.packbits(paint.classes) if few else paint.classes
        return {
            "bits" if few else "classes": packed.tobytes(), "palette": paint.palette.tobytes(),
            "legend": [list(entry) for entry in paint.legend],
        }  # fmt: skip
    if not isinstance(paint, Scalars):
        return {"tints": paint.colours.tobytes(), "legend": [list(entry) for entry in paint.legend]}
    bar = paint.bar
    words = {"label": bar.label, "ticks": [list(tick) for tick in bar.ticks], "low": bar.low, "high": bar.high}
    missing = paint.nan_colour if paint.some_missing else None
    return {"levels": paint.levels.tobytes(), "ramp": paint.ramp.tobytes(), "bar": words, "missing": missing}


def mark_message(marks):
    return {
        "points": marks.points.astype("<u4").tobytes(), "colour": marks.colour, "scale": marks.scale,
        "onTop": marks.on_top,
    }  # fmt: skip
