"""Sweeps: many trainings over a plan, shared by any number of processes and machines, resumable after a kill."""

import time
import warnings
from pathlib import Path

from tqdm.auto import tqdm

from bsaviz._checks import BsavizError, require
from bsaviz.study.plan import SweepPlan
from bsaviz.study.sweep_journal import Journal
from bsaviz.study.sweep_results import open_sweep
from bsaviz.study.sweep_workers import DeviceLost, devices_of, share, work
from bsaviz.training.interrupt import Interrupt


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
        For a plan that cannot be run, a folder that holds another plan or another version's sweep, a journal that
        cannot be read, and a folder without any when no plan is given.

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
        try:
            self.trials.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BsavizError(f"cannot make {self.trials}: {error.strerror}; choose another folder") from error
        self._journal = Journal(plan, self.folder)
        self.plan, self.study = self._journal.plan, self._journal.study

    def run(self, workers=1, *, device=None, progress=True, should_stop=None, seconds=None):
        """Train what is left; returns the whole study as :meth:`open` does.

        A trial that fails is recorded with its error, and the others go on; so they do when a worker dies: another one
        takes its place, and its trial is queued again. What failed is tried again by the next run, at most three times
        in all. A stop (`should_stop`, Ctrl-C) leaves nothing half-written behind; the next run goes on.

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
        devices = devices_of(device, workers)
        self._journal.recover()
        with Interrupt() as interrupt, tqdm(total=len(self.waiting()), desc="trials", disable=not progress) as bar:
            stops = lambda: interrupt.came or (should_stop is not None and should_stop())
            if workers > 1:
                share(self._journal, devices, stops, until, bar)
            else:
                try:
                    work(self._journal, devices[0], stops, until, bar.update)
                except DeviceLost as error:
                    warnings.warn(str(error), stacklevel=2)
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
        return [trial.number for trial in self._journal.trials("WAITING")]

    def failures(self):
        """{trial number: error} of the settings that were not trained, each by its last attempt."""
        return self._journal.failures()
