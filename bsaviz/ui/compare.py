"""Two models, or two settings of one, side by side on a car: where they err, and what they never read there."""

from dataclasses import dataclass

from bsaviz._checks import BsavizError, require
from bsaviz.ui import controls
from bsaviz.ui.compare_panels import NEEDS_TARGET, PERCENTILES, READING_SHOWS, SHOWS, WHOLE, count, panels
from bsaviz.ui.compare_tables import error_table, reading_table
from bsaviz.ui.comparison import Comparison, Side, smaller_ball, target_of
from bsaviz.ui.explorer import PAUSE, Explorer
from bsaviz.ui.hot_spot import nearest
from bsaviz.ui.size_sliders import size_slider
from bsaviz.ui.subject import as_car, as_model
from bsaviz.view.branches import QUERY_COLOUR
from bsaviz.view.live.state import whole_number

ALL = "all"
HOT_SPOT_COLOUR = "#000000"
LARGEST_HOT_SPOT = 64
HEIGHTS = {1: 460, 3: 340, 4: 260}  # of the scene, pixels, by the number of panels
LIMITS = (("1st to 99th percent", PERCENTILES), ("whole range", WHOLE))


@dataclass(frozen=True)
class Wanted:
    """The controls: `layer` None for all; `sizes` of A and B as pairs of a setting and its value."""

    show: str
    layer: int | None
    point: int
    count: int
    limits: str
    sizes: tuple


class CompareExplorer(Explorer):
    """Predictions of two models, their errors and difference, and what the queries of a hot-spot never read.

    A hot-spot is a point and those nearest to it. Click on the car to move it, or press a button to send it to the
    largest error. Drag the sizes of B: its tree is built anew and its layers run again with the same weights.

    Parameters
    ----------
    model : PointModel or file name, optional
        A. Default: the packaged model.
    other : PointModel or file name, optional
        B. Default: A with other sizes.
    car : Car, file name, array (P, D), optional
        Default: a packaged car.
    sizes : dict of str to int, optional
        Sizes of B to start with: ``ball_size``, ``block_size``, ``group_size``, ``top_k``. Default: those of `other`,
        or, without it, a quarter of A's ball size.
    target : str, optional
        Field of the car that errors are measured against. Default: its pressure, if it has it.
    point : int, optional
        Where the hot-spot starts. Default: the largest error of B, or without a field the largest difference.
    features : array (P, F) or sequence of str, optional
        Point features, as in `bsaviz.receptive_field`, for the models that read any.
    backend : str
        See `bsaviz.view.live_scene`.

    Attributes
    ----------
    show, layer, point, count, limits : ipywidgets widgets
        What is painted; layers that may read; middle of the hot-spot and how many points it has; range of the colours.
    sizes : dict of str to ipywidgets widget
        Sliders of B.
    worst : dict of str to ipywidgets.Button
        Send the hot-spot to the largest error of ``"a"``, of ``"b"``, or the largest ``"difference"``.
    comparison : bsaviz.ui.comparison.Comparison or None
        Predictions, errors and difference as arrays; None until the models have run (see `wait`).
    readings : pair of bsaviz.ui.hot_spot.HotSpotReading or None
        What A and B read for the hot-spot.
    numbers : ipywidgets.HTML
        The tables below.
    """

    title = "Compare"

    def __init__(
        self, model=None, other=None, car=None, *, sizes=None, target=None, point=None, features=None, backend="auto"
    ):
        super().__init__()
        self._backend, self._panels = backend, 0
        self.car = as_car(car)
        self.target, field, unit = target_of(self.car, target)
        self.unit, self._label = unit, f"{field} ({unit})" if unit else field
        model = as_model(model)
        self.sides = tuple(Side(m, self.car, features) for m in (model, model if other is None else as_model(other)))
        start = smaller_ball(self.sides[1]) if other is None and sizes is None else self._given(sizes)
        self.comparison = self.readings = None
        self._placed = point is not None
        self._make_controls(self._start(point), dict(start))
        self.numbers = controls.html()
        self._arrange(
            controls.columns(
                [self.show, self.limits, self.layer],
                [self.point, self.count, self._buttons],
                list(self.sizes.values()),
            ),
            self._stage,
            self.numbers,
        )
        self._begin()

    def _given(self, sizes):
        """Sizes of B: its own, but for those that were given."""
        own, sizes = dict(self.sides[1].own_sizes), sizes or {}
        for name, value in sizes.items():
            if name not in own:
                raise BsavizError(f"B has no size {name!r}; it has: {', '.join(own) or 'none'}")
            if not whole_number(value) or value < 1:
                raise BsavizError(f"sizes[{name!r}] must be a whole number of at least 1, got {value!r}")
        return tuple((own | sizes).items())

    def _start(self, point):
        """The point asked for; the first one stands for one that is not known yet."""
        if point is None:
            return 0
        if not whole_number(point) or not 0 <= point < self.car.num_points:
            raise BsavizError(f"point must be a whole number from 0 to {self.car.num_points - 1}, got {point!r}")
        return int(point)

    def _compared(self, sizes, ticket):
        predictions = [side.prediction(size, ticket) for side, size in zip(self.sides, sizes)]
        return Comparison(*predictions, self.target)

    def _make_controls(self, point, start):
        widgets = require("ipywidgets", "notebooks")
        points, b = self.car.num_points, self.sides[1]
        shows = [show for show in SHOWS if self.target is not None or show not in NEEDS_TARGET]
        names = SHOWS if self.target is not None else SHOWS | {"hot-spot": "difference and reading"}
        self.show = controls.menu("Show", [(names[show], show) for show in shows], "hot-spot", "What is painted")
        self.limits = controls.menu("Colours", LIMITS, PERCENTILES, "Values that the colours span, one range for both")
        common = min(len(side.sites) for side in self.sides)
        layers = [("all layers", ALL), *((str(layer), layer) for layer in range(common))]
        self.layer = controls.choice_slider("Layer", layers, ALL, "Layers in which the hot-spot's queries may read")
        self.point = controls.whole_slider(
            "Hot-spot (point)", point, 0, points - 1, "Whose queries are looked at; or click on the car"
        )
        most = min(LARGEST_HOT_SPOT, points)
        self.count = controls.whole_slider(
            "Points of the hot-spot", min(8, most), 1, most, "The point and those nearest to it"
        )
        self.sizes = {name: size_slider(setting, points, start[name]) for name, setting in b.settings.items()}
        for slider in self.sizes.values():
            slider.description = f"B: {slider.description.partition(' (')[0].lower()}"
        self._make_buttons(widgets)
        for control in (self.show, self.limits, self.layer, self.point, self.count, *self.sizes.values()):
            control.observe(self._refresh, "value")

    def _make_buttons(self, widgets):
        words = {"a": "of A", "b": "of B"} if self.target is not None else {}
        self.worst = {
            which: widgets.Button(
                description=label, tooltip="Send the hot-spot there", layout=widgets.Layout(width="auto")
            )
            for which, label in (words | {"difference": "difference"}).items()
        }
        for which, button in self.worst.items():
            button.on_click(lambda _, which=which: self.go_to_worst(which))
        self._buttons = widgets.HBox([widgets.Label("Largest error" if words else "Largest"), *self.worst.values()])

    def go_to_worst(self, which):
        """Send the hot-spot to the largest error of ``"a"`` or ``"b"``, or to the largest ``"difference"``."""
        if which not in self.worst:
            raise BsavizError(f"the hot-spot can be sent to {', '.join(map(repr, self.worst))}, got {which!r}")
        if self.comparison is None:
            self.wait()
        self.point.value = self.comparison.worst(which)

    def _pick(self, point, panel):
        self.point.value = int(point)

    def _wanted(self):
        sizes = tuple((name, slider.value) for name, slider in self.sizes.items())
        layer = None if self.layer.value == ALL else self.layer.value
        return Wanted(
            self.show.value, layer, self.point.value, self.count.value, self.limits.value,
            (self.sides[0].own_sizes, sizes),
        )  # fmt: skip

    def _steps(self, wanted, ticket):
        if self.comparison is None:
            if not ticket.at_once:
                yield lambda: self._announce(wanted)
        comparison = self._compared(wanted.sizes, ticket)
        if not self._placed:
            yield lambda: self._place(comparison)
            return
        if wanted.show not in READING_SHOWS:
            yield lambda: self._paint(wanted, comparison, None)
        hot_spot = nearest(self.car.positions, wanted.point, wanted.count)
        readings = tuple(
            side.hot_spot(sizes, hot_spot, wanted.layer, ticket) for side, sizes in zip(self.sides, wanted.sizes)
        )
        if wanted.show in READING_SHOWS:
            yield lambda: self._paint(wanted, comparison, readings)
        ticket.rest(PAUSE)
        yield lambda: self._tell(wanted, readings, (None, None))
        costs = tuple(side.cost(sizes, ticket) for side, sizes in zip(self.sides, wanted.sizes))
        yield lambda: self._tell(wanted, readings, costs)

    def _show(self, result):
        result()

    def _announce(self, wanted):
        """The car, before anything is known of it."""
        self._set_panels(count(wanted.show, self.target is not None))
        self.scene.set_title("running the models")

    def _place(self, comparison):
        """The hot-spot starts where B is farthest off, or where the two differ most."""
        self._placed, self.comparison = True, comparison
        with self._silently():
            self.point.value = comparison.worst("difference" if self.target is None else "b")
        self._refresh()

    def _paint(self, wanted, comparison, readings):
        self.comparison = comparison
        drawn = panels(wanted.show, comparison, readings, self._label, wanted.limits)
        self._set_panels(len(drawn))
        hot_spot = nearest(self.car.positions, wanted.point, wanted.count)
        with self.scene.batch():
            for number, panel in enumerate(drawn):
                panel.paint(self.scene, number)
            self.scene.highlight(hot_spot[1:], colour=HOT_SPOT_COLOUR, scale=1.0, on_top=False)
            self.scene.highlight(hot_spot[:1], colour=QUERY_COLOUR)
        self._say()

    def _set_panels(self, number):
        """A scene with so many panels."""
        from bsaviz.view import live_scene

        if self._panels == number:
            return
        scene = live_scene(number, titles=[""] * number, height=HEIGHTS[number], backend=self._backend)
        scene.set_surface(self.car.positions, self.car.faces)
        scene.on_pick(self._pick)
        self._set_scene(scene)
        self._panels = number

    def _tell(self, wanted, readings, costs):
        self.readings = readings
        names = [f"{name}: {side.describe(sizes)}" for name, side, sizes in zip("AB", self.sides, wanted.sizes)]
        parameters = [side.parameters for side in self.sides]
        errors = error_table(self.comparison, names, wanted.point, self.unit, costs, parameters)
        self.numbers.value = errors + reading_table(readings, wanted.point, wanted.count, wanted.layer)
