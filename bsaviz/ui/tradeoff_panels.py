"""One trained model on a car, for the trade-off: what it reads, how it gates, and where it errs, as panels."""

from dataclasses import dataclass

import numpy as np

from bsaviz.fields import gates
from bsaviz.ui.compare_panels import Classes, Values
from bsaviz.ui.comparison import Side, relative_l2
from bsaviz.ui.field_source import Asked
from bsaviz.view.branches import COLOURS, DRAW_ORDER, SURFACE_COLOUR
from bsaviz.view.car import BOTH_SIGNS
from bsaviz.view.reading import GATE_COLOURS

SHOWS = {
    "overview": "field, gates and error",
    "field": "receptive field, by branch",
    "gates": "gates, by branch",
    "error": "pressure and error",
}
_OTHER = "#555555"
_QUANTILE = 99  # colours of an error end here, so that one bad point does not hide the others


@dataclass(frozen=True)
class Look:
    """What is to be seen of a model."""

    show: str
    query: int
    layer: int


class OnCar(Side):
    """A model of a study on the car, with its gates."""

    def __init__(self, model, car, target, label, features=None):
        super().__init__(model, car, features)
        self.target, self.label, self._given = target, label, features if model.config.in_features else None
        self._gates = None

    @property
    def layers(self):
        """How many attention layers it has."""
        return len(self.sites)

    @property
    def gated(self):
        """Whether its branches have gates."""
        return any(hasattr(site.attention, "gate") for site in self.sites)

    def error(self, ticket):
        """(P,) prediction, and prediction - target or None where the car has no target."""
        prediction = self.prediction(self.own_sizes, ticket)
        return prediction, None if self.target is None else prediction - self.target

    def relative_l2(self, ticket):
        """Its error on this car; None without a target."""
        return None if self.target is None else relative_l2(self.prediction(self.own_sizes, ticket), self.target)

    def gates_of(self, layer, ticket):
        """Mean gates over the heads, by branch, of one layer."""
        if self._gates is None:
            ticket()
            self._gates = gates(self.model, self._cloud, features=self._given)["gate"].mean("head")
        gate = self._gates.sel(layer=layer)
        return {str(branch): gate.sel(branch=branch).values for branch in gate["branch"].values}

    def reads(self, look, ticket):
        """What the query may read, by branch."""
        asked = Asked(look.query, look.layer, None, "structural", self.own_sizes)
        return self._trace(asked, ticket).readable(look.query, look.layer)

    def panels(self, look, ticket):
        """The panels of one of `SHOWS`: list of `Values` and `Classes`."""
        if look.show == "field":
            reads = self.reads(look, ticket)
            title = lambda name: f"{name.capitalize()}, layer {look.layer}"
            return [_reads(title(name), {name: points}) for name, points in reads.items()]
        if look.show == "gates":
            return self._gate_panels(look, ticket)
        if look.show == "error":
            return self._error_panels(ticket)
        reads, errors = self.reads(look, ticket), self._error_panels(ticket)
        title = f"Reads, layer {look.layer}"
        return [_reads(title, reads), self._largest_gate(look, ticket), errors[-1]]

    def _gate_panels(self, look, ticket):
        if not self.gated:
            return [self._no_gates()]
        return [
            Values(f"{name.capitalize()}, layer {look.layer}", gate, f"gate of {name}", (0.0, 1.0), GATE_COLOURS)
            for name, gate in self.gates_of(look.layer, ticket).items()
        ]

    def _largest_gate(self, look, ticket):
        if not self.gated:
            return self._no_gates()
        gate = self.gates_of(look.layer, ticket)
        palette = [(f"gate of {name}", COLOURS.get(name, _OTHER)) for name in gate]
        largest = np.argmax(np.nan_to_num(list(gate.values())), axis=0)
        return Classes(f"Largest gate, layer {look.layer}", largest, palette)

    def _no_gates(self):
        return Classes("No gates", np.zeros(self.car.num_points, np.int64), [("has no gates", SURFACE_COLOUR)])

    def _error_panels(self, ticket):
        prediction, error = self.error(ticket)
        if error is None:
            return [Values("Prediction", prediction, self.label, _span([prediction]), GATE_COLOURS)]
        both, most = _span([self.target, prediction]), float(np.percentile(np.abs(error), _QUANTILE)) or 1.0
        return [
            Values("Truth", self.target, self.label, both, GATE_COLOURS),
            Values("Prediction", prediction, self.label, both, GATE_COLOURS),
            Values("Error", error, f"error of {self.label}", (-most, most), BOTH_SIGNS),
        ]


def _reads(title, reads):
    """The points by the first branch, from near to far, that may read them one by one or in means."""
    order = sorted(reads, key=lambda name: DRAW_ORDER.index(name) if name in DRAW_ORDER else len(DRAW_ORDER))
    classes = np.select([reads[name] for name in order], range(1, len(order) + 1), 0)
    palette = [("not read", SURFACE_COLOUR), *((f"{name} reads", COLOURS.get(name, _OTHER)) for name in order)]
    return Classes(title, classes, palette)


def _span(values):
    """One range for several panels, without the outermost points."""
    low, high = np.percentile(np.concatenate(values), [100 - _QUANTILE, _QUANTILE])
    return (float(low), float(high)) if high > low else (float(low) - 0.5, float(high) + 0.5)
