"""A planned table: Optuna's GridSampler over a grid whose cells all wait in the journal.

Left alone, the sampler picks a cell when a trial begins, and two workers may pick the same one. So every cell is queued
before the first trial, with its number on the grid, by which the sampler counts what was tried.
"""

from bsaviz._checks import require


def grid_sampler(plan):
    """The sampler of a plan's grid; it knows the number of a cell.

    Parameters
    ----------
    plan : SweepPlan
        With sampler ``"grid"``.
    """
    samplers = require("optuna", "study").samplers

    class Planned(samplers.GridSampler):
        def cell(self, fixed):
            """What Optuna wants to know of a queued trial that fixes these values, seed included."""
            number = self._all_grids.index(tuple(fixed[name] for name in self._param_names))
            return {"grid_id": number, "search_space": self._search_space}

        def after_trial(self, study, trial, state, values):
            """Nothing: at the end of the grid the sampler would stop Optuna's own loop, and there is none."""

    return Planned({name: list(values) for name, values in plan.parameters.items()} | {"seed": list(plan.seeds)})
