"""Accuracy against cost, live: the dots of a study, and behind each dot the model itself on a car."""

from collections import OrderedDict
from dataclasses import dataclass
from html import escape

from bsaviz._checks import BsavizError, require
from bsaviz.fields import landmarks
from bsaviz.ui import controls, text
from bsaviz.ui.comparison import target_of
from bsaviz.ui.explorer import Explorer
from bsaviz.ui.subject import as_car
from bsaviz.ui.tradeoff_panels import SHOWS, Look, OnCar
from bsaviz.view.branches import QUERY_COLOUR, SURFACE_COLOUR
from bsaviz.view.plots_tradeoff import default_series, notes_of, pareto_front, tradeoff_figure, write_page
from bsaviz.view.plots_trials import HOW_TO_KEEP, applies, name_of, trials_of, value_text

ALL, MEDIAN = "all", "median"
SCALES = (("both logarithmic", (True, True)), ("cost logarithmic", (True, False)), ("error logarithmic", (False, True)),
          ("linear", (False, False)))  # fmt: skip
KEPT = 4  # models at hand, so that going back to a dot is immediate
MOST_FILTERS = 8
SCENE_HEIGHT = {1: 430, 2: 330, 3: 330}
DEFAULT_STUDY = "table3"


@dataclass(frozen=True)
class Wanted:
    """The controls: which training (setting and seed, None for the median one), and what is shown of it."""

    setting: int
    seed: int | None
    look: Look


class TradeoffExplorer(Explorer):
    """Error against cost of every setting of a study; click a dot to see that model on the car.

    Dots are medians over seeds, bars the lowest and the highest; the dashed line is the Pareto front: settings that no
    other beats in both. What the clicked model reads (click on the car to move the query), how it gates and where it
    errs stand beside the plot, where the study kept its weights.

    Parameters
    ----------
    study : str, Path, Sweep or Dataset, optional
        A stored study by its name (`bsaviz.study.studies.studies()`) or file, a sweep or its folder. Default: the
        stored study of the papers' table of models.
    car : Car, file name, array (P, D), optional
        Default: a packaged car.
    cost, error : str, optional
        Quantities of the axes at first: ``"gflops"``, ``"forward_ms"``, ``"training_ms"``, ``"forward_mib"``,
        ``"training_mib"``, ``"parameters"``; ``"relative_l2"``, ``"mse"``, ``"mae_area"``.
    by : str, optional
        Parameter that colours and shapes tell apart at first. Default: the model, or the first that was varied.
    papers : bool
        Draw the published points in, on an axis of their own.
    target : str, optional
        Field of the car that errors are measured against. Default: its pressure, if it has it.
    features : array (P, F) or sequence of str, optional
        Point features, as in `bsaviz.receptive_field`, for models that read any.
    backend : str
        See `bsaviz.view.live_scene`.

    Attributes
    ----------
    plot : bsaviz.view.plots_widget.PlotWidget
    cost, error, by, scales, papers, seed, show, layer, query : ipywidgets widgets
        The controls.
    filters : dict of str to ipywidgets.Dropdown
        One a parameter that was varied.
    setting : int
        The chosen setting: see `trials.labels`.
    trials : bsaviz.view.plots_trials.Trials
        All trainings as a table.
    model : PointModel or None
        The model of the chosen dot, where its weights are kept.
    numbers : ipywidgets.HTML
        The table below.

    Examples
    --------
    >>> bsaviz.ui.TradeoffExplorer()  # doctest: +SKIP
    >>> bsaviz.ui.TradeoffExplorer("my_sweep", bsaviz.load_car("my_car.stl"), cost="forward_ms")  # doctest: +SKIP
    """

    title = "Accuracy against cost"

    def __init__(
        self, study=None, car=None, *, cost=None, error=None, by=None, papers=True, target=None, features=None,
        backend="auto",
    ):  # fmt: skip
        super().__init__()
        self._backend, self._features, self._panels, self._models = backend, features, 0, OrderedDict()
        self.trials = trials_of(DEFAULT_STUDY if study is None else study)
        self.car = as_car(car)
        self.target, field, unit = target_of(self.car, target)
        self._label = f"{field} ({unit})" if unit else field
        self.model = None
        self._make_controls(cost, error, by, papers)
        self.setting = self._first()
        self.numbers, self.notes = controls.html(), controls.html()
        self._make_plot()
        self._arrange(
            controls.columns(
                [self.cost, self.error, self.scales], [self.by, self.seed, self.papers],
                [self.show, self.layer, self.query],
            ),
            controls.columns(*([filter] for filter in self.filters.values())),
            self._beside(),
            self.numbers,
        )  # fmt: skip
        self._begin()

    def _make_controls(self, cost, error, by, papers):
        widgets = require("ipywidgets", "notebooks")
        trials = self.trials
        named = lambda names: [(trials.quantities[name].label, name) for name in names]
        costs, errors = named(trials.costs), named(trials.errors)
        self.cost = _chosen_menu("Cost", costs, cost, "Of the horizontal axis")
        self.error = _chosen_menu("Error", errors, error, "Of the vertical axis: mean over the test cars")
        self.scales = controls.menu("Axes", SCALES, (True, True), "Equal steps of a logarithmic axis are equal ratios")
        series = [(name_of(name), name) for name in trials.series] or [("nothing", None)]
        by = default_series(trials) if by is None else by
        self.by = _chosen_menu("Tell apart by", series, by, "What colours and shapes mean")
        seeds = [("the median one of those kept", MEDIAN), *((f"seed {seed}", seed) for seed in trials.seeds)]
        self.seed = controls.menu("Training shown", seeds, MEDIAN, "Which of a dot's trainings is shown on the car")
        self.papers = widgets.Checkbox(
            value=bool(papers), description="published points (other data)", indent=False,
            tooltip="On an axis of their own, where the cost is GFLOPs", layout=widgets.Layout(width=controls.WIDTH),
        )  # fmt: skip
        self.show = controls.menu("Show", [(words, name) for name, words in SHOWS.items()], "overview", "On the car")
        points = self.car.num_points
        self.layer = controls.whole_slider("Layer", 0, 0, 0, "Attention layer, in the order they run")
        start = landmarks(self.car)["bonnet"]
        self.query = controls.whole_slider("Query (point)", start, 0, points - 1, "Or click on the car")
        self.filters = {
            name: controls.menu(
                f"Only {name_of(name)}", [(ALL, ALL), *((value_text(v), v) for v in trials.values(name))], ALL,
                "Show only the settings with this value",
            )
            for name in trials.parameters[:MOST_FILTERS]
        }  # fmt: skip
        for control in (self.cost, self.error, self.scales, self.by, self.papers, *self.filters.values()):
            control.observe(self._replot, "value")
        for control in (self.seed, self.show, self.layer, self.query):
            control.observe(self._refresh, "value")

    def _first(self):
        """Of the Pareto front's settings, the one that errs least of those whose weights are kept, if any are."""
        table = self.trials.summary(self.cost.value, self.error.value)
        front = pareto_front(table, self.cost.value, self.error.value)[::-1]
        kept = [s for s in [*front, *table.index] if self.trials.has_model(self.trials.trial(s, by=self.error.value))]
        return next(iter(kept or front))

    def _make_plot(self):
        require("anywidget", "notebooks")
        require("plotly", "notebooks")
        from bsaviz.view.plots_widget import PlotWidget

        self.plot = PlotWidget(self.figure(), self._clicked)
        self._note()

    def _note(self):
        """The notes below the plot."""
        notes = notes_of(self.trials, self.papers.value and self.cost.value == "gflops")
        self.notes.value = "".join(f'<div style="line-height: 1.35; opacity: .75">{escape(n)}</div>' for n in notes)

    def figure(self):
        """The plot as it is now, as a plotly figure."""
        return self._figure(chosen=self.setting, words=False)

    def export_html(self, path):
        """Write the plot as it is now as a page that needs no kernel and no network. Returns the path."""
        return write_page(self._figure(), path)

    def _figure(self, **options):
        where = {name: menu.value for name, menu in self.filters.items() if menu.value != ALL}
        log_cost, log_error = self.scales.value
        return tradeoff_figure(
            self.trials, cost=self.cost.value, error=self.error.value, by=self.by.value, where=where,
            log_cost=log_cost, log_error=log_error, papers=self.papers.value, **options,
        )  # fmt: skip

    def _beside(self):
        """The plot and the stage side by side; below each other in a narrow cell."""
        widgets = require("ipywidgets", "notebooks")
        plot = widgets.VBox([self.plot, self.notes], layout=widgets.Layout(flex="1 1 510px", min_width="440px"))
        self._stage.layout = widgets.Layout(flex="1 1 510px", min_width="420px", align_self="center")
        return widgets.HBox([plot, self._stage], layout=widgets.Layout(flex_flow="row wrap", width="100%"))

    def _replot(self, change=None):
        """Draw the plot anew; a choice that leaves nothing to draw is said below, and the plot stays."""
        try:
            figure = self.figure()
        except BsavizError as error:
            self._problem = error
            self._warn(f"{error}. The plot stays as it was.")
            return
        self.plot.draw(figure)
        self._note()
        self._problem = None
        self._say(self._hint())

    def _clicked(self, setting):
        if setting in self.trials.labels:
            self.choose(setting)

    def choose(self, setting):
        """Show a setting's model on the car, as a click on its dot does."""
        if setting not in self.trials.labels:
            last = len(self.trials.labels) - 1
            raise BsavizError(f"setting must be a whole number from 0 to {last}, see trials.labels; got {setting!r}")
        self.setting = setting
        self._replot()
        self._refresh()

    def _pick(self, point, panel):
        self.query.value = int(point)

    def _wanted(self):
        seed = None if self.seed.value == MEDIAN else self.seed.value
        return Wanted(self.setting, seed, Look(self.show.value, self.query.value, self.layer.value))

    def _steps(self, wanted, ticket):
        row = self.trials.trial(wanted.setting, wanted.seed, by=self.error.value)
        if not self.trials.has_model(row):
            yield lambda: self._paint_nothing(row)
            return
        on_car = self._on_car(row)
        look = Look(wanted.look.show, wanted.look.query, min(wanted.look.layer, on_car.layers - 1))
        panels = on_car.panels(look, ticket)
        yield lambda: self._paint(row, on_car, look, panels)
        error = on_car.relative_l2(ticket)
        yield lambda: self._tell(row, error)

    def _on_car(self, row):
        """The model of a training, on the car."""
        key = int(row.name)
        if key not in self._models:
            self._models[key] = OnCar(self.trials.model(row), self.car, self.target, self._label, self._features)
        self._models.move_to_end(key)
        while len(self._models) > KEPT:
            self._models.popitem(last=False)
        return self._models[key]

    def _show(self, result):
        result()

    def _paint(self, row, on_car, look, panels):
        self.model = on_car.model
        with self._silently():
            self.layer.max = on_car.layers - 1
        self._set_panels(len(panels))
        with self.scene.batch():
            for number, panel in enumerate(panels):
                panel.paint(self.scene, number)
            self.scene.highlight([look.query], colour=QUERY_COLOUR)
        self._say(self._hint())
        self._tell(row, None)

    def _paint_nothing(self, row):
        """A grey car, and how weights are kept."""
        import numpy as np

        self.model = None
        self._set_panels(1)
        grey = np.tile(np.frombuffer(bytes.fromhex(SURFACE_COLOUR[1:]), np.uint8), (self.car.num_points, 1))
        with self.scene.batch():
            self.scene.set_title("No weights kept of this dot", panel=0)
            self.scene.set_colours(grey, panel=0)
            self.scene.highlight([], colour=QUERY_COLOUR)
        self._say(f"The weights of {self.trials.labels[row['setting']]} were not kept: there are its numbers, but no "
                  f"field, gates or error on the car. {HOW_TO_KEEP}.")  # fmt: skip
        self._tell(row, None)

    def _set_panels(self, count):
        """A scene with so many panels."""
        from bsaviz.view import live_scene

        if self._panels == count:
            return
        scene = live_scene(count, titles=[""] * count, height=SCENE_HEIGHT.get(count, 300), backend=self._backend)
        scene.set_surface(self.car.positions, self.car.faces)
        scene.on_pick(self._pick)
        self._set_scene(scene)
        self._panels = count

    def _tell(self, row, on_this_car):
        """The numbers of the chosen training and of its setting."""
        trials, setting = self.trials, row["setting"]
        names = [*trials.errors, *trials.costs]
        all_of_it = trials.table[trials.table["setting"] == setting]
        rows = []
        for name in names:
            q, values = trials.quantities[name], all_of_it[name].dropna()
            if not len(values):
                continue
            spread = "" if values.min() == values.max() else f"{q.text(values.min())} to {q.text(values.max())}"
            rows.append((escape(q.words), q.text(row[name]), q.text(values.median()), spread))
        if on_this_car is not None:
            rows.append((f"relative L2 error on {escape(self.car.name)}", f"{on_this_car:.4g}", "", ""))
        told = [f"{name_of(n)} {value_text(row[n])}" for n in trials.parameters if applies(row[n])]
        head = f"<div><b>{escape(trials.labels[setting])}</b>, seed {int(row['seed'])}"
        head += f": {escape(', '.join(told))}</div>" if told and "variant" in row else "</div>"
        columns = ("", "this training", f"median of {len(all_of_it)}", "lowest to highest")
        self.numbers.value = head + text.table(columns, rows)

    def _hint(self):
        if self.papers.value and self.cost.value != "gflops":
            return "The papers give their cost in GFLOPs only: their points are drawn where that is the cost."
        return ""


def _chosen_menu(label, options, value, tooltip):
    """A menu that starts at a value, or says what there is."""
    names = [name for _, name in options]
    if value is not None and value not in names:
        raise BsavizError(f"{label.lower()}: there is no {value!r}; there are {', '.join(map(str, names))}")
    return controls.menu(label, options, names[0] if value is None else value, tooltip)
