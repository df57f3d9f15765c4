"""The papers' tables and open questions as trainings that anyone can repeat, and what came out of them.

``python -m bsaviz.study.studies table3 --workers 4`` trains what a study asks for and writes ``table3.nc``;
:func:`open_study` opens what is stored. Studies: ``table3`` (accuracy and cost of the family), ``corrections`` (what
differs from the published code, each alone), ``longer`` (some of both with four times the steps), ``table5`` (block and
group size), ``branches`` (off, alone and in pairs), ``sensitivity`` (ball, group, block, top-k, depth, width),
``physics`` (gates and fields against screening length and wavelength) and ``beacons`` (known causes).

What the stored ones say, of short trainings (1200 steps in ``table3`` and ``corrections``, 5000 in ``longer``, 8000 in
``beacons``, 400 elsewhere) and one learning rate for all models, tuned for none; relative L2 errors of 189 generated
test cars of 3586 points, the median and in brackets the lowest and highest of three seeds:

- ``table3``: BSA 0.159 (0.157 to 0.166), full attention 0.170 (0.167 to 0.181), at 7.9 against 22.6 GFLOPs and in the
  same time: at 3586 points, in CUDA graphs, 3.5 ms a training step each. Ball attention alone comes to 0.164 (0.163 to
  0.166) at 4.6 GFLOPs, Erwin to 0.172 (0.160 to 0.172), Erwin-NSA to 0.162 (0.155 to 0.166).
- ``longer``: BSA and full attention end alike, at 0.1065 (0.1054 to 0.1080) and 0.1066 (0.1051 to 0.1068); seed by
  seed, BSA's mean squared error is 0.98 to 1.03 times full attention's, with a median of 1.02 (published, after 100 000
  steps on other cars: 1.077). Ball attention alone falls behind both, 0.110 (0.109 to 0.112).
- ``corrections``: no gain of any that is larger than the spread, neither after 1200 steps (medians 0.157 to 0.163,
  spreads of 0.006 to 0.010; the published behaviour 0.158) nor after 5000 (0.1065 against 0.1069; lower in two of three
  seeds). A selection that may also read its own ball has the lowest errors (0.157; 0.155 to 0.164).
- ``table5``: no collapse at blocks and groups of 32 (0.340 against 0.350 at 8), nor with the published behaviour
  (0.339; 0.302 to 0.351). Four blocks of 32 are 3.4 % of the surface where those of 8 are 0.8 %.
- ``branches``: without the ball 0.392 against 0.350, without compression 0.351, without selection 0.349. Ball alone is
  as good as all three after 400 steps (0.348); compression alone 0.382, selection alone 0.433. Blocks chosen at random
  do no worse than those chosen by score (0.350), the nearest ones hardly (0.360).
- ``sensitivity``: width stands out (128 channels: 0.248; 32: 0.433), then depth (12 layers: 0.329; 2: 0.412). All
  balls of 64 to 512, groups and blocks of 4 to 32 and top-k of 2 to 32 have medians of 0.345 to 0.366, less apart than
  seeds are (a ball of 512: 0.267 to 0.355). Erwin-NSA goes from 0.396 (top-k 4) to 0.388 (16 and 32).
- ``physics``: the error grows from 0.08 (screening length 0.02) to 0.35 (none); without the ball it is 0.50 there, and
  without compression or selection it hardly changes. The ball's gate grows with the screening length (0.36 at 0.02,
  0.50 at 0.5), those of the others fall. For waves of 0.3 car lengths it is 0.72, the selection's 0.15; over the
  longer ones it is in no order, and waves of 0.15 are not learnt in so many steps.
- ``beacons``: full attention solves it (0.003 to 0.004); some head of its best layer gives every cause ten times an
  even share. BSA comes near (0.12; 0.08 to 0.20), and no less without selection (0.11; 0.05 to 0.16), where compression
  reads a beacon only within the mean of its block; without compression it is 0.26 (0.19 to 0.29). BSA's selection may
  read the cause of 56 to 81 % of the queries by some head of its best layer; two heads that choose at random come to a
  quarter in any one layer. Ball attention, which has one cause in eight within reach, learns nothing (0.99 to 1.02).
"""

from bsaviz.study.studies.plans import STUDIES, sweep_plan
from bsaviz.study.studies.stored import as_grid, open_model, open_study, studies

__all__ = ["STUDIES", "as_grid", "open_model", "open_study", "studies", "sweep_plan"]
