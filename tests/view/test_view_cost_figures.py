"""Charts of cost say what they show, and refuse what they cannot."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.study import measured
from bsaviz.study.scaling_dataset import operator_scaling
from bsaviz.view import cost_figure, scaling_figure


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def kernels():
    return operator_scaling(measured("kernels"))


@pytest.fixture(scope="module")
def parts():
    return measured("cost").sel(model="bsa", num_points=65536).dropna("part", how="all", subset=["part_moved_mib"])


def test_lines_differ_without_colour_and_axes_have_units(kernels):
    time, memory = scaling_figure(kernels, scope="operator").axes
    drawn = [line for line in time.get_lines() if line.get_marker() not in ("None", "_", "|")]
    assert len({(line.get_marker(), line.get_linestyle()) for line in drawn}) == len(drawn) == 3
    assert time.get_ylabel() == "time of a training step (ms)"
    assert memory.get_ylabel() == "peak memory of a training step (MiB)"
    assert (time.get_xscale(), time.get_yscale(), time.get_xlabel()) == ("log", "log", "points")


def test_the_legend_says_where_lines_cross(kernels):
    legend = scaling_figure(kernels, scope="operator", variants=["full", "bsa"]).axes[0].get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    crossing = float(kernels["crossover"].sel(scope="operator", variant="bsa", backend="kernels", step="training"))
    assert texts == ["full", f"bsa, faster than full from {float(f'{crossing:.2g}'):,.0f}"]


@pytest.mark.parametrize(
    ("choice", "said"),
    [({"step": "backward"}, "no step 'backward'; it has forward, training"), ({"scope": "model"}, "no scope 'model'")],
)
def test_what_is_not_in_the_dataset_is_said(kernels, choice, said):
    with pytest.raises(BsavizError, match=said):
        scaling_figure(kernels, **{"scope": "operator", **choice})


def test_bars_carry_disagreement_and_share(parts):
    operations, time = cost_figure(parts, step="training").axes
    assert operations.get_xlabel() == "operations of a training step (GFLOP)"
    assert time.get_xlabel() == "time in a training step, every part alone (ms)"
    names = [label.get_text() for label in operations.get_yticklabels()]
    said = dict(zip(names, [text.get_text() for text in operations.texts]))
    assert said["mlp"] == f"{float(parts.disagreement.sel(part='mlp', step='training')):+.0%}"
    assert said["ball"] == ""
    shares = dict(zip(names, [text.get_text() for text in time.texts]))
    assert shares["compression"] == f"{float(parts.roofline_share.sel(part='compression', step='training')):.1%}"
    assert any(bar.get_hatch() for bar in operations.patches)


def test_parts_that_are_not_there_are_refused(parts):
    with pytest.raises(BsavizError, match=r"make it with bsaviz.cost\(model, num_points\)"):
        cost_figure(xr.Dataset({"gflops": 1.0}))
    with pytest.raises(BsavizError, match="step must be 'forward' or 'training'"):
        cost_figure(parts, step="both")


def test_the_operators_rows_keep_the_fastest_dense_kernel():
    table = measured("kernels")
    chosen = table[(table.head_dim == 32) & (table.heads == 8) & ~table.cuda_graph & (table.n == 16384)]
    dense = chosen[chosen.variant.str.startswith("dense-")].forward_backward_ms.min()
    ds = operator_scaling(table).sel(scope="operator", backend="kernels", n=16384, step="training")
    assert float(ds["ms"].sel(variant="full")) == pytest.approx(dense)
    assert np.isnan(ds["ms_low"]).all()
    with pytest.raises(BsavizError, match="there are no rows"):
        operator_scaling(table, head_dim=7)
