"""Sweeps: many trainings over a plan, shared by any number of processes and machines, resumable after a kill.

Optuna keeps the trials in a journal, one file that is only ever appended to under a lock. Every trial waits in it from
the start, and a worker that takes one marks it as its own, so no two workers train the same setting. While it trains, a
worker touches a file; a trial whose file has grown old lost its worker, and is queued again.
"""

import json
import multiprocessing
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

from tqdm.auto import tqdm

from bsaviz import __version__
from bsaviz._checks import BsavizError, require
from bsaviz.study.plan import SweepPlan
from bsaviz.study.sweep_results import open_sweep
from bsaviz.study.trial import run_trial
from bsaviz.training import pick_device
from bsaviz.training.interrupt import Interrupt

FORMAT_VERSION = 1
BEAT, LOST = 2.0, 30.0  # seconds between signs of life, and after which a worker counts as lost
ATTEMPTS = 3


class Sweep:
    """A study in a folder: ``journal.log``, and ``trials/`` with one netCDF (and one checkpoint) a trial.

    Parameters
    ----------
    plan : SweepPlan, dict or path, optional
        None opens the sweep that the folder holds.
    folder : str or Path
        Made if need be. Several processes and machines may open the same one.

    Raises
    ------
    BsavizError
        For a plan that cannot be run, a folder that holds another plan or another version's sweep, and a folder without
        any when no plan is given.

    Examples
    --------
    >>> sweep = Sweep({"parameters": {"block_size": [8, 16]}, "training": {"steps": 200}}, "sweep")  # doctest: +SKIP
    >>> sweep.run(workers=2)  # doctest: +SKIP
    >>> sweep.open().relative_l2.mean("seed")  # doctest: +SKIP
    """

    def __init__(self, plan=None, folder="sweep"):
        self.folder = Path(folder)
        self.trials = self.folder / "trials"
        if plan is None and not (self.folder / "journal.log").is_file():
            raise BsavizError(f"{self.folder} holds no sweep; give a plan to start one")
        if plan is not None and not isinstance(plan, SweepPlan):
            plan = SweepPlan.from_dict(plan) if isinstance(plan, dict) else SweepPlan.from_file(plan)
        self.trials.mkdir(parents=True, exist_ok=True)
        self.plan, self.study = _open_study(plan, self.folder)

    def run(self, workers=1, *, device=None, progress=True, should_stop=None, seconds=None):
        """Train what is left; returns the whole study as :meth:`open` does.

        Trials that failed or lost their worker are tried again, at most three times in all; what then fails stays
        recorded with its error. A stop (`should_stop`, Ctrl-C) lets nothing half-written behind; the next run goes on.

        Parameters
        ----------
        workers : int
            Processes on this machine; with 1, this process trains.
        device : str or list of str, optional
            ``"cpu"``, ``"cuda:0"``, ..., or several of them (``"cuda:0,cuda:1"``), which the workers take in turn.
            None: CUDA where there is a device.
        progress : bool
            Show a bar over the trials, with the time left.
        should_stop : callable, optional
            A true answer ends the run.
        seconds : float, optional
            Begin no trial after so long; those under way are finished.
        """
        until = float("inf") if seconds is None else time.time() + seconds
        if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
            raise BsavizError(f"workers must be a whole number of at least 1, got {workers!r}")
        devices = _devices(device, workers)
        _recover(self)
        with Interrupt() as interrupt, tqdm(total=len(self.waiting()), desc="trials", disable=not progress) as bar:
            stops = lambda: interrupt.came or (should_stop is not None and should_stop())
            if workers == 1:
                _work(self, devices[0], stops, until, bar.update)
            else:
                _share(self, devices, stops, until, bar)
        return self.open()

    def open(self):
        """Everything measured so far, one Dataset; see :func:`bsaviz.study.open_sweep`."""
        return open_sweep(self.folder)

    def states(self):
        """How many trials wait, run, are complete, and failed."""
        optuna = require("optuna", "study")
        trials = self.study.get_trials(deepcopy=False)
        return {state.name.lower(): sum(t.state == state for t in trials) for state in optuna.trial.TrialState}

    def waiting(self):
        """Numbers of the trials that wait."""
        return _numbers(self.study, "WAITING")

    def failures(self):
        """{trial number: error} of the trials that failed."""
        failed = _trials(self.study, "FAIL")
        return {t.number: t.user_attrs.get("error", "lost its worker") for t in failed}


def _open_study(plan, folder):
    """The plan and the Optuna study of a folder; a new one gets its trials queued, under a lock."""
    optuna = require("optuna", "study")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = optuna.storages.journal.JournalFileBackend(str(folder / "journal.log"))
    storage = optuna.storages.JournalStorage(backend)
    with _lock(folder):
        names = optuna.study.get_all_study_names(storage)
        if names:
            study = optuna.load_study(study_name=names[0], storage=storage)
            plan = _same_plan(plan, study, folder)
        else:
            if plan is None:
                raise BsavizError(f"{folder} holds no sweep; give a plan to start one")
            study = optuna.create_study(
                study_name="sweep", storage=storage, directions=["minimize"] * len(plan.objectives))
            study.set_user_attr("bsaviz_sweep_version", FORMAT_VERSION)
            study.set_user_attr("bsaviz_version", __version__)
            study.set_user_attr("plan", plan.to_json())
            for queued in _planned(plan):
                _queue(study, queued, attempt=1)
            study.set_user_attr("queued", True)
    study.sampler = _sampler(plan)
    return plan, study


def _same_plan(plan, study, folder):
    version = study.user_attrs.get("bsaviz_sweep_version")
    if version != FORMAT_VERSION:
        made = study.user_attrs.get("bsaviz_version", "another program")
        raise BsavizError(
            f"{folder} holds a sweep of format {version} (made by bsaviz {made}); this bsaviz reads format "
            f"{FORMAT_VERSION}: use that version, or another folder"
        )
    if "queued" not in study.user_attrs:
        raise BsavizError(f"the sweep in {folder} was cut off while it was made; remove the folder and start again")
    kept = SweepPlan.from_dict(json.loads(study.user_attrs["plan"]), f"the plan in {folder}")
    if plan is not None and plan.to_json() != kept.to_json():
        raise BsavizError(f"{folder} holds a sweep of another plan; give this one a folder of its own")
    return kept


def _planned(plan):
    """What each queued trial fixes: everything on a grid, only the seed elsewhere."""
    combinations = plan.combinations()
    settings = [{}] * plan.trials if combinations is None else combinations
    # Every setting once before any comes again: a study that is cut short has fewer seeds, not fewer settings.
    return [{**chosen, "seed": seed} for seed in plan.seeds for chosen in settings]


def _sampler(plan):
    samplers = require("optuna", "study").samplers
    if plan.sampler == "grid":
        return samplers.GridSampler({**plan.parameters, "seed": list(plan.seeds)}, seed=0)
    made = {"random": samplers.RandomSampler, "tpe": samplers.TPESampler, "nsga2": samplers.NSGAIISampler}
    return made[plan.sampler](seed=None)


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


def _work(sweep, device, stops, until=float("inf"), done=lambda: None):
    """Take one waiting trial after the other until none is left."""
    pruned = require("optuna", "study").trial.TrialState.PRUNED
    while sweep.waiting() and not stops() and time.time() < until:
        trial = sweep.study.ask()
        if "attempt" not in trial.user_attrs:  # another worker took the last one between the two lines above
            sweep.study.tell(trial, state=pruned)
            return
        with _alive(sweep.trials, trial.number):
            _attempt(sweep, trial, device, stops)
        done()


def _attempt(sweep, trial, device, stops):
    failed = require("optuna", "study").trial.TrialState.FAIL
    try:
        chosen, seed = _suggest(trial, sweep.plan)
        ds = run_trial(sweep.plan, chosen, seed, sweep.trials, trial.number, device=device, should_stop=stops)
    except Exception as error:  # noqa: BLE001  one bad setting must not end the others
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        sweep.study.tell(trial, state=failed)
        return
    if ds is None:
        trial.set_user_attr("error", "stopped")
        sweep.study.tell(trial, state=failed)
        return
    sweep.study.tell(trial, [float(ds[name]) for name in sweep.plan.objectives])


def _devices(device, workers):
    """The device of each worker."""
    named = device.split(",") if isinstance(device, str) else [None] if device is None else list(device)
    devices = [None if name is None else str(pick_device(str(name).strip())) for name in named]
    if not devices or workers < len(devices):
        raise BsavizError(f"{workers} workers cannot use {len(devices)} devices; give each device a worker or more")
    return [devices[i % len(devices)] for i in range(workers)]


def _share(sweep, devices, stops, until, bar):
    """Let processes work, and watch the journal."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    team = [context.Process(target=_worker, args=(str(sweep.folder), device, stop, until)) for device in devices]
    for process in team:
        process.start()
    total = bar.total
    while any(process.is_alive() for process in team):
        if stops():
            stop.set()
        time.sleep(0.2)
        bar.update(total - len(sweep.waiting()) - len(_numbers(sweep.study, "RUNNING")) - bar.n)
    for process in team:
        process.join()
    broken = [process.exitcode for process in team if process.exitcode]
    if broken:
        warnings.warn(
            f"{len(broken)} of {len(devices)} workers ended with exit status {broken[0]}; what they had begun is "
            "queued again by the next run",
            stacklevel=3,
        )


def _worker(folder, device, stop, until):
    sweep = Sweep(folder=folder)
    with Interrupt() as interrupt:  # Ctrl-C reaches the whole group of processes: the parent tells when to stop
        _work(sweep, device, lambda: stop.is_set() or interrupt.came, until)


def _recover(sweep):
    """Queue again what failed or lost its worker, and was not tried too often."""
    failed = require("optuna", "study").trial.TrialState.FAIL
    with _lock(sweep.folder):
        for trial in _trials(sweep.study, "RUNNING"):
            if _age(sweep.trials, trial.number) > LOST:
                sweep.study.tell(trial.number, state=failed)
        seen = set(sweep.study.user_attrs.get("queued_again", []))
        for trial in _trials(sweep.study, "FAIL"):
            stopped = trial.user_attrs.get("error") == "stopped"
            attempt = trial.user_attrs.get("attempt", 1) + (not stopped)
            if trial.number in seen or attempt > ATTEMPTS:
                continue
            seen.add(trial.number)
            _queue(sweep.study, trial.params or trial.user_attrs["fixed"], attempt)
        sweep.study.set_user_attr("queued_again", sorted(seen))


def _queue(study, fixed, attempt):
    study.enqueue_trial(fixed, user_attrs={"fixed": fixed, "attempt": attempt})


def _age(folder, number):
    """Seconds since the last sign of life, by the clock of the folder's own file system."""
    now = folder / ".now"
    now.touch()
    beat = folder / f".alive-{number:05d}"
    return now.stat().st_mtime - beat.stat().st_mtime if beat.exists() else float("inf")


@contextmanager
def _alive(folder, number):
    """While inside, a file is touched every few seconds."""
    beat, end = folder / f".alive-{number:05d}", threading.Event()

    def touch():
        beat.touch()
        while not end.wait(BEAT):
            beat.touch()

    beat.touch()
    thread = threading.Thread(target=touch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        beat.unlink(missing_ok=True)


@contextmanager
def _lock(folder):
    """One process at a time makes or opens the study."""
    optuna = require("optuna", "study")
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(folder / "open"), grace_period=int(LOST))
    (folder / "open").touch()
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _trials(study, state):
    states = (require("optuna", "study").trial.TrialState[state],)
    return study.get_trials(deepcopy=False, states=states)


def _numbers(study, state):
    return [trial.number for trial in _trials(study, state)]
