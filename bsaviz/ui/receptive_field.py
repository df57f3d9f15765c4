"""Receptive fields, live: which points a query reads, branch by branch, while sizes, layer and query are dragged."""

import numpy as np

from bsaviz.fields import KINDS, landmarks
from bsaviz.ui import controls
from bsaviz.ui.explorer import PAUSE, Explorer
from bsaviz.ui.field_source import WHOLE, Asked, FieldSource
from bsaviz.ui.size_sliders import size_slider
from bsaviz.ui.subject import as_car, as_model
from bsaviz.ui.text import swatch, table
from bsaviz.view.branches import COLOURS, QUERY_COLOUR, SURFACE_COLOUR

KIND_NAMES = {
    "structural": "structural: may read",
    "mass": "mass: gate × softmax",
    "gradient": "gradient: branch",
    "reach": "reach through layers",
    "rollout": "rollout of the mass",
    "model_gradient": "gradient: model",
}
BARS = {
    "mass": "attention mass (1/1000)",
    "gradient": "norm of the gradient",
    "rollout": "mass rolled out (1/1000)",
    "model_gradient": "norm of the gradient, 99 % of the points",
}
RAMPS = {"ball": "Blues", "compression": "Oranges", "selection": "Greens", "full": "RdPu", "window": "PuBu"}
HEAD = ("", "points read", "of the surface", "mean distance (car lengths)", "attention mass", "mass outside the ball")
THOUSAND = 1000  # shares of the mass are small numbers: a bar in thousandths can be read
ALL, OTHER = "all", "another point"
HEIGHTS = {1: 460, 2: 380}  # of the scene, pixels, by the number of panels


class ReceptiveFieldExplorer(Explorer):
    """What a point of a car reads in each branch of a model's attention (BSA, arXiv 2506.12541, figure 2).

    Drag the sizes: the tree is built anew and the layers run again with the same weights. Click on the car to move the
    query.

    Parameters
    ----------
    model : PointModel or file name, optional
        Default: the packaged model.
    car : Car, file name, array (P, D), optional
        Default: a packaged car.
    query : int, optional
        Point to start at. Default: the bonnet.
    layer : int
        Layer to start at.
    features : array (P, F) or sequence of str, optional
        Point features, as in `bsaviz.receptive_field`.
    backend : str
        See `bsaviz.view.live_scene`.

    Attributes
    ----------
    query, landmark, layer, head, branch, kind : ipywidgets widgets
        What is looked at.
    sizes : dict of str to ipywidgets widget
        Sliders of the model's ``ball_size``, ``block_size``, ``group_size`` and ``top_k``, those it has; one that its
        weights fix is disabled.
    numbers : ipywidgets.HTML
        The table below.
    readings : dict of str to bsaviz.ui.field_source.Reading
        The same as numbers.
    """

    title = "Receptive field"

    def __init__(self, model=None, car=None, *, query=None, layer=0, features=None, backend="auto"):
        super().__init__()
        self._backend = backend
        self.car = as_car(car)
        self.source = FieldSource(as_model(model), self.car, features)
        self.landmarks = landmarks(self.car)
        self.readings, self._gflops = {}, None
        self._make_controls(self.landmarks["bonnet"] if query is None else int(query), layer)
        self.numbers = controls.html()
        self._panels = ()
        self._arrange(
            controls.columns(
                [self.landmark, self.query, self.kind],
                [self.layer, self.head, self.branch],
                list(self.sizes.values()),
            ),
            self._stage,
            self.numbers,
        )
        self._begin()

    def _make_controls(self, query, layer):
        source = self.source
        points, layers = self.car.num_points, len(source.sites)
        self.query = controls.whole_slider(
            "Query (point)", query, 0, points - 1, "The point whose reading is shown; or click on the car"
        )
        self.landmark = controls.menu(
            "Place", [OTHER, *self.landmarks], self._place_of(query), "Named places of a car, found by its shape"
        )
        self.layer = controls.whole_slider("Layer", layer, 0, layers - 1, "Attention layer, in the order they run")
        heads = [("all heads", ALL), *((f"head {head}", head) for head in range(source.heads))]
        self.head = controls.menu("Head", heads, ALL, "All: the union of what is read, the mean of the mass")
        branches = [("all, side by side", ALL), *((name, name) for name in source.branches)]
        self.branch = controls.menu("Branch", branches, ALL, "One branch alone is drawn larger")
        kinds = [(KIND_NAMES.get(kind, kind), kind) for kind in KINDS]
        self.kind = controls.menu("Kind", kinds, "structural", "What is painted on the car")
        self.sizes = {name: size_slider(setting, points) for name, setting in source.settings.items()}
        for control in (self.layer, self.head, self.branch, self.kind, *self.sizes.values()):
            control.observe(self._refresh, "value")
        self.query.observe(self._moved, "value")
        self.landmark.observe(self._sent, "value")

    def _moved(self, change):
        """The query moved: the menu of places follows."""
        if self.landmarks.get(self.landmark.value) != change["new"]:
            self.landmark.value = self._place_of(change["new"])
        self._refresh()

    def _sent(self, change):
        """A place was chosen: the query goes there."""
        if change["new"] in self.landmarks:
            self.query.value = self.landmarks[change["new"]]

    def _place_of(self, query):
        return next((name for name, point in self.landmarks.items() if point == query), OTHER)

    def _pick(self, point, panel):
        self.query.value = int(point)

    def _wanted(self):
        sizes = tuple((name, slider.value) for name, slider in self.sizes.items())
        head = None if self.head.value == ALL else self.head.value
        asked = Asked(self.query.value, self.layer.value, head, self.kind.value, sizes)
        return asked, self.branch.value

    def _steps(self, wanted, ticket):
        asked, branch = wanted
        for field in self.source.fields(asked, ticket):
            panels = tuple(field) if branch not in field else (branch,)
            yield lambda panels=panels, field=field: self._paint(asked, panels, field)
        ticket.rest(PAUSE)
        readings = self.source.readings(asked, ticket)
        if not self.source.counted(asked):
            yield lambda: self._count(readings, None)
        gflops = self.source.gflops(asked, ticket)
        yield lambda: self._count(readings, gflops)

    def _show(self, result):
        result()

    def _paint(self, asked, panels, field):
        self._set_panels(panels)
        with self.scene.batch():
            for panel, branch in enumerate(panels):
                self.scene.set_title(_title(branch, asked.layer, field[branch]), panel=panel)
                values = np.zeros(self.car.num_points, bool) if field[branch] is None else field[branch]
                _paint_panel(self.scene, panel, branch, values, asked.kind)
            self.scene.highlight([asked.query], colour=QUERY_COLOUR)
        self._say(self._hints())

    def _set_panels(self, panels):
        """A scene with as many panels as there are branches to draw."""
        from bsaviz.view import live_scene

        if self.scene is None or len(panels) != len(self._panels):
            scene = live_scene(
                len(panels), titles=[""] * len(panels), height=HEIGHTS.get(len(panels), 300), backend=self._backend
            )
            scene.set_surface(self.car.positions, self.car.faces)
            scene.on_pick(self._pick)
            self._set_scene(scene)
        self._panels = panels

    def _count(self, readings, gflops):
        self.readings, self._gflops = readings, gflops
        rows = [
            (
                swatch(branch, COLOURS.get(branch, QUERY_COLOUR)),
                f"{r.points:,}",
                f"{r.surface:.1f} %",
                "–" if np.isnan(r.distance) else f"{r.distance:.3f}",
                f"{r.mass:.3f}",
                f"{r.outside:.3f}" if "ball" in readings else "–",
            )
            for branch, r in readings.items()
        ]
        cost = "" if gflops is None else f"A forward pass on {self.car.num_points:,} points: {gflops:.2f} GFLOPs."
        self.numbers.value = table(HEAD, rows) + f"<div>{cost}</div>"

    def _hints(self):
        fixed = [
            f"the {name.replace('_', ' ')} stays {setting.value}: {setting.fixed}"
            for name, setting in self.source.settings.items()
            if setting.fixed
        ]
        return f"With these weights {'; '.join(fixed)}." if fixed else ""


def _title(branch, layer, values):
    if branch == WHOLE:
        return branch.capitalize()
    return f"{branch.capitalize()}, layer {layer}" + (": running the layers" if values is None else "")


def _paint_panel(scene, panel, branch, values, kind):
    colour = COLOURS.get(branch, "#0072B2")
    if values.dtype == bool:
        legend = {("may be read" if kind == "structural" else "reached"): colour, "query": QUERY_COLOUR}
        scene.set_classes(values, [SURFACE_COLOUR, colour], panel=panel, legend=legend)
        return
    amount = np.where(values > 0, values, np.nan) * (THOUSAND if kind in ("mass", "rollout") else 1)
    highest = 1.0
    if np.isfinite(amount).any():  # the query's own gradient is far above all others and would leave them dark
        highest = float(np.nanpercentile(amount, 99) if kind == "model_gradient" else np.nanmax(amount))
    label = BARS.get(kind, kind)
    ramp = "viridis" if branch == WHOLE else RAMPS.get(branch, "viridis")
    scene.set_scalars(amount, panel=panel, cmap=ramp, clim=(0.0, highest), label=label)
