"""The gate explorer without a browser: what is painted, charted and warned of."""

import numpy as np
import pytest
import torch
import xarray as xr
from ui_cases import bar, marks, tiny_car, tiny_model

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.training import TrainConfig, train
from bsaviz.ui import GateExplorer
from bsaviz.ui.charts import Chart, ticks
from bsaviz.ui.gate_reading import as_history, dominated_layers, histogram, warning

BRANCHES = ["ball", "compression", "selection"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model trained for a few steps with its gates measured, and its checkpoint."""
    car = tiny_car(120)
    car = bsaviz.Car(car.name, car.positions, fields={"pressure": car.positions[:, 0]})
    path = tmp_path_factory.mktemp("run") / "gates"
    config = TrainConfig(steps=4, eval_every=2, batch_size=1, device="cpu")
    result = train(tiny_model(), [car], [car], config, progress=False, checkpoint=path)
    return result, path


def test_gates_are_painted_branch_by_branch():
    model = tiny_model()
    explorer = GateExplorer(model, tiny_car())
    expected = bsaviz.gates(model, tiny_car())["gate"]
    xr.testing.assert_equal(explorer.gates["gate"], expected)
    assert [bar(explorer.scene, panel) for panel in range(3)] == [
        (f"gate of {branch}", 0.0, 1.0) for branch in ("ball", "compression", "selection")
    ]
    explorer.layer.value, explorer.head.value, explorer.limits.value = 2, 1, "fitted"
    chosen = expected.sel(layer=2, head=1)
    assert bar(explorer.scene)[1:] == pytest.approx((float(chosen.min()), float(chosen.max())))
    assert f"{float(chosen.sel(branch='ball').mean()):.3f}" in explorer.numbers.value
    explorer._pick(7, panel=0)
    assert marks(explorer.scene, 2) == {"#D55E00": [7]}
    assert f"At point 7: ball {float(chosen.sel(branch='ball')[7]):.3f}" in explorer.numbers.value
    explorer.close()


def test_static_gates_have_a_range_too():
    explorer = GateExplorer(tiny_model(gate="static"), tiny_car())
    explorer.limits.value = "fitted"
    assert explorer.problem is None
    explorer.close()


def test_a_model_without_gates_is_refused():
    with pytest.raises(BsavizError, match="no gates"):
        GateExplorer(tiny_model("ball"), tiny_car())


def test_the_course_of_a_training_is_charted(trained):
    result, path = trained
    for history in (result, result.history, result.history["gate"], path):
        gate = as_history(history, BRANCHES)
        np.testing.assert_allclose(gate.values, result.history["gate"].values)
        np.testing.assert_array_equal(gate["eval_step"], result.history["eval_step"])
    explorer = GateExplorer(tiny_model(), tiny_car(), history=result)
    assert "During training" in explorer.charts.value
    explorer.close()


def test_without_a_history_the_explorer_says_how_to_give_one():
    explorer = GateExplorer(tiny_model(), tiny_car())
    assert "eval_every" in explorer.charts.value
    explorer.close()


def test_a_history_of_something_else_is_refused(trained, tmp_path):
    with pytest.raises(BsavizError, match="history must hold mean gates"):
        as_history(trained[0].metrics, BRANCHES)
    saved = tmp_path / "history.nc"
    trained[0].history.to_netcdf(saved, engine="h5netcdf")
    assert as_history(saved, BRANCHES).sizes["eval_step"] == 3
    with pytest.raises(BsavizError, match="there is no"):
        as_history(tmp_path / "nothing", BRANCHES)
    with pytest.raises(BsavizError, match="gates of 3 branches, and this model has 1"):
        as_history(trained[1], ["window"])


def gate(selection, others=0.2, layers=4):
    values = np.full((layers, 2, 3, 5), others)
    values[:, :, 2] = np.reshape(selection, (-1, 1, 1))
    coords = {"layer": range(layers), "branch": ["ball", "compression", "selection"]}
    return xr.DataArray(values, coords, ("layer", "head", "branch", "point"))


def test_a_dominant_selection_is_warned_of_with_its_meaning():
    everywhere = warning(gate([0.9] * 4))
    assert everywhere.startswith("Selection dominates in every layer (4 of 4)")
    assert "no gradient" in everywhere
    assert warning(gate([0.9, 0.1, 0.9, 0.3])).startswith("Selection dominates in layers 0 and 2 (2 of 4)")
    assert warning(gate([0.39] * 4)) == ""
    assert dominated_layers(gate([0.41, 0.1, 0.1, 0.1])) == [0]


def test_the_warning_is_shown_in_place():
    model = tiny_model()
    with torch.no_grad():
        for layer in model.layers:
            layer.attn.gating.proj.weight.zero_()
            bias = layer.attn.gating.proj.bias.view(2, 3)
            bias.copy_(torch.tensor([-2.0, -2.0, 2.0]).expand(2, 3))
    explorer = GateExplorer(model, tiny_car())
    assert "Selection dominates in every layer" in explorer.message.value
    explorer.layer.value = 1
    assert "Selection dominates in every layer" in explorer.message.value
    explorer.close()


def test_histogram_counts_every_point_once():
    edges, percent = histogram(np.array([0.0, 0.01, 0.5, 1.0]))
    assert percent.sum() == pytest.approx(100)
    assert percent[0] == 50
    assert (edges[0], edges[-1]) == (0, 1)


def test_charts_have_round_ticks_and_escape_names():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert ticks(0, 3, whole=True) == [0, 1, 2, 3]
    assert ticks(0, 47_000) == [0, 10_000, 20_000, 30_000, 40_000]
    chart = Chart("a < b", "x", "y", (0, 1), (0, 1))
    chart.line([0, 0.5, 1], np.array([0, np.nan, 1]), "one & two", "#000000")
    assert "a &lt; b" in chart.svg
    assert "one &amp; two" in chart.svg
    assert "nan" not in chart.svg
