"""The papers' tables and open questions as trainings that anyone can repeat, and what came out of them.

``python -m bsaviz.study.studies table3 --workers 4`` trains what a study asks for and writes ``table3.nc``;
:func:`open_study` opens what is stored. Studies: ``table3`` (accuracy and cost of the family), ``corrections`` (what
differs from the published code, each alone), ``table5`` (block and group size), ``branches`` (off, alone and in pairs),
``sensitivity`` (ball, group, block, top-k, depth, width), ``physics`` (gates and fields against screening length and
wavelength) and ``beacons`` (known causes).

What the stored ones say, of short trainings (1200 steps in ``table3`` and ``corrections``, 400 elsewhere) and one
learning rate for all models, tuned for none; relative L2 errors of 189 generated test cars of 3586 points, the median
and in brackets the lowest and highest of three seeds (two where it says so):

- ``table3``: BSA 0.159 (0.157 to 0.166), full attention 0.170 (0.167 to 0.181), at 7.9 against 22.6 GFLOPs and in the
  same time: at 3586 points, in CUDA graphs, 3.5 ms a training step each. The published 7.7 % behind, after 100 000
  steps, does not show after so few. Ball attention alone comes to 0.164 (0.163 to 0.166) at 4.6 GFLOPs, Erwin to 0.172
  (0.160 to 0.172), Erwin-NSA to 0.162 (0.155 to 0.166).
- ``corrections``: no gain of any (medians 0.157 to 0.163, spreads of 0.006 to 0.010; the published behaviour 0.158).
  A selection that may also read its own ball has the lowest errors (0.157; 0.155 to 0.164).
- ``table5``: no collapse at blocks and groups of 32 (0.340 against 0.350 at 8), nor with the published behaviour
  (0.339; 0.302 to 0.351). Four blocks of 32 are 3.4 % of the surface where those of 8 are 0.8 %.
- ``branches`` (two seeds): without the ball 0.397 against 0.350, without compression 0.356, without selection 0.352.
  Ball alone is as good as all three after 400 steps (0.353); compression alone 0.374, selection alone 0.434. Blocks
  chosen at random do no worse than those chosen by score (0.353), the nearest ones a little (0.365).
- ``sensitivity`` (mostly two seeds): width stands out (128 channels: 0.251; 32: 0.435), then depth (12 layers: 0.286
  and 0.344; 2: 0.417). A ball of 512 came to 0.267 and 0.355: seeds differ by more than most settings do. Balls of 64
  to 256 and top-k of 2 to 32 are in no order (0.329 to 0.368). Erwin-NSA goes from 0.399 to 0.387 with top-k.
- ``physics``: the error grows from 0.08 (screening length 0.02) to 0.35 (none); without the ball it is 0.50 there, and
  without compression or selection (two seeds) it hardly changes. The ball's gate is 0.72 for waves of 0.3 car lengths,
  the selection's 0.15, and is in no order over the longer ones; waves of 0.15 are not learnt in so many steps.
- ``beacons`` (three seeds, but 2000 of 8000 steps, on a CPU): full attention solves it (0.010 to 0.022); some head of
  its best layer gives nearly every cause ten times an even share. BSA is on its way (0.53 to 0.80), as without
  compression (0.72 to 0.75) and without selection (0.54 to 0.84). Its selection may read the cause of 38 to 56 % of the
  queries by some head of its best layer; two heads that choose at random come to a quarter in any one layer. Ball
  attention, which has one cause in eight within reach, learns nothing (0.98 to 1.00).
"""

from bsaviz.study.studies.plans import STUDIES, sweep_plan
from bsaviz.study.studies.stored import as_grid, open_model, open_study, studies

__all__ = ["STUDIES", "as_grid", "open_model", "open_study", "studies", "sweep_plan"]
