"""Gates, live: how much of each branch every point of the car takes, layer by layer and head by head."""

from functools import partial

from bsaviz.fields import gates
from bsaviz.fields.gating import gate_axes
from bsaviz.fields.surface import as_surface, point_features
from bsaviz.fields.tracing import check_model, tree_of
from bsaviz.ui import controls, text
from bsaviz.ui.charts import Chart
from bsaviz.ui.explorer import PAUSE, Explorer
from bsaviz.ui.gate_reading import as_history, histogram, warning
from bsaviz.ui.settings import with_settings
from bsaviz.ui.subject import as_car, as_model
from bsaviz.view.branches import COLOURS

RANGES = (("0 to 1", "whole"), ("lowest to highest", "fitted"))
ALL = "all"
HEAD = ("", "mean gate", "lowest", "highest", "spread (standard deviation)")


class GateExplorer(Explorer):
    """The gate of each branch painted on the car, how it is spread, and how it moved while the model trained.

    Gates are those of BSA (arXiv 2506.12541, eq. 9): a branch's output is multiplied by its gate, between 0 and 1,
    before the branches are added.

    Parameters
    ----------
    model : PointModel or file name, optional
        With gates. Default: the packaged model.
    car : Car, file name, array (P, D), optional
        Default: a packaged car.
    history : TrainResult, Dataset, or path, optional
        Where the gates were during training: the result of `bsaviz.train`, its ``history``, that as a netCDF file, or
        the checkpoint of a training. They are measured every ``eval_every`` steps.
    features : array (P, F) or sequence of str, optional
        Point features, as in `bsaviz.receptive_field`.
    backend : str
        See `bsaviz.view.live_scene`.

    Attributes
    ----------
    layer, head, limits : ipywidgets widgets
        The controls.
    charts, numbers : ipywidgets.HTML
        Below the scene.
    """

    title = "Gates"

    def __init__(self, model=None, car=None, *, history=None, features=None, backend="auto"):
        from bsaviz.view import live_scene

        super().__init__()
        self.car = as_car(car)
        model = as_model(model)
        check_model(model)
        cloud = self.car.positions[:, :2] if model.config.spatial_dims == 2 else self.car
        surface = as_surface(cloud, model)
        point_features(features, surface, model)
        layers, heads, branches = gate_axes(model, model.attention_sites(tree_of(model, surface)))
        own = with_settings(model, {})  # it runs beside the notebook's cells, which may run the model too
        self._gates, self._run = None, partial(gates, own, cloud, features=features)
        self.history = as_history(history, branches)
        self.warning = ""
        self._make_controls(layers, heads)
        self.charts, self.numbers = controls.html(), controls.html()
        self._titles = [branch.capitalize() for branch in branches]
        self._set_scene(live_scene(len(branches), titles=self._titles, height=300, backend=backend))
        self.scene.set_surface(self.car.positions, self.car.faces)
        self.scene.on_pick(self._pick)
        self.point = None
        self._arrange(
            controls.columns([self.layer], [self.head], [self.limits]), self._stage, self.numbers, self.charts
        )
        self._begin()

    @property
    def gates(self):
        """xarray.Dataset of `bsaviz.gates`; it is waited for where the model has not run yet."""
        if self._gates is None:
            self.wait()
        if self._gates is None:
            raise self.problem
        return self._gates

    def _make_controls(self, layers, heads):
        self.layer = controls.whole_slider("Layer", layers[0], layers[0], layers[-1], "Attention layer")
        choices = [("mean of all heads", ALL), *((f"head {head}", head) for head in heads)]
        self.head = controls.menu("Head", choices, ALL, "Each head has its own gates")
        self.limits = controls.menu("Colours", RANGES, "whole", "Range of gate values that the colours span")
        for control in (self.layer, self.head, self.limits):
            control.observe(self._refresh, "value")

    def _pick(self, point, panel):
        self.point = int(point)
        self._refresh()

    def _wanted(self):
        return self.layer.value, None if self.head.value == ALL else self.head.value, self.limits.value, self.point

    def _steps(self, wanted, ticket):
        layer, head, limits, point = wanted
        if self._gates is None:
            if not ticket.at_once:
                yield self._announce
            self._gates = self._run()
            self.warning = warning(self._gates["gate"])
        gate = self._gates["gate"].sel(layer=layer)
        gate = gate.mean("head") if head is None else gate.sel(head=head)
        values = {str(branch): gate.sel(branch=branch).values for branch in gate["branch"].values}
        yield lambda: self._paint(values, limits, point)
        ticket.rest(PAUSE)
        charts = spread(values, layer, head) + course(self.history, layer, head)
        yield lambda: self._describe(values, point, charts)

    def _show(self, result):
        result()

    def _announce(self):
        for panel, title in enumerate(self._titles):
            self.scene.set_title(f"{title}: running the layers", panel=panel)

    def _paint(self, values, limits, point):
        clim = (0.0, 1.0)
        if limits == "fitted":
            clim = _apart(min(v.min() for v in values.values()), max(v.max() for v in values.values()))
        with self.scene.batch():
            for panel, (branch, gate) in enumerate(values.items()):
                self.scene.set_title(self._titles[panel], panel=panel)
                self.scene.set_scalars(gate, panel=panel, cmap="viridis", clim=clim, label=f"gate of {branch}")
            self.scene.highlight([] if point is None else [point])

    def _describe(self, values, point, charts):
        rows = [
            (
                text.swatch(branch, COLOURS.get(branch, "#555555")),
                *(f"{number:.3f}" for number in (gate.mean(), gate.min(), gate.max(), gate.std())),
            )
            for branch, gate in values.items()
        ]
        at = "" if point is None else ", ".join(f"{branch} {gate[point]:.3f}" for branch, gate in values.items())
        self.numbers.value = text.table(HEAD, rows) + (f"<div>At point {point}: {at}.</div>" if at else "")
        self.charts.value = f'<div style="display: flex; flex-wrap: wrap; gap: 12px">{charts}</div>'
        if self.warning:
            self._warn(self.warning)


def spread(values, layer, head):
    """SVG of how the gates of each branch are spread over the points."""
    shares = {branch: histogram(gate) for branch, gate in values.items()}
    highest = max(percent.max() for _, percent in shares.values())
    chart = Chart(f"Layer {layer}, {_heads(head)}", "gate", "points (%)", (0, 1), (0, 1.08 * highest))
    for branch, (edges, percent) in shares.items():
        chart.steps(edges, percent, branch, COLOURS.get(branch, "#555555"))
    return chart.svg


def course(history, layer, head):
    """SVG of the mean gates of a layer over the steps of the training, or a hint where nothing is known of it."""
    if history is None or layer not in history["layer"].values:
        return text.aside(
            "Give history=bsaviz.train(...), with eval_every in its TrainConfig, or the path of a training's "
            "checkpoint, to see how the gates moved while the model trained."
        )
    gate = history.sel(layer=layer)
    if "head" in gate.dims:
        gate = gate.mean("head") if head is None else gate.sel(head=head)
    steps = gate["eval_step"].values
    chart = Chart("During training", "optimiser step", "mean gate", _apart(0, steps.max()), (0, 1), whole_x=True)
    for branch in gate["branch"].values:
        chart.line(steps, gate.sel(branch=branch).values, str(branch), COLOURS.get(str(branch), "#555555"))
    return chart.svg


def _heads(head):
    return "mean of all heads" if head is None else f"head {head}"


def _apart(low, high):
    """A range that is not empty."""
    low, high = float(low), float(high)
    return (low, high) if high - low > 1e-6 else (low - 5e-4, high + 5e-4)
