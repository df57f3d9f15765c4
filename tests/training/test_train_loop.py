"""The loop learns, stops cleanly, resumes bit for bit and says what is wrong."""

import os
import random
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bsaviz._checks import BsavizError
from bsaviz.training import TrainConfig, checkpoint_info, load_model, train


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def stop_before(step):
    """A `should_stop` that answers no `step` times."""
    asked = iter(range(step + 1))
    return lambda: next(asked) == step


def test_it_learns_a_car(cars, make_model):
    model = make_model()
    result = train(model, cars[:1], config=TrainConfig(steps=120, batch_size=1, learning_rate=5e-3), progress=False)
    loss = result.history.loss.values
    assert not result.stopped
    assert loss.shape == (120,)
    assert loss[-5:].mean() < 0.15 * loss[:5].mean()
    guess = np.square(cars[0].pressure - cars[0].pressure.mean()).mean()  # the error of always saying the mean
    assert result.metrics.mse.item() < 0.15 * guess
    assert result.metrics.attrs["split"] == "train"
    assert not model.training


def test_targets_are_normalised_over_the_points_of_the_training_cars(cars, make_model):
    model = make_model()
    train(model, cars[:3], cars[3:], TrainConfig(steps=1), progress=False)
    pressure = np.concatenate([car.pressure for car in cars[:3]]).astype(np.float64)
    assert model.output_mean.item() == pytest.approx(pressure.mean(), rel=1e-6)
    assert model.output_std.item() == pytest.approx(pressure.std(), rel=1e-6)


def test_a_constant_target_is_learnt_as_it_is(cars, make_model):
    car = replace(cars[0], fields={"pressure": np.full(cars[0].num_points, 3.0)})
    model = make_model()
    train(model, [car], config=TrainConfig(steps=1), progress=False)
    assert (model.output_mean.item(), model.output_std.item()) == (3.0, 1.0)


def test_the_loop_is_adamw_on_the_normalised_error(cars, make_model):
    """Three steps by hand, in torch's own words, on one car."""
    model, twin = make_model(), make_model()
    config = TrainConfig(steps=3, batch_size=1, clip=0.005)
    train(model, cars[:1], config=config, progress=False)

    pressure = torch.from_numpy(cars[0].pressure)[:, None]
    target = (pressure - pressure.mean()) / pressure.std(correction=0)
    positions = torch.from_numpy(cars[0].positions)
    optimiser = torch.optim.AdamW(twin.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3)
    for _ in range(3):
        optimiser.zero_grad()
        F.mse_loss(twin(positions), target).backward()
        norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.005)
        optimiser.step()
        schedule.step()
    assert norm > 0.005  # the clipping was at work
    for (name, ours), theirs in zip(model.named_parameters(), twin.parameters()):
        torch.testing.assert_close(ours, theirs, atol=2e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(
    "settings",
    [
        {"ema": 0.9, "warmup": 2, "eval_every": 3},
        {"num_points": 100, "draw": "step"},
        {"num_points": 100, "draw": "once"},
    ],
)
def test_a_stopped_run_resumes_bit_for_bit(cars, make_model, tmp_path, settings):
    config = TrainConfig(steps=8, **settings)
    unbroken, resumed = make_model(), make_model()
    whole = train(unbroken, cars[:3], cars[3:4], config, progress=False)

    path = tmp_path / "run"
    half = {"checkpoint": path, "should_stop": stop_before(5)}
    first = train(make_model(), cars[:3], cars[3:4], config, progress=False, **half)
    assert first.stopped
    assert first.history.sizes["step"] == first.metrics.attrs["steps"] == 5
    torch.rand(7)  # whatever happened in between
    second = train(resumed, cars[:3], cars[3:4], config, progress=False, checkpoint=path, resume=path)

    assert not second.stopped
    assert same_weights(unbroken, resumed)
    assert whole.history.drop_vars("elapsed").identical(second.history.drop_vars("elapsed"))
    assert whole.metrics.identical(second.metrics)
    assert same_weights(load_model(path, device="cpu"), unbroken)


def test_a_run_may_stop_before_its_first_step_and_resume_after_its_last(cars, make_model, tmp_path):
    config, model = TrainConfig(steps=2), make_model()
    first = train(model, cars[:2], config=config, progress=False, checkpoint=tmp_path / "run", should_stop=lambda: True)
    assert first.stopped
    assert first.history.sizes["step"] == 0
    second = train(model, cars[:2], config=config, progress=False, checkpoint=tmp_path / "run", resume=tmp_path / "run")
    third = train(make_model(), cars[:2], config=config, progress=False, resume=tmp_path / "run")
    assert not third.stopped
    assert third.history.identical(second.history)
    assert third.metrics.identical(second.metrics)


def test_a_resumed_run_draws_what_the_unbroken_one_drew(cars, make_model, tmp_path):
    """Under a model that draws from the global generators of torch, numpy and python, as dropout would."""

    def noisy():
        model = make_model()
        noise = lambda: 0.1 * (random.random() + np.random.rand())  # noqa: NPY002
        model.head.register_forward_hook(lambda module, _, out: out + noise() * torch.randn_like(out))
        return model

    config, unbroken, resumed = TrainConfig(steps=6), noisy(), noisy()
    train(unbroken, cars[:2], config=config, progress=False)
    half = {"checkpoint": tmp_path / "run", "should_stop": stop_before(3)}
    train(noisy(), cars[:2], config=config, progress=False, **half)
    train(resumed, cars[:2], config=config, progress=False, resume=tmp_path / "run")
    assert same_weights(unbroken, resumed)


def test_a_run_that_died_resumes_from_its_last_checkpoint(cars, make_model, tmp_path):
    config = TrainConfig(steps=8, checkpoint_every=3)
    unbroken, resumed = make_model(), make_model()
    train(unbroken, cars[:3], config=config, progress=False)
    asked = iter(range(9))

    def die():
        if next(asked) == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        train(make_model(), cars[:3], config=config, progress=False, checkpoint=tmp_path / "run", should_stop=die)
    assert checkpoint_info(tmp_path / "run")["meta"]["step"] == 3
    train(resumed, cars[:3], config=config, progress=False, resume=tmp_path / "run")
    assert same_weights(unbroken, resumed)


def test_ctrl_c_finishes_the_step_and_writes_the_checkpoint(cars, make_model, tmp_path):
    model, passes, before = make_model(), iter(range(100)), signal.getsignal(signal.SIGINT)
    interrupt = lambda *_: os.kill(os.getpid(), signal.SIGINT) if next(passes) == 2 else None
    hook = model.head.register_forward_hook(interrupt)
    result = train(model, cars[:2], config=TrainConfig(steps=50), progress=False, checkpoint=tmp_path / "run")
    hook.remove()
    assert result.stopped
    assert result.history.sizes["step"] == 3
    assert signal.getsignal(signal.SIGINT) is before
    assert same_weights(load_model(tmp_path / "run", device="cpu"), model)


@pytest.fixture
def usual_ctrl_c():
    """Python's own handler: a shell that starts tests in the background lets them ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_second_ctrl_c_interrupts_at_once(cars, make_model, usual_ctrl_c):
    model = make_model()

    def insist(*_):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    model.head.register_forward_hook(insist)
    with pytest.raises(KeyboardInterrupt):
        train(model, cars[:2], config=TrainConfig(steps=50), progress=False)
    assert signal.getsignal(signal.SIGINT) is usual_ctrl_c


def test_it_trains_in_a_thread(cars, make_model):
    results = []
    work = lambda: results.append(
        train(make_model(), cars[:2], config=TrainConfig(steps=9), progress=False, should_stop=stop_before(2))
    )
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert results[0].stopped
    assert results[0].history.sizes["step"] == 2


def test_equal_seeds_give_equal_models_and_others_do_not(cars, make_model):
    trained = []
    for seed in (3, 3, 4):
        model = make_model()
        train(model, cars[:3], config=TrainConfig(steps=3, num_points=90, seed=seed), progress=False)
        trained.append(model)
    assert same_weights(trained[0], trained[1])
    assert not same_weights(trained[0], trained[2])


def test_the_average_is_that_of_the_weights_after_each_step(cars, make_model):
    config = TrainConfig(steps=6, ema=0.3)  # the decay is 1/10 and 2/11 in the first steps, then 1/4 and 0.3
    raw = []
    plain, model = make_model(), make_model()
    note = lambda: raw.append([p.detach().clone() for p in plain.parameters()])
    train(plain, cars[:2], config=replace(config, ema=None), progress=False, should_stop=note)
    raw.append(list(plain.parameters()))
    train(model, cars[:2], config=config, progress=False)

    average = raw[0]
    for step, weights in enumerate(raw[1:]):
        decay = min(0.3, (1 + step) / (10 + step))
        average = [decay * old + (1 - decay) * new for old, new in zip(average, weights)]
    for ours, expected in zip(model.parameters(), average):
        torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_history_follows_losses_errors_and_gates(cars, make_model, tmp_path):
    config = TrainConfig(steps=5, eval_every=2)
    history = train(make_model(), cars[:2], cars[2:4], config, progress=False).history
    assert history.step.values.tolist() == [1, 2, 3, 4, 5]
    assert history.eval_step.values.tolist() == [0, 2, 4]
    assert history.gate.dims == ("eval_step", "layer", "head", "branch")
    assert history.branch.values.tolist() == ["ball", "compression", "selection"]
    assert ((history.gate > 0) & (history.gate < 1)).all()
    assert history.test_mse.attrs["units"] == "Pa^2"
    assert history.learning_rate.values[0] == 1e-3
    assert (np.diff(history.elapsed) > 0).all()
    assert history.attrs["model_attention"] == "bsa"
    assert history.attrs["seed"] == 0


def test_history_without_gates_or_test_cars(cars, make_model):
    config = TrainConfig(steps=2, eval_every=1)
    history = train(make_model("full"), cars[:2], config=config, progress=False).history
    assert set(history.data_vars) == {"loss", "learning_rate", "elapsed"}


def test_trees_are_built_once_for_each_car(cars, make_model, monkeypatch):
    model, built = make_model(), []
    tree = model.tree
    monkeypatch.setattr(model, "tree", lambda *arguments: built.append(1) or tree(*arguments))
    train(model, cars[:3], cars[3:5], TrainConfig(steps=6, eval_every=2), progress=False)
    assert len(built) == 5


def test_features_reach_the_model(cars, make_model):
    config = TrainConfig(steps=2, features=("normals",))
    model = make_model(in_features=3)
    train(model, cars[:2], cars[2:3], config, progress=False)
    assert model.embedding.weight.grad[:, -3:].abs().max() > 0


def test_every_attention_trains(cars, make_model):
    for name in ("bsa-group-compression", "bsa-no-group-selection", "ball"):
        result = train(make_model(name), cars[:2], config=TrainConfig(steps=2), progress=False)
        assert np.isfinite(result.metrics.mse).all(), name


def test_the_published_behaviour_trains(cars, make_model):
    model = make_model(published=True, position_scaling="none")
    slopes = [layer.attn.distance_slope.clone() for layer in model.layers]
    train(model, cars[:3], config=TrainConfig(steps=2, ema=0.9), progress=False)
    assert all(torch.equal(layer.attn.distance_slope, slope) for layer, slope in zip(model.layers, slopes))


def test_the_bar_shows_loss_and_can_be_silent(cars, make_model, capfd):
    train(make_model(), cars[:1], config=TrainConfig(steps=2), progress=True)
    shown = capfd.readouterr().err
    assert "training" in shown
    assert "loss=" in shown
    train(make_model(), cars[:1], config=TrainConfig(steps=2), progress=False)
    assert capfd.readouterr().err == ""


def test_meta_reaches_the_checkpoint(cars, make_model, tmp_path):
    train(make_model(), cars[:2], config=TrainConfig(steps=2), progress=False, checkpoint=tmp_path / "run",
          meta={"command": "bsaviz train"})
    meta = checkpoint_info(tmp_path / "run")["meta"]
    assert meta["command"] == "bsaviz train"
    assert meta["units"] == "Pa"
    assert meta["training"]["steps"] == 2
    assert meta["train_cars"] == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda cars: cars[0], "train_cars must be a list of cars, got one car"),
        (lambda cars: [], "train_cars is empty; give at least one car"),
        (lambda cars: ["generated:1"], "train_cars must hold cars, got a str; make cars with bsaviz.load_car"),
        (lambda cars: [cars[0], replace(cars[1], units={"pressure": "kPa"})], "in several units: Pa, kPa; convert"),
        (lambda cars: [replace(cars[0], fields={})], "has no field 'pressure'"),
    ],
)
def test_what_are_no_training_cars_is_said(cars, make_model, given, message):
    with pytest.raises(BsavizError) as error:
        train(make_model(), given(cars), config=TrainConfig(steps=1), progress=False)
    assert message in str(error.value)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(cars, make_model, tmp_path):
    model = make_model()
    passes = iter(range(100))
    model.head.register_forward_hook(lambda module, _, out: out * torch.nan if next(passes) >= 4 else out)
    config = TrainConfig(steps=8, checkpoint_every=2)
    with pytest.raises(BsavizError, match="the loss is nan at step 6; lower learning_rate, or raise warmup"):
        train(model, cars[:2], config=config, progress=False, checkpoint=tmp_path / "run")
    assert checkpoint_info(tmp_path / "run")["meta"]["step"] == 4


def test_a_folder_that_cannot_be_written_is_found_before_the_first_step(cars, make_model, tmp_path):
    (tmp_path / "file").touch()
    model = make_model()
    with pytest.raises(BsavizError, match="cannot write a checkpoint in .*file.*; choose another folder"):
        train(model, cars[:1], config=TrainConfig(steps=1), progress=False, checkpoint=tmp_path / "file" / "run")
    assert same_weights(model, make_model())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"config": TrainConfig(steps=6)}, "cannot resume with other settings: steps was 4 and is now 6; use the old"),
        ({"cars": [2, 3]}, "cannot resume with other cars: the run had 2 training cars starting with [['generated:0'"),
        ({"model": {"dim": 16}}, "does not fit the model that was given to train"),
        ({"path": "other"}, "other.train.safetensors to resume from; start without resume"),
    ],
)
def test_what_does_not_fit_a_resumed_run_is_said(cars, make_model, tmp_path, changed, message):
    run = lambda **rest: train(progress=False, **rest)
    run(model=make_model(), train_cars=cars[:2], config=TrainConfig(steps=4), checkpoint=tmp_path / "run",
        should_stop=stop_before(2))
    model = make_model(**changed.get("model", {}))
    chosen = [cars[i] for i in changed.get("cars", [0, 1])]
    with pytest.raises(BsavizError) as error:
        run(model=model, train_cars=chosen, config=changed.get("config", TrainConfig(steps=4)),
            resume=tmp_path / changed.get("path", "run"))
    assert message in str(error.value)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_it_learns_on_a_gpu_and_resumes(cars, make_model, tmp_path):
    config = TrainConfig(steps=40, batch_size=1, learning_rate=5e-3, device="cuda", ema=0.9)
    half = {"checkpoint": tmp_path / "run", "should_stop": stop_before(20)}
    train(make_model(), cars[:1], config=config, progress=False, **half)
    result = train(make_model(), cars[:1], config=config, progress=False, resume=tmp_path / "run")
    assert result.history.loss.values[-1] < 0.5 * result.history.loss.values[0]
