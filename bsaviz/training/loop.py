"""The training loop, whole: cars in, a trained model and its history out."""

import math
import random
import time
from contextlib import contextmanager
from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError
from bsaviz.training.batches import resolved, samples_of, with_trees
from bsaviz.training.checkpoint import save_model
from bsaviz.training.config import TrainConfig, pick_device
from bsaviz.training.feed import feed_of
from bsaviz.training.gates import gated_branches, mean_gates
from bsaviz.training.history import History
from bsaviz.training.interrupt import Interrupt, StopAsked, stopping
from bsaviz.training.losses import normalise
from bsaviz.training.metrics import checked_cars, error_units, measure, metrics_dataset
from bsaviz.training.pairs import check_writable
from bsaviz.training.ranks import Ranks
from bsaviz.training.state import Run, load_state, save_state
from bsaviz.training.step import Step

LOOK = 10  # steps between looks at the loss: a look waits for the GPU


class TrainResult(NamedTuple):
    """What :func:`train` gives back.

    Attributes
    ----------
    history : xarray.Dataset
        ``loss``, ``learning_rate`` and ``elapsed`` along dim ``step``; with ``eval_every`` also the test errors along
        ``eval_step`` and, of a model with gates, ``gate`` (eval_step, layer, head, branch).
    metrics : xarray.Dataset
        :func:`bsaviz.training.evaluate` on the test cars, or on the training cars where there are none
        (``attrs["split"]`` says which).
    stopped : bool
        True when it was stopped before its last step.
    """

    history: xr.Dataset
    metrics: xr.Dataset
    stopped: bool


def train(model, train_cars, test_cars=None, config=None, *, progress=True, checkpoint=None, resume=None,
          should_stop=None, watch=None, meta=None, ranks=None):
    """Train a model on cars, or on the samples of another set: AdamW on the set's published loss (`config.loss`).

    The target is normalised by the set's published mean and standard deviation, or else by those over the points of the
    training cars; they are kept in the model (``output_mean``, ``output_std``), so that its ``predict`` answers in the
    field's units (of loss ``"nll"``: the first half of its columns does; the second half gives the widths). The
    model is moved to the device and trained in place; it is left in eval mode. The global generators of python, numpy
    and torch are seeded. On the CPU, a resumed run gives bit for bit what an unbroken one gives.

    Parameters
    ----------
    model : PointModel
        Of :func:`bsaviz.models.build`; :func:`bsaviz.training.model_sizes` says how wide it must be.
    train_cars, test_cars : sequence of Car or of bsaviz.datasets.Sample
    config : TrainConfig, optional
    progress : bool
        Show a bar with the loss and the time left.
    checkpoint : str or Path, optional
        Where to write ``x.safetensors`` + ``x.json`` (the model) and ``x.train.safetensors`` + ``x.train.json`` (what
        a resumed run needs): every ``checkpoint_every`` steps, at a stop and at the end.
    resume : str or Path, optional
        Checkpoint of the run to go on with. The model, the cars and the settings must be the same.
    should_stop : callable, or event, optional
        Asked before each step; a true answer ends the run: the checkpoint is written and the result returned. So does
        Ctrl-C (a notebook's Stop), after the step under way; a second Ctrl-C interrupts at once. An event (of
        ``threading`` or ``multiprocessing``) is looked at before each layer too, and the step under way is given up.
    watch : callable, optional
        Called after each step with a dict: ``step``, ``loss``, ``elapsed`` (seconds); after a measurement also with
        ``step``, ``errors`` (of the test cars, by name) and ``gates`` (mean of each branch, by name, or None); after a
        checkpoint with ``saved``, its step, and ``last``, whether no other follows.
    meta : dict, optional
        Further entries for the ``meta`` of the checkpoint's JSON, e.g. the command.
    ranks : Ranks, optional
        Of :func:`bsaviz.training.joined`, where several processes train one model: each calls this with the same
        arguments. ``batch_size`` is that of all together, and a step does what it would do in one process; seeds are
        the same everywhere. The first process writes, shows and watches. A stop asked of any ends all, within
        ``LOOK`` steps.

    Returns
    -------
    TrainResult

    Raises
    ------
    BsavizError
        For cars that do not fit the model, a state that does not fit the run, a checkpoint that cannot be written
        (found out before the first step), and a loss that is no longer finite.
    """
    config, ranks = config or TrainConfig(), ranks or Ranks()
    train_cars = checked_cars("train_cars", train_cars)
    test_cars = checked_cars("test_cars", test_cars) if test_cars is not None else []
    config = resolved(config, train_cars)
    ranks.check(min(config.batch_size, len(train_cars)))
    error_units(train_cars + test_cars, config.target)  # refuses a mixture of units before any work is done
    checkpoint = checkpoint if ranks.first else None
    if checkpoint is not None:
        check_writable(checkpoint)

    device = ranks.device or pick_device(config.device)
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # what has no device of its own (streams, kernels, generators) goes there
    seed_everything(config.seed)
    model.to(device).train()
    once = config.draw == "once" or config.num_points is None
    samples = samples_of(train_cars, model, config, device, config.num_points if once else None)
    samples = with_trees(samples, model) if once else samples
    tests = with_trees(samples_of(test_cars, model, config, device), model)
    watched = with_trees(samples[:1], model)[0]  # the car whose gates are followed
    run = new_run(model, samples, train_cars, config, device)
    if resume is not None:
        load_state(run, config, resume)
    ranks.same_start(model)
    step = Step(run, config, *feed_of(samples, model, config, ranks, redrawn=not once), ranks)

    def save(last=False):
        if checkpoint is None:
            return
        what = {"training": asdict(config), "step": run.step, "train_cars": len(samples), "target": config.target,
                "units": error_units(train_cars, config.target)["mae_area"]}
        with averaged(run):
            save_model(model, checkpoint, what | dict(meta or {}))
        save_state(run, config, checkpoint)
        tell(saved=run.step, last=last)

    def tell(**news):
        if watch is not None and ranks.first:
            watch(news)

    def look():
        loss = run.history.loss[run.step - 1].item()
        if not math.isfinite(loss):
            raise BsavizError(f"the loss is {loss} at step {run.step}; lower learning_rate, or raise warmup")
        bar.set_postfix(loss=f"{loss:.4f}")

    def follow():
        with averaged(run):
            errors = measure(model, tests, config.loss) if tests else {}
            errors, gates = {name: float(np.mean(errors[name])) for name in errors}, mean_gates(model, watched)
            run.history.measure(run.step, errors, gates)
        means = None if gates is None else dict(zip(gated_branches(model), gates.float().mean((0, 1)).tolist()))
        tell(step=run.step, errors=errors, gates=means)

    started = time.perf_counter() - (run.history.elapsed[run.step - 1].item() if run.step else 0)

    def advance():
        step()
        run.history.elapsed[run.step - 1] = time.perf_counter() - started
        bar.update()
        if watch is not None and ranks.first:
            done = run.step - 1
            tell(step=run.step, loss=run.history.loss[done].item(), elapsed=run.history.elapsed[done].item())

    stopped = False
    progress = progress and ranks.first
    bar = tqdm(initial=run.step, total=config.steps, desc="training", unit="step", disable=not progress)
    with Interrupt() as interrupt, bar:
        event = should_stop if hasattr(should_stop, "is_set") else None
        asked = should_stop if event is None else event.is_set

        def stops():
            """Asked before each step; several processes ask together, now and then."""
            if ranks.size > 1 and run.step % LOOK:
                return False
            return ranks.agree(bool(interrupt.came or (asked is not None and asked())), device)

        try:
            with stopping(model, event if ranks.size == 1 else None):
                if config.eval_every and run.step == 0:
                    follow()
                while run.step < config.steps:
                    if stopped := stops():
                        break
                    advance()
                    if run.step % LOOK == 0 or run.step == config.steps:
                        look()
                    if config.eval_every and run.step % config.eval_every == 0:
                        follow()
                    if config.checkpoint_every and run.step % config.checkpoint_every == 0 and run.step < config.steps:
                        look()
                        save()
        except StopAsked:
            stopped = True
        if run.step:
            look()
        save(last=True)
    step.close()

    if run.average is not None:
        model.load_state_dict(run.average, strict=False)
    model.eval()
    history = run.history.dataset(run.step, train_cars + test_cars, model, config)
    measured = measure(model, tests or with_trees(samples, model), config.loss, progress)
    metrics = metrics_dataset(measured, test_cars or train_cars, model, config, device)
    return TrainResult(history, metrics.assign_attrs(split="test" if tests else "train", steps=run.step), stopped)


def seed_everything(seed):
    """Seed the global generators of python, numpy and torch (CPU and CUDA)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  code under a model may draw from the global generator
    torch.manual_seed(seed)


def new_run(model, samples, cars, config, device):
    """A run at step 0; the normalisation of the targets goes into the model's buffers."""
    normalise(model, samples, cars, config.loss)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    on_gpu = device.type == "cuda"
    rate = torch.tensor(config.learning_rate, dtype=torch.float32 if on_gpu else torch.float64, device=device)
    gpu_ways = {"capturable": True, "fused": True} if on_gpu else {}
    return Run(
        model,
        torch.optim.AdamW(trained, lr=rate, weight_decay=config.weight_decay, **gpu_ways),
        {name: p.detach().clone() for name, p in model.named_parameters()} if config.ema else None,
        History(config.steps, device),
        cars=[[sample.name, len(sample.positions)] for sample in samples],
    )


@contextmanager
def averaged(run):
    """While inside, the model's parameters are their moving averages (where the run keeps them)."""
    if run.average is None:
        yield
        return
    raw = {name: parameter.detach().clone() for name, parameter in run.model.named_parameters()}
    run.model.load_state_dict(run.average, strict=False)
    try:
        yield
    finally:
        run.model.load_state_dict(raw, strict=False)
