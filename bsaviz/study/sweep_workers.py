"""The workers of a sweep: each takes a trial, trains it, and writes down what became of it."""

import multiprocessing
import os
import socket
import sys
import time
import warnings
from pathlib import Path

import torch

from bsaviz._checks import BsavizError
from bsaviz.study.sweep_journal import Journal
from bsaviz.study.trial import run_trial
from bsaviz.training import pick_device
from bsaviz.training.interrupt import Interrupt


class DeviceLost(Exception):
    """The GPU cannot be used any more by this process, as after an illegal access."""


def devices_of(device, workers):
    """The device of each worker, from what :meth:`Sweep.run` was given."""
    named = device.split(",") if isinstance(device, str) else [None] if device is None else list(device)
    devices = [None if name is None else str(pick_device(str(name).strip())) for name in named]
    if not devices or workers < len(devices):
        raise BsavizError(f"{workers} workers cannot use {len(devices)} devices; give each device a worker or more")
    return [devices[i % len(devices)] for i in range(workers)]


def work(journal, device, stops, until=float("inf"), done=lambda: None):
    """Take one waiting trial after the other until none is left.

    Raises
    ------
    DeviceLost
        After a trial that left the GPU unusable: what comes next needs a fresh process.
    """
    while not stops() and time.time() < until:
        trial = journal.take(_name(os.getpid()))
        if trial is None:
            return
        with journal.alive(trial):
            _attempt(journal, trial, device, stops)
        done()


def share(journal, devices, stops, until, bar):
    """Let a process work on each device, and watch the journal; a process that dies is replaced, its trial queued."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()

    def started(device):
        process = context.Process(target=_worker, args=(str(journal.folder), device, stop, until))
        process.start()
        return process, device

    team, endings = [started(device) for device in devices], []
    while team:
        time.sleep(0.2)
        if stops():
            stop.set()
        for member in [member for member in team if not member[0].is_alive()]:
            team.remove(member)
            process, device = member
            if process.exitcode:
                endings.append(process.exitcode)
                ending = f"its worker ended with exit status {process.exitcode}"
                left = journal.recover({_name(process.pid): ending})
                if (left or process.exitcode == _LOST_DEVICE) and journal.trials("WAITING") and not stop.is_set():
                    team.append(started(device))
        left = len(journal.trials("WAITING")) + len(journal.trials("RUNNING"))
        bar.update(max(bar.total - left, bar.n) - bar.n)
    if endings:
        warnings.warn(
            f"{len(endings)} workers ended before their work was done, the first with exit status {endings[0]}; what "
            "they had begun was tried again",
            stacklevel=3,
        )


_LOST_DEVICE = 3  # exit status of a worker that needs a fresh process


def _worker(folder, device, stop, until):
    journal = Journal(None, Path(folder))
    with Interrupt() as interrupt:  # Ctrl-C reaches the whole group of processes: the parent tells when to stop
        try:
            work(journal, device, lambda: stop.is_set() or interrupt.came, until)
        except DeviceLost as error:
            print(error, file=sys.stderr)
            sys.exit(_LOST_DEVICE)


def _attempt(journal, trial, device, stops):
    try:
        chosen, seed = _suggest(trial, journal.plan)
        ds = run_trial(journal.plan, chosen, seed, journal.beats, trial.number, device=device, should_stop=stops)
    except Exception as error:  # noqa: BLE001  one bad setting must not end the others
        journal.tell(trial, "FAIL", error=f"{type(error).__name__}: {error}")
        _check_device(error)
        return
    if ds is None:
        journal.tell(trial, "FAIL", error="stopped")
    else:
        journal.tell(trial, "COMPLETE", [float(ds[name]) for name in journal.plan.objectives])


def _check_device(error):
    if isinstance(error, RuntimeError) and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError as lost:
            raise DeviceLost(f"the GPU cannot be used any more by this process ({lost}); start another") from error


def _suggest(trial, plan):
    """(values of the parameters, seed) of a trial."""
    chosen = {name: _value(trial, name, values) for name, values in plan.parameters.items()}
    return chosen, trial.suggest_categorical("seed", plan.seeds)


def _value(trial, name, values):
    if not isinstance(values, dict):
        return trial.suggest_categorical(name, values)
    whole = all(isinstance(values[end], int) for end in ("low", "high"))
    suggest = trial.suggest_int if whole else trial.suggest_float
    extra = {key: values[key] for key in ("log", "step") if key in values}
    return suggest(name, values["low"], values["high"], **extra)


def _name(pid):
    return f"{socket.gethostname()}:{pid}"

