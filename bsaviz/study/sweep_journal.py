"""The file that the workers of a sweep share: its plan, and every trial with what became of it.

Optuna keeps the trials in a journal that is only ever appended to, under a lock. Every trial waits in it from the
start, and a worker that takes one marks it as its own, so no two workers train the same setting. While it trains, a
worker touches a file; a trial whose file has grown old lost its worker, and is queued again.
"""

import json
import threading
import time
from contextlib import contextmanager, suppress

from bsaviz import __version__
from bsaviz._checks import BsavizError, require
from bsaviz.study.plan import SweepPlan
from bsaviz.study.sweep_grid import grid_sampler

FORMAT_VERSION = 1
BEAT, LOST = 2.0, 30.0  # seconds between signs of life, and after which a worker counts as lost
ATTEMPTS = 3


class Journal:
    """The journal of a folder, opened; a new one gets the trials of its plan queued.

    Parameters
    ----------
    plan : SweepPlan or None
        None takes the one that the folder holds.
    folder : Path

    Raises
    ------
    BsavizError
        For a folder that holds another plan, another version's sweep, or no journal that can be read.
    """

    def __init__(self, plan, folder):
        optuna = require("optuna", "study")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder, self.beats = folder, folder / "trials"
        path = folder / "journal.log"
        with self._lock():
            _mended(path, optuna)
            storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
            names = optuna.study.get_all_study_names(storage)
            if names:
                self.study = optuna.load_study(study_name=names[0], storage=storage)
                self.plan = _same_plan(plan, self.study, folder)
                self.study.sampler = _sampler(self.plan, optuna.samplers)
            elif plan is None:
                raise BsavizError(f"{folder} holds no sweep; give a plan to start one")
            else:
                self.plan, self.study = plan, _new_study(plan, storage, optuna)

    def trials(self, state):
        """The trials in a state: "WAITING", "RUNNING", "COMPLETE", "FAIL" or "PRUNED"."""
        states = (require("optuna", "study").trial.TrialState[state],)
        return self.study.get_trials(deepcopy=False, states=states)

    def take(self, worker):
        """The next trial that waits, marked as this worker's, or None where none is left."""
        if not self.trials("WAITING"):
            return None
        trial = self.study.ask()
        if "attempt" not in trial.user_attrs:  # another worker took the last one between the two lines above
            self.tell(trial, "PRUNED")
            return None
        trial.set_user_attr("worker", worker)
        return trial

    def tell(self, trial, state, values=None, error=None):
        """Write down what became of a trial one took. If it was declared lost meanwhile, it stays as it is."""
        optuna = require("optuna", "study")
        if error is not None:
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                trial.set_user_attr("error", error)
        self.study.tell(trial, values, state=optuna.trial.TrialState[state], skip_if_finished=True)

    def recover(self, dead=None):
        """Queue again what failed or lost its worker, and was not tried too often.

        Parameters
        ----------
        dead : dict of str to str, optional
            Workers that are known to have ended, and how; the others count as lost when they show no sign of life.

        Returns
        -------
        int
            Trials that a dead worker left.
        """
        left, failed = 0, require("optuna", "study").trial.TrialState.FAIL
        with self._lock():
            endings = dict(self.study.user_attrs.get("endings", {}))
            for trial in self.trials("RUNNING"):
                ending = (dead or {}).get(trial.user_attrs.get("worker"))
                if ending is None and self._age(trial) <= LOST:
                    continue
                left += ending is not None
                endings[str(trial.number)] = ending or "lost its worker"
                self.study.set_user_attr("endings", endings)
                self.study.tell(trial.number, state=failed, skip_if_finished=True)
                self._beat(trial).unlink(missing_ok=True)
            seen = set(self.study.user_attrs.get("queued_again", []))
            for trial in self.trials("FAIL"):
                stopped = trial.user_attrs.get("error") == "stopped"
                attempt = trial.user_attrs.get("attempt", 1) + (not stopped)
                if trial.number in seen or attempt > ATTEMPTS:
                    continue
                seen.add(trial.number)
                _queue(self.plan, self.study, _settings(trial), attempt, _first(trial))
            self.study.set_user_attr("queued_again", sorted(seen))
        return left

    def failures(self):
        """{trial number: error} of the settings that were not trained, each by its last attempt."""
        done = {_first(trial) for trial in self.trials("COMPLETE")}
        last = {_first(trial): trial for trial in self.trials("FAIL")}
        endings = self.study.user_attrs.get("endings", {})
        return {
            trial.number: trial.user_attrs.get("error") or endings.get(str(trial.number), "lost its worker")
            for first, trial in last.items()
            if first not in done
        }

    def _age(self, trial):
        """Seconds since the last sign of life, by the clock of the folder's own file system."""
        now = self.beats / ".now"
        now.touch()
        with suppress(FileNotFoundError):
            return now.stat().st_mtime - self._beat(trial).stat().st_mtime
        return time.time() - trial.datetime_start.timestamp()  # just taken, or its worker ended at once

    def _beat(self, trial):
        return self.beats / f".alive-{trial.number:05d}"

    @contextmanager
    def alive(self, trial):
        """While inside, this worker shows signs of life: a file is touched every few seconds."""
        beat, end = self._beat(trial), threading.Event()

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
    def _lock(self):
        """One process at a time makes, opens or mends the journal."""
        journal = require("optuna", "study").storages.journal
        # Whoever holds this lock may have to wait for the journal's, left behind by a killed worker, for LOST seconds.
        lock = journal.JournalFileSymlinkLock(str(self.folder / "open"), grace_period=int(2 * LOST))
        (self.folder / "open").touch()
        lock.acquire()
        try:
            yield
        finally:
            lock.release()


def _mended(path, optuna):
    """Cut off a last line that a killed writer left unfinished, one note of one trial; refuse what is no journal."""
    if not path.is_file():
        return
    lock = optuna.storages.journal.JournalFileSymlinkLock(str(path), grace_period=int(LOST))
    lock.acquire()
    try:
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:end].splitlines(), 1):
            if not _is_note(line):
                raise BsavizError(
                    f"{path} is no journal of a sweep, or is damaged (line {number}: {line[:40]!r}); use another folder"
                )
        if end < len(content):
            with path.open("r+b") as file:
                file.truncate(end)
    finally:
        lock.release()


def _is_note(line):
    try:
        return "op_code" in json.loads(line)
    except (ValueError, TypeError):
        return False


def _new_study(plan, storage, optuna):
    how = dict(sampler=_sampler(plan, optuna.samplers), directions=["minimize"] * len(plan.objectives))
    study = optuna.create_study(study_name="sweep", storage=storage, **how)
    study.set_user_attr("bsaviz_sweep_version", FORMAT_VERSION)
    study.set_user_attr("bsaviz_version", __version__)
    study.set_user_attr("plan", plan.to_json())
    for queued in _planned(plan):
        _queue(plan, study, queued, attempt=1)
    study.set_user_attr("queued", True)
    return study


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


def _queue(plan, study, fixed, attempt, first=None):
    trial = require("optuna", "study").trial
    again = {} if first is None else {"first": first}
    cell = study.sampler.cell(fixed) if plan.sampler == "grid" else {}
    study.add_trial(trial.create_trial(
        state=trial.TrialState.WAITING, system_attrs={"fixed_params": fixed, **cell},
        user_attrs={"fixed": fixed, "attempt": attempt, **again}))  # fmt: skip


def _settings(trial):
    """What is known of a trial's settings: its worker may have died before it had chosen them all."""
    return trial.user_attrs["fixed"] | trial.params


def _first(trial):
    """Number of the first attempt at a trial's settings."""
    return trial.user_attrs.get("first", trial.number)


def _sampler(plan, samplers):
    if plan.sampler == "grid":
        return grid_sampler(plan)
    made = {"random": samplers.RandomSampler, "tpe": samplers.TPESampler, "nsga2": samplers.NSGAIISampler}
    return made[plan.sampler](seed=None)
