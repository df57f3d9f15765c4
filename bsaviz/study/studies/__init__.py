"""The papers' tables and open questions as trainings that anyone can repeat, and what came out of them.

``python -m bsaviz.study.studies table3 --workers 4`` trains what a study asks for and writes ``table3.nc``;
:func:`open_study` opens what is stored. Studies: ``table3`` (accuracy and cost of the family), ``corrections`` (what
differs from the published code, each alone), ``table5`` (block and group size), ``branches`` (off, alone and in pairs),
``sensitivity`` (ball, group, block, top-k, depth, width), ``physics`` (gates and fields against screening length and
wavelength) and ``beacons`` (known causes).
"""

from bsaviz.study.studies.plans import STUDIES, sweep_plan
from bsaviz.study.studies.stored import as_grid, open_model, open_study, studies

__all__ = ["STUDIES", "as_grid", "open_model", "open_study", "studies", "sweep_plan"]
