"""Every set trains with its published loss and normalisation; losses by their formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.datasets import Sample, load_set, standins
from bsaviz.fields import receptive_field
from bsaviz.models import build
from bsaviz.training import TrainConfig, evaluate, load_model, model_sizes, train
from bsaviz.training.batches import collate, samples_of
from bsaviz.training.losses import loss_of

TINY = dict(dim=16, depth=2, num_heads=2, ball_size=32)


def toy(index, loss, dims=3):
    """A sample like those of a set: ragged, a target that positions and features tell."""
    generator = np.random.default_rng(index)
    points = generator.uniform(-1, 1, (60 + 7 * index, dims))
    speed = generator.normal(size=(len(points), 2))
    chain = np.arange(len(points) - 1)
    scale = {"target_mean": (5.0, 5.0, 5.0), "target_std": (2.0, 3.0, 4.0)} if loss == "nll" else {}
    target = 5 + 3 * np.stack([points[:, 0], speed[:, 0], points[:, 1]], axis=1)
    return Sample(f"toy:{index}", points, {"force": target, "speed": speed}, "force", ("speed",), loss=loss,
                  edges=np.stack([chain, chain + 1]), units={"force": "N"}, **scale)  # fmt: skip


def small(name, sample, **overrides):
    torch.manual_seed(0)
    return build(name, "tiny", **{**TINY, **model_sizes(sample), **overrides})


@pytest.mark.parametrize(("loss", "dims"), [("mse", 3), ("relative_l2", 2), ("nll", 3)])
def test_a_set_trains_with_its_own_loss(loss, dims, tmp_path):
    samples = [toy(i, loss, dims) for i in range(4)]
    model = small("bsa", samples[0])
    config = TrainConfig(steps=60, eval_every=30, learning_rate=3e-3, device="cpu")
    before = evaluate(model, samples[3:], config, progress=False)
    result = train(model, samples[:3], samples[3:], config, progress=False, checkpoint=tmp_path / "m")
    errors = result.history.test_objective.values
    assert errors[-1] < 0.8 * errors[0] if loss != "nll" else errors[-1] < errors[0] - 0.2
    assert float(result.metrics.mean_mse) < float(before.mean_mse)
    assert result.metrics.mse.attrs["units"] == "N^2"
    again = evaluate(load_model(tmp_path / "m", "cpu"), samples[3:], config, progress=False)
    np.testing.assert_allclose(again.objective, result.metrics.objective, rtol=1e-5)
    if loss == "relative_l2":
        np.testing.assert_allclose(again.objective, again.relative_l2, rtol=1e-5)


@pytest.mark.parametrize("name", ["elasticity", "md", "cosmology"])
def test_a_stand_in_trains(name, tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path))
    quick = {"_UNITS": 8, "_FRAMES": 18, "_WARMUP": 1.0, "_INTERVAL": 0.2, "_CELLS": 64, "_HALOS": 200}
    for setting, value in quick.items():
        monkeypatch.setattr(standins, setting, value)
    samples, tests = load_set(name, generated=True, num_train=2, num_test=1, progress=False)
    model = small("bsa", samples[0])
    result = train(model, samples, tests, TrainConfig(steps=3, batch_size=1, device="cpu"), progress=False)
    assert np.isfinite(result.history.loss).all()
    assert np.isfinite(result.metrics.objective).all()
    published = {"elasticity": "relative L2 error", "md": "negative log-likelihood", "cosmology": "mean squared error"}
    assert result.metrics.objective.attrs["long_name"].startswith(published[name])


def test_published_normalisation_goes_into_the_model_and_the_widths_stay():
    samples = [toy(i, "nll") for i in range(2)]
    model = small("full", samples[0])
    train(model, samples, config=TrainConfig(steps=1, device="cpu"), progress=False)
    assert model.output_mean.tolist() == [5, 5, 5, 0, 0, 0]
    assert model.output_std.tolist() == [2, 3, 4, 1, 1, 1]


def test_without_published_numbers_the_training_samples_give_them():
    samples = [toy(i, "mse") for i in range(2)]
    model = small("full", samples[0])
    train(model, samples, config=TrainConfig(steps=1, device="cpu"), progress=False)
    every = np.concatenate([one.target for one in samples])
    np.testing.assert_allclose(model.output_mean, every.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(model.output_std, every.std(axis=0), rtol=1e-5)


def scaled(mean, std):
    return SimpleNamespace(output_mean=torch.tensor(mean), output_std=torch.tensor(std))


def test_losses_by_hand():
    out, target = torch.tensor([[1.0], [0.0], [2.0]]), torch.tensor([[4.0], [2.0], [6.0]])
    model = scaled([2.0], [2.0])  # out means 4, 2, 6 - and the last is right too
    assert loss_of("mse", out, target + 2, model, [3]).item() == pytest.approx(1.0)
    # samples of two points and one: |(2, 2)| / |(6, 4)| and 2 / 8
    expected = (np.sqrt(8) / np.sqrt(52) + 0.25) / 2
    assert loss_of("relative_l2", out, target + 2, model, [2, 1]).item() == pytest.approx(expected)


def test_the_likelihood_is_torchs():
    generator = torch.Generator().manual_seed(0)
    out, target = torch.randn(50, 6, generator=generator), 3 * torch.randn(50, 3, generator=generator)
    model = scaled([1.0, 2.0, 3.0, 0, 0, 0], [2.0, 3.0, 4.0, 1, 1, 1])
    width = 1e-6 + torch.nn.functional.softplus(out[:, 3:])
    normalised = (target - model.output_mean[:3]) / model.output_std[:3]
    expected = -torch.distributions.Normal(out[:, :3], width).log_prob(normalised).mean()
    torch.testing.assert_close(loss_of("nll", out, target, model, [50]), expected)


def test_edges_of_a_batch_join_points_of_one_sample_and_reach_the_model():
    samples = [toy(i, "mse") for i in range(3)]
    model = small("full", samples[0])
    batch = collate(samples_of(samples, model, TrainConfig(), torch.device("cpu")), model)
    assert torch.equal(batch.batch[batch.edges[0]], batch.batch[batch.edges[1]])
    assert batch.edges.shape[1] == sum(one.num_points - 1 for one in samples)
    joined = {tuple(pair) for pair in batch.edges.T.tolist()}
    assert (samples[0].num_points, samples[0].num_points + 1) in joined

    seen, model = [], build("erwin", "tiny", **model_sizes(samples[0]))
    model.mpnn.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2]))
    train(model, samples, config=TrainConfig(steps=1, batch_size=3, device="cpu"), progress=False)
    assert seen[-4].shape == batch.edges.shape  # the step; then each sample is measured alone
    assert seen[-1].shape[1] == samples[2].num_points - 1


def test_random_subsets_keep_the_bonds_between_their_points():
    sample = toy(3, "mse")
    model = small("full", sample)
    one = samples_of([sample], model, TrainConfig(), torch.device("cpu"))[0]
    some = one.subset(40, np.random.default_rng(0))
    rows = [int((one.positions == point).all(1).nonzero()[0]) for point in some.positions]
    wanted = {(a, b) for a, b in one.edges.T.tolist() if a in rows and b in rows}
    assert {(rows[a], rows[b]) for a, b in some.edges.T.tolist()} == wanted


def test_a_set_is_looked_at_as_a_car_is():
    sample = toy(1, "mse", dims=2)
    field = receptive_field(small("bsa", sample).eval(), sample, 5)
    assert field.sizes["point"] == sample.num_points
    assert float(field.mass.sum()) > 0


def test_a_model_of_another_width_is_refused():
    sample = toy(0, "nll")
    message = (r"target 'force' with a standard deviation for each of its columns has 6 columns, but the model was "
               r"built with out_features=3; build it with out_features=6")  # fmt: skip
    with pytest.raises(BsavizError, match=message):
        train(small("full", sample, out_features=3), [sample], config=TrainConfig(steps=1), progress=False)


def test_an_unknown_loss_is_refused():
    with pytest.raises(BsavizError, match="loss must be 'mse' or 'relative_l2' or 'nll', or None, got 'l1'"):
        TrainConfig(loss="l1")


def test_the_loss_of_a_set_can_be_replaced():
    samples = [toy(i, "relative_l2") for i in range(2)]
    model = small("full", samples[0])
    result = train(model, samples, config=TrainConfig(steps=2, loss="mse", device="cpu"), progress=False)
    assert result.history.loss.attrs["long_name"] == "mean squared error of the normalised target, before the step"
    assert result.metrics.objective.attrs["long_name"] == "mean squared error of the normalised target"
