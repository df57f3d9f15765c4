"""Errors against their formulas, in the units of the field."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.training import TrainConfig, evaluate, metrics
from bsaviz.training.batches import samples_of, with_trees
from bsaviz.training.gates import mean_gates
from bsaviz.training.metrics import errors


def test_errors_follow_their_formulas():
    prediction, target = torch.tensor([[3.0], [1.0]]), torch.tensor([[1.0], [2.0]])
    found = errors(prediction, target, areas=torch.tensor([1.0, 3.0]))
    assert found["mse"] == pytest.approx((4 + 1) / 2)
    assert found["relative_l2"] == pytest.approx(np.sqrt(5 / 5))
    assert found["relative_l2_area"] == pytest.approx(np.sqrt((1 * 4 + 3 * 1) / (1 * 1 + 3 * 4)))
    assert found["mae_area"] == pytest.approx((1 * 2 + 3 * 1) / 4)


def test_errors_of_a_vector_field_are_means_over_its_columns():
    prediction, target = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 2.0]])
    found = errors(prediction, target, areas=torch.tensor([2.0]))
    assert found["mse"] == found["mae_area"] * 2 == pytest.approx(4)
    assert found["relative_l2"] == found["relative_l2_area"] == pytest.approx(np.sqrt(8 / 5))


def test_a_large_offset_costs_no_digits():
    target = torch.full((1000, 1), 1e6)
    assert errors(target + 0.25, target, torch.ones(1000))["mse"] == 0.0625


@pytest.fixture
def measured(cars, make_model):
    model = make_model()
    model.output_mean.fill_(-30)
    model.output_std.fill_(90)
    return model, evaluate(model, cars[:3], progress=False)


def test_evaluate_measures_what_predict_predicts(cars, measured):
    model, metrics = measured
    for car in cars[:3]:
        off = model.predict(torch.from_numpy(car.positions)).numpy() - car.pressure
        weights = car.point_areas / car.point_areas.sum()
        found = metrics.sel(sample=car.name)
        assert found.mse.item() == pytest.approx(np.square(off).mean(), rel=1e-5)
        assert found.mae_area.item() == pytest.approx((weights * np.abs(off)).sum(), rel=1e-5)
        assert found.relative_l2.item() == pytest.approx(np.linalg.norm(off) / np.linalg.norm(car.pressure), rel=1e-5)


def test_the_bar_ends_full(cars, make_model, monkeypatch):
    shown = []

    class Bar(metrics.tqdm):
        def close(self):
            shown.append((self.n, self.total))
            super().close()

    monkeypatch.setattr(metrics, "tqdm", Bar)
    model = make_model()
    metrics.measure(model, with_trees(samples_of(cars, model, TrainConfig(), torch.device("cpu")), model), "mse", True)
    assert shown[0] == (len(cars), len(cars))


def test_metrics_are_labelled_and_summed_up(measured):
    metrics = measured[1]
    assert metrics.mse.dims == ("sample",)
    assert metrics.mean_mse.item() == pytest.approx(metrics.mse.mean().item())
    units = {name: metrics[name].attrs["units"] for name in metrics.data_vars}
    assert units["mse"] == units["mean_mse"] == "Pa^2"
    assert units["mae_area"] == "Pa"
    assert units["relative_l2"] == units["relative_l2_area"] == "1"
    assert all(variable.attrs["long_name"] for variable in metrics.data_vars.values())
    for name in ("model_attention", "model_ball_size", "model_top_k", "seed", "device", "dtype", "bsaviz_version"):
        assert name in metrics.attrs, name


def test_metrics_survive_netcdf(measured, tmp_path):
    measured[1].to_netcdf(tmp_path / "metrics.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "metrics.nc", engine="h5netcdf") as read:
        assert read.identical(measured[1])


def test_a_cloud_weighs_its_points_alike(cars, make_model):
    cloud = replace(cars[0], faces=None)
    metrics = evaluate(make_model(), [cloud], progress=False)
    assert metrics.relative_l2_area.item() == pytest.approx(metrics.relative_l2.item())


def test_units_come_from_the_cars(cars, make_model):
    bare = [replace(car, units={}) for car in cars[:2]]
    assert evaluate(make_model(), bare, progress=False).mse.attrs["units"] == "1"
    slashed = [replace(car, units={"pressure": "N/m"}) for car in cars[:2]]
    assert evaluate(make_model(), slashed, progress=False).mse.attrs["units"] == "(N/m)^2"


def test_what_cannot_be_measured_is_said(cars, make_model):
    with pytest.raises(BsavizError, match="cars must be a list of cars, got one car"):
        evaluate(make_model(), cars[0], progress=False)
    with pytest.raises(BsavizError, match="has no field 'drag'"):
        evaluate(make_model(), cars[:1], TrainConfig(target="drag"), progress=False)


def sample_of(car, model):
    return with_trees(samples_of([car], model, TrainConfig(), torch.device("cpu")), model)[0]


def test_mean_gates_are_means_over_points_in_input_order(cars, make_model):
    model = make_model(ball_size=64)  # 188 points in 192 slots: padding must not count
    sample, seen = sample_of(cars[5], model), []
    hooks = [layer.attn.gate.register_forward_hook(lambda module, _, gate: seen.append(gate)) for layer in model.layers]
    with torch.no_grad():
        model(sample.positions, tree=sample.tree)
    for hook in hooks:
        hook.remove()
    trees = [sample.tree, sample.tree.rotated]
    expected = [tree.scatter(gate.transpose(1, 2)).mean(0) for tree, gate in zip(trees, seen)]
    torch.testing.assert_close(mean_gates(model, sample), torch.stack(expected))
    assert not any(layer.attn.gate.observed for layer in model.layers)


def test_a_static_gate_gives_the_ball_weight_one(cars, make_model):
    model = make_model(gate="static")
    gates = mean_gates(model, sample_of(cars[0], model))
    assert gates.shape == (2, 2, 3)
    assert (gates[..., 0] == 1).all()
    torch.testing.assert_close(gates[..., 1:], torch.full((2, 2, 2), 0.5))


def test_models_without_gates_have_none(cars, make_model):
    for name in ("full", "ball"):
        model = make_model(name)
        assert mean_gates(model, sample_of(cars[0], model)) is None
