"""The trade-off explorer without a browser: what a dot shows, what is said of one without weights, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tradeoff_cases import make_study
from ui_cases import bar, marks, tints, tiny_car, tiny_model, titles

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.ui import TradeoffExplorer
from bsaviz.view.branches import COLOURS, SURFACE_COLOUR, rgb

CAR = replace(tiny_car(), fields={"pressure": tiny_car().positions[:, 0] * 3}, units={"pressure": "Pa"})
BSA, BALL, FULL = range(3)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture
def explorer(study):
    with_it = TradeoffExplorer(study, CAR)
    yield with_it
    with_it.close()


def trace(explorer, name):
    return next(t for t in json.loads(explorer.plot.figure)["data"] if t["name"] == name)


def names(explorer):
    return [t["name"] for t in json.loads(explorer.plot.figure)["data"]]


def kept(name):
    return tiny_model(name).half().float()


def test_starts_with_the_best_dot_whose_weights_are_kept(explorer):
    assert explorer.setting == FULL
    assert titles(explorer.scene, 3) == ["Reads, layer 0", "No gates", "Error"]
    assert (tints(explorer.scene, 0) == rgb(COLOURS["full"])).all(), "full attention reads all"
    assert "<b>full</b>, seed 0" in explorer.numbers.value
    assert "Each training: 9 steps" in explorer.notes.value


def test_a_clicked_dot_is_its_model_on_the_car(explorer):
    explorer.plot._message(None, {"clicked": BSA}, [])
    model, query = kept("bsa"), explorer.query.value
    for name, value in model.state_dict().items():
        assert torch.equal(explorer.model.state_dict()[name], value), name
    reads = bsaviz.receptive_field(model, CAR, query, layers=0, kinds="structural")["structural"]
    ball, selection = (reads.sel(branch=b).any("head").values.ravel() for b in ("ball", "selection"))
    np.testing.assert_array_equal((tints(explorer.scene, 0) == rgb(COLOURS["ball"])).all(1), ball)
    np.testing.assert_array_equal((tints(explorer.scene, 0) == rgb(COLOURS["selection"])).all(1), selection & ~ball)
    gate = bsaviz.gates(model, CAR, layers=0)["gate"].mean("head").isel(layer=0)
    largest = np.array([rgb(COLOURS[str(b)]) for b in gate["branch"].values])[gate.argmax("branch").values]
    np.testing.assert_array_equal(tints(explorer.scene, 1), largest)
    error = model.predict(torch.as_tensor(CAR.positions)).numpy() - CAR.pressure
    assert bar(explorer.scene, 2)[0] == "error of pressure (Pa)"
    assert bar(explorer.scene, 2)[2] == pytest.approx(np.percentile(np.abs(error), 99), rel=1e-3)
    l2 = np.linalg.norm(error) / np.linalg.norm(CAR.pressure)
    assert f"<td>{l2:.4g}</td>" in explorer.numbers.value
    ring = trace(explorer, "chosen")["x"]
    assert ring == trace(explorer, "bsa")["x"], "the ring is round the clicked dot"


def test_each_view_and_layer_and_a_click_on_the_car(explorer):
    explorer.choose(BSA)
    explorer.layer.value = 2
    explorer.show.value = "field"
    assert titles(explorer.scene, 3) == ["Ball, layer 2", "Compression, layer 2", "Selection, layer 2"]
    explorer.show.value = "gates"
    assert bar(explorer.scene, 1) == ("gate of compression", 0.0, 1.0)
    explorer.show.value = "error"
    assert titles(explorer.scene, 3) == ["Truth", "Prediction", "Error"]
    assert bar(explorer.scene, 0) == bar(explorer.scene, 1), "truth and prediction have one range"
    explorer._pick(7, panel=0)
    assert explorer.query.value == 7
    assert [7] in marks(explorer.scene).values()


def test_a_dot_without_weights_says_how_to_keep_them_and_the_next_one_is_shown(explorer):
    explorer.choose(BALL)
    assert "weights of ball were not kept" in explorer.message.value
    assert "keep_models: true" in explorer.message.value
    assert titles(explorer.scene, 1) == ["No weights kept of this dot"]
    assert (tints(explorer.scene, 0) == rgb(SURFACE_COLOUR)).all()
    assert explorer.model is None
    assert "0.305" in explorer.numbers.value, "its numbers are there: the median of two"
    explorer.choose(BSA)
    assert explorer.message.value == ""
    explorer.seed.value = 1
    assert "not kept" in explorer.message.value, "only the first seed's weights are"


def test_axes_series_and_filters_change_the_plot(explorer):
    assert names(explorer)[:3] == ["bsa", "ball", "full"]
    explorer.cost.value = "forward_ms"
    figure = json.loads(explorer.plot.figure)
    assert figure["layout"]["xaxis"]["title"]["text"] == "time of a forward (ms), logarithmic"
    assert "published (other data)" not in names(explorer)
    assert "published" not in explorer.notes.value.lower()
    assert "give their cost in GFLOPs only" in explorer.message.value
    explorer.scales.value = (False, False)
    assert json.loads(explorer.plot.figure)["layout"]["xaxis"]["type"] == "linear"
    explorer.cost.value = "gflops"
    assert "published (other data)" in names(explorer)
    explorer.filters["model"].value = "bsa"
    assert names(explorer)[:2] == ["bsa", "Pareto front"]


def test_a_choice_that_leaves_nothing_is_said_in_place_and_it_goes_on(explorer):
    before = explorer.plot.figure
    explorer.trials.table.loc[explorer.trials.table["setting"] == BALL, "relative_l2"] = np.nan
    explorer.filters["model"].value = "ball"
    assert "no setting has these values" in explorer.message.value
    assert explorer.plot.figure == before
    explorer.filters["model"].value = "all"
    assert explorer.problem is None
    assert "ball" not in names(explorer)


def test_a_broken_checkpoint_is_said_in_place(study, explorer):
    explorer._models.clear()
    broken = study.parent / "models" / "bsa.json"
    whole = broken.read_text()
    broken.write_text("{")
    try:
        explorer.choose(BSA)
        assert "bsa.json" in explorer.message.value
        assert isinstance(explorer.problem, BsavizError)
    finally:
        broken.write_text(whole)
    explorer.choose(BSA)
    assert explorer.problem is None


def test_exported_plot_needs_no_kernel(explorer, tmp_path):
    page = explorer.export_html(tmp_path / "plot.html").read_text("utf-8")
    assert "plotly.js v" in page
    assert "three" in page


def test_a_cloud_without_pressure_shows_predictions(study):
    explorer = TradeoffExplorer(study, CAR.positions)
    assert titles(explorer.scene, 3)[2] == "Prediction"
    explorer.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(study=3), "expected a study"),
        (dict(study="nothing-here"), "no study 'nothing-here'"),
        (dict(cost="price"), "cost: there is no 'price'; there are gflops, forward_ms"),
        (dict(error="taste"), "error: there is no 'taste'; there are relative_l2, mse"),
        (dict(by="colour"), "tell apart by: there is no 'colour'; there are variant, model"),
        (dict(target="drag"), "has no field 'drag'"),
    ],
)
def test_what_cannot_be_shown_at_all_is_an_error_of_the_call(study, options, message):
    with pytest.raises(BsavizError, match=message):
        TradeoffExplorer(**(dict(study=study, car=CAR) | options))


def test_no_such_setting(explorer):
    with pytest.raises(BsavizError, match="setting must be a whole number from 0 to 2, see trials.labels; got 9"):
        explorer.choose(9)
