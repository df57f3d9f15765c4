"""The papers' tables and open questions as trainings that anyone can repeat, and what came out of them.

``python -m bsaviz.study.studies table3 --workers 4`` trains what a study asks for and writes ``table3.nc``;
:func:`open_study` opens what is stored. Studies: ``table3`` (accuracy and cost of the family), ``corrections`` (what
differs from the published code, each alone), ``table5`` (block and group size), ``branches`` (off, alone and in pairs),
``sensitivity`` (ball, group, block, top-k, depth, width), ``physics`` (gates and fields against screening length and
wavelength) and ``beacons`` (known causes).

What the stored ones say, of short trainings (1200 steps in ``table3`` and ``corrections``, 400 elsewhere) with one or
two seeds, where three were planned, and one learning rate for all models, tuned for none; relative L2 errors of 189
generated test cars of 3586 points:

- ``table3``: BSA 0.157 and 0.159, full attention 0.170 and 0.181, at 7.9 against 22.6 GFLOPs. After so few steps BSA
  is ahead; the published 7.7 % behind, after 100 000 steps, is neither confirmed nor refuted. Ball attention alone
  comes to 0.163 and 0.166 at 4.6 GFLOPs. Full attention's first seed, trained again, came to 0.166: its kernels are
  not deterministic; BSA's error repeated to four digits.
- ``corrections``: two seeds show no gain of any (0.155 to 0.163 in all; the published behaviour 0.157 and 0.158). A
  selection that may also read its own ball has the lowest error (0.155 and 0.157).
- ``table5``: no collapse at blocks and groups of 32 (0.344 and 0.340 against 0.350 at 8), nor with the published
  behaviour (0.302 and 0.339). Four blocks of 32 are 3.4 % of the surface where those of 8 are 0.8 %.
- ``branches`` (one seed): without the ball 0.409 against 0.350, without compression 0.361, without selection 0.349.
  Ball alone is as good as all three after 400 steps (0.348); compression alone 0.366, selection alone 0.435.
- ``sensitivity`` (mostly one seed): width (128 channels: 0.253; 32: 0.433) and a ball of 512 (0.267) stand out; balls
  of 64, 128 and 256 are in no order (0.358, 0.334, 0.350), nor is top-k from 2 to 32 in BSA (0.317 to 0.351).
  Erwin-NSA goes from 0.401 to 0.384.
- ``physics``: the error grows from 0.08 (screening length 0.02) to 0.36 (none); without the ball it is 0.49 there, and
  without compression or selection (one seed) it hardly changes. The ball's gate is 0.70 for waves of 0.3 car lengths,
  the selection's 0.16, and is in no order over the longer ones; waves of 0.15 are not learnt in so many steps.
- ``beacons`` (three seeds, but 2000 of 8000 steps, on a CPU): full attention solves it (0.010 to 0.022); some head of
  its best layer gives nearly every cause ten times an even share. BSA is on its way (0.53 to 0.80), as without
  compression (0.72 to 0.75) and without selection (0.54 to 0.84). Its selection may read the cause of 38 to 56 % of the
  queries by some head of its best layer; two heads that choose at random come to a quarter in any one layer. Ball
  attention, which has one cause in eight within reach, learns nothing (0.98 to 1.00).
"""

from bsaviz.study.studies.plans import STUDIES, sweep_plan
from bsaviz.study.studies.stored import as_grid, open_model, open_study, studies

__all__ = ["STUDIES", "as_grid", "open_model", "open_study", "studies", "sweep_plan"]
