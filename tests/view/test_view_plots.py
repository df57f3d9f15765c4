"""Plots of studies: the table behind them, the Pareto front, what each figure says, and pages that need no network."""

import json

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.view.plots_marks import marks
from bsaviz.view.plots_studies import curve_plot, dot_plot, grid_plot, one_at_a_time, sensitivity_plot
from bsaviz.view.plots_tradeoff import CHOSEN, FRONT, PAPERS, export_tradeoff, pareto_front, tradeoff_figure
from bsaviz.view.plots_trials import ratios, study_table, trials_of

matplotlib.use("Agg")
ERROR = np.array([[0.10, 0.12, 0.11], [0.20, 0.22, 0.21], [0.15, 0.15, 0.15], [0.30, 0.30, np.nan]])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def stored():
    """A stored study of four variants and three seeds; one training is missing."""
    variants = ["full attention", "ball", "BSA", "BSA, blocks of 32"]
    ds = xr.Dataset(
        {
            "relative_l2": (("variant", "seed"), ERROR),
            "mse": (("variant", "seed"), 100 * ERROR, {"units": "Pa^2"}),
            "gflops": ("variant", [20.0, 4.0, 6.0, 5.0]),
            "forward_ms": ("variant", [3.0, 1.0, 2.0, 2.5]),
            "gate": (("variant", "seed", "layer", "branch"), np.random.default_rng(0).random((4, 3, 2, 2))),
            "checkpoint": ("variant", ["", "", "models/bsa", ""]),
        },
        coords={
            "variant": variants, "seed": [0, 1, 2], "layer": [0, 1], "branch": ["ball", "selection"],
            "model": ("variant", ["full", "ball", "bsa", "bsa"]),
            "block_size": ("variant", [np.nan, np.nan, 8.0, 32.0]),
            "num_heads": ("variant", [8.0] * 4),
        },
        attrs={"title": "A table", "training": json.dumps({"steps": 500})},
    )  # fmt: skip
    return ds


def swept():
    """A sweep over a grid of two sizes, as `Sweep.open` gives it."""
    values = np.arange(12.0).reshape(3, 2, 2) / 10 + 0.1
    dims = ("block_size", "top_k", "seed")
    ds = xr.Dataset(
        {"relative_l2": (dims, values), "gflops": (dims, 10 - values), "trial": (dims, np.arange(12).reshape(3, 2, 2))}
    )
    return ds.assign_coords(block_size=[4, 8, 16], top_k=[2, 4], seed=[0, 1])


def of_name(figure, name):
    return next(trace for trace in figure.data if trace.name == name)


def test_a_stored_study_is_a_row_a_training():
    trials = trials_of(stored())
    assert len(trials.table) == 11, "the training that is missing has no row"
    assert trials.labels == {0: "full attention", 1: "ball", 2: "BSA", 3: "BSA, blocks of 32"}
    assert trials.series == ("variant", "model", "block_size"), "what does not vary tells nothing apart"
    assert (trials.steps, trials.seeds) == (500, [0, 1, 2])
    assert trials.quantities["mse"].label == "mean squared error (Pa²)"
    row = trials.summary("relative_l2").loc[1]
    assert (row["relative_l2"], row["relative_l2_low"], row["relative_l2_high"]) == (0.21, 0.20, 0.22)
    assert trials.values("block_size") == [8.0, 32.0], "a model without blocks has no block size"


def test_a_sweep_is_one_too_and_the_median_training_is_found():
    trials = trials_of(swept())
    assert len(trials.labels) == 6
    assert trials.labels[0] == "block size 4, top k 2"
    assert trials.trial(0, by="relative_l2")["seed"] == 0, "the lower of two"
    assert trials.trial(0, seed=1)["trial"] == 1
    with pytest.raises(BsavizError, match="was not trained with seed 7"):
        trials.trial(0, seed=7)


def test_weights_are_those_of_the_first_seed_and_a_dot_without_any_says_how_to_keep_them():
    trials = trials_of(stored())
    kept = trials.trial(2)
    assert kept["seed"] == 0
    assert trials.has_model(kept)
    assert not trials.has_model(trials.trial(2, seed=1))
    assert trials.trial(1)["seed"] == 2, "with no weights at all, the median"
    with pytest.raises(BsavizError, match="no weights are kept of ball, seed 2.*keep_models: true"):
        trials.model(trials.trial(1))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (7, "expected a study: a Sweep.*got int"),
        (xr.Dataset({"loss": ("step", [1.0])}), "holds an error .* and a cost .*; this dataset holds loss"),
        (swept().isel(block_size=0, top_k=0, seed=0), "this dataset is of one training"),
        ("no-such-study", "no study 'no-such-study'"),
    ],
)
def test_what_is_no_study_is_refused(study, message):
    with pytest.raises(BsavizError, match=message):
        trials_of(study)


def test_pareto_front_is_what_none_beats_in_both():
    table = pd.DataFrame({"cost": [1, 2, 3, 4, 4], "error": [5.0, 6.0, 3.0, 3.0, 1.0]}, index=list("abcde"))
    assert pareto_front(table, "cost", "error") == ["a", "c", "e"]


def test_dots_are_medians_with_their_spread_and_the_front_joins_the_best():
    figure = tradeoff_figure(stored(), chosen=2)
    ball = of_name(figure, "ball")
    assert (list(ball.x), list(ball.y), ball.customdata[0][0]) == ([4.0], [0.21], 1)
    assert list(ball.error_y.array) == pytest.approx([0.01])
    assert list(ball.error_y.arrayminus) == pytest.approx([0.01])
    assert list(of_name(figure, FRONT).x) == [4.0, 6.0, 20.0]
    assert list(of_name(figure, CHOSEN).x) == [6.0]
    assert figure.layout.xaxis.title.text == "operations of a forward (GFLOP), logarithmic"
    assert "Each training: 500 steps" in figure.layout.annotations[0].text
    assert len({trace.marker.symbol for trace in figure.data[:4]}) == 4, "told apart without colours"


def test_published_points_have_an_axis_of_their_own_with_the_same_ratios():
    figure = tradeoff_figure(stored())
    papers = of_name(figure, PAPERS)
    assert papers.yaxis == "y2"
    assert list(papers.y) == [13.29, 14.31]
    assert list(papers.x) == [87.08, 27.91]
    assert all(symbol.endswith("-open") for symbol in papers.marker.symbol)
    left, right = figure.layout.yaxis.range, figure.layout.yaxis2.range
    assert right[1] - right[0] == pytest.approx(left[1] - left[0]), "decades of equal height"
    assert "not errors" in figure.layout.annotations[0].text.replace("<br>", " ")
    linear = tradeoff_figure(stored(), log_error=False)
    left, right = linear.layout.yaxis.range, linear.layout.yaxis2.range
    assert right[1] / right[0] == pytest.approx(left[1] / left[0])
    assert [t.name for t in tradeoff_figure(stored(), cost="forward_ms").data if t.name == PAPERS] == []


def test_settings_are_filtered_and_told_apart_by_any_parameter():
    figure = tradeoff_figure(swept(), by="top_k", where={"block_size": 8}, papers=False)
    assert [trace.name for trace in figure.data[:2]] == ["top k 2", "top k 4"]
    assert [len(trace.x) for trace in figure.data[:2]] == [1, 1]
    assert tradeoff_figure(swept(), by="top_k", papers=False).data[0].mode == "lines+markers", (
        "one size varies along it"
    )
    assert tradeoff_figure(stored(), by="model").data[0].mode == "markers"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (dict(cost="price"), "cost must be one of gflops, forward_ms, got 'price'"),
        (dict(error="taste"), "error must be one of relative_l2, mse, got 'taste'"),
        (dict(by="colour"), "by must be one of variant, model, block_size, got 'colour'"),
        (dict(where={"block_size": 9.0}), "block_size has no value 9.0; it has 8, 32"),
        (dict(where={"model": "ball", "block_size": 8.0}), "no setting has these values"),
    ],
)
def test_wrong_choices_say_what_there_is(choice, message):
    with pytest.raises(BsavizError, match=message):
        tradeoff_figure(stored(), **choice)


def test_exported_page_holds_all_it_needs(tmp_path):
    page = export_tradeoff(stored(), tmp_path / "plot.html").read_text("utf-8")
    assert "plotly.js v" in page
    assert "BSA, blocks of 32" in page
    assert 'src="http' not in page
    with pytest.raises(BsavizError, match="ending in .html"):
        export_tradeoff(stored(), tmp_path / "plot.png")


def test_table_and_ratios_have_medians_and_spread():
    table = study_table(stored(), ["relative_l2", "gflops"])
    assert table.loc["ball", "relative L2 error"] == "0.21 (0.2 to 0.22)"
    assert table.loc["ball", "operations of a forward (GFLOP)"] == "4"
    found = ratios(stored(), "full attention").loc["ball"]
    assert found["median"] == pytest.approx(0.21 / 0.11), "seed by seed"
    assert found["highest"] == pytest.approx(2.0)
    with pytest.raises(BsavizError, match="no setting is called 'best'; there are full attention"):
        ratios(stored(), "best")


def test_dot_plot_has_a_row_a_setting_and_a_line_at_the_reference():
    figure = dot_plot(stored(), ["relative_l2", "gflops"], reference="full attention")
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()][0] == "full attention"
    assert first.get_xlabel() == "relative L2 error"
    assert second.get_xscale() == "log"
    assert any(list(line.get_xdata()) == [0.11, 0.11] for line in first.get_lines())
    with pytest.raises(BsavizError, match="no setting is called 'best'"):
        dot_plot(stored(), reference="best")
    with pytest.raises(BsavizError, match="the study has no 'price'; it has relative_l2"):
        dot_plot(stored(), ["price"])


def test_a_setting_without_a_time_keeps_its_row():
    ds = stored()
    ds["forward_ms"][3] = np.nan
    figure = dot_plot(ds, ["relative_l2", "forward_ms"])
    assert len(figure.axes[0].get_yticks()) == 4
    assert len(tradeoff_figure(ds, cost="forward_ms").data[0].x) == 1, "on an axis of times it has no place"
    assert "BSA, blocks of 32" not in [trace.name for trace in tradeoff_figure(ds, cost="forward_ms").data]


def test_grid_plot_writes_every_median_into_its_cell():
    figure = grid_plot(swept(), "block_size", "top_k")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0] == "0.15\n(0.1)"
    assert len(texts) == 6
    assert figure.axes[0].get_ylabel() == "block size (points)"
    with pytest.raises(BsavizError, match="does not vary 'depth'; it varies block_size, top_k"):
        grid_plot(swept(), "depth", "top_k")


def test_one_parameter_at_a_time_round_the_middle_setting():
    rows = [(8, 4, 64, 8), (4, 4, 64, 8), (16, 4, 64, 8), (8, 2, 64, 8), (8, 4, 32, 4), (4, 2, 64, 8)]
    table = pd.DataFrame(rows, columns=["block_size", "top_k", "dim", "num_heads"])
    found = lambda name: one_at_a_time(table, list(table.columns), name)[name].tolist()
    assert found("block_size") == [4, 8, 16]
    assert found("top_k") == [2, 4]
    assert found("dim") == [32, 64], "heads go with the width"


def test_sensitivity_plot_has_a_column_a_parameter_and_units():
    figure = sensitivity_plot(swept(), ["relative_l2", "gflops"])
    assert [panel.get_xlabel() for panel in figure.axes[2:]] == ["block size (points)", "top-k (blocks)"]
    assert figure.axes[2].get_ylabel() == "operations of a forward\n(GFLOP)"
    with pytest.raises(BsavizError, match="no parameter of this study has two values"):
        sensitivity_plot(swept().isel(block_size=[0], top_k=[0]))


def test_curve_plot_draws_medians_by_branch_and_puts_no_screening_last():
    ds = stored().assign_coords(screening_length=("variant", [0.1, 0.5, 0.2, np.inf]))
    figure = curve_plot(ds, "screening_length", {"gate": "mean gate"}, x_label="screening length (car lengths)")
    panel = figure.axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["0.1", "0.2", "0.5", "none"]
    lines = {line.get_marker(): line for line in panel.get_lines() if line.get_linestyle() != "None"}
    ball = ds["gate"].mean("layer").median("seed").sel(branch="ball").values
    drawn = next(line for line in lines.values() if np.allclose(line.get_ydata(), ball[[0, 2, 1, 3]]))
    assert drawn.get_marker() == marks(["ball"])["ball"].marker
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ball", "selection"]


def test_models_and_branches_look_the_same_in_every_plot_and_no_two_alike():
    assert marks(["bsa", "x"])["bsa"] == marks(["full", "bsa"])["bsa"]
    many = marks(["full", "ball", "bsa", "erwin", *"abcdef"])
    assert len({mark.symbol for mark in many.values()}) == len(many)
