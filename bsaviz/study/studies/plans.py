"""What the studies train: names and settings as data, and the one sweep that several of them share."""

import json
from dataclasses import asdict
from typing import NamedTuple

from bsaviz._checks import BsavizError
from bsaviz.models import configure
from bsaviz.study.plan import SweepPlan

CARS = "generated:700+189"
SEEDS = (0, 1, 2)
LOOKS = 2  # test cars whose gates and fields are measured
BASE = dict(model="bsa", preset="published", depth=6)  # the published widths, a third of the published layers
TRAINING = dict(batch_size=2, learning_rate=2e-3, weight_decay=0.01, clip=1.0)
WARMUP = 0.05  # of the steps

_FULL = dict(model="full")
_ERWIN = dict(model="erwin", preset="published", depth=None, enc_depths=[2, 2], dec_depths=[2])
_ERWIN_NSA = dict(model="erwin-nsa", preset="published", group_size=8)
_SMALL_ERWIN_NSA = dict(model="erwin-nsa", preset="small", depth=None, group_size=8)
_SIZES = (4, 8, 16, 32)
_BRANCHES = ("ball", "compression", "selection")
_TABLE3 = {
    "full attention": {"mse_x100": 13.29, "gflops": 87.08},
    "BSA": {"mse_x100": 14.31, "gflops": 27.91},
    "source": "arXiv 2506.12541, Table 3: ShapeNet-Car, 18 layers, 100 000 steps",
}
SCREENING = (0.02, 0.05, 0.1, 0.5)
LONGER, LONG, SHORT = 5000, 1200, 400  # steps
WAVELENGTHS = (0.15, 0.3, 0.6, 1.2)


class Study(NamedTuple):
    """Trainings that answer one question.

    Attributes
    ----------
    title, question : str
    steps : int
        Of each training.
    variants : dict of str to dict
        Settings by name: those of :data:`BASE` hold where a variant says nothing (None: the preset's own).
    paper : dict
        What the papers report, on other data: errors are not comparable.
    notes : tuple of str
    """

    title: str
    question: str
    steps: int
    variants: dict
    paper: dict = {}
    notes: tuple = ()


def _without(*branches):
    return {"branches": [name for name in _BRANCHES if name not in branches]}


def _physics():
    sets = [*(f"screened:{length:g}" for length in SCREENING), "laplace"]
    sets += [f"helmholtz:{length:g}" for length in WAVELENGTHS]
    found = {f"BSA on {name}": dict(cars=name) for name in sets}
    for name in ("screened:0.02", "laplace", "helmholtz:0.3"):
        for branch in _BRANCHES:
            found[f"without {branch} on {name}"] = dict(cars=name, **_without(branch))
    found["BSA on heat:0.05"] = dict(cars="heat:0.05")
    return found


_FULL_ON_BEACONS = dict(model="full", cars="beacons", preset="tiny", depth=None, batch_size=16)
_BEACONS = dict(_FULL_ON_BEACONS, model="bsa", ball_size=32, top_k=2)

STUDIES = {
    "table3": Study(
        "Accuracy and cost of the family (Table 3)",
        "Is Ball Sparse Attention as accurate as full attention, at a fraction of its operations?",
        LONG,
        {
            "full attention": _FULL,
            "BSA": {},
            "BSA, every query selects": dict(model="bsa-no-group-selection"),
            "BSA, group compression": dict(model="bsa-group-compression"),
            "ball attention": dict(model="ball"),
            "Erwin": _ERWIN,
            "Erwin-NSA": _ERWIN_NSA,
        },
        paper=_TABLE3,
        notes=(
            "Transformers: published widths (64 channels, 8 heads, balls of 256, blocks and groups of 8, top-k 4) with "
            "6 of the 18 layers; Erwin: 2 + 2 + 2 of its 6 + 6 + 6 layers of 64 channels; Erwin-NSA: as published for "
            "cars, its queries choosing in groups of 8",
        ),
    ),
    "corrections": Study(
        "What we do differently from the published code, each alone",
        "Do tighter rotated trees, trained slopes and masked padding make BSA more accurate?",
        LONG,
        {
            "BSA": {},
            "published trees": dict(published=["trees"]),
            "published slopes": dict(published=["slopes"]),
            "published padding": dict(published=["padding"]),
            "all as published": dict(published=True),
            "own ball selectable": dict(mask_own_ball=False),
        },
        notes=(
            "the published leak of own-ball blocks cannot occur here: 3840 slots in blocks of 8 leave 448 blocks "
            "outside a ball of 256, and 4 are wanted; 'own ball selectable' lets the selection read the own ball too",
        ),
    ),
    "longer": Study(
        "Longer trainings: does the order of Table 3 hold?",
        "Is Ball Sparse Attention still as accurate as full attention when both have trained longer?",
        LONGER,
        {
            "full attention": _FULL,
            "BSA": {},
            "ball attention": dict(model="ball"),
            "all as published": dict(published=True),
        },
        paper=_TABLE3,
        notes=("the models of table3 and corrections, with four times their steps: each car 14 times",),
    ),
    "table5": Study(
        "Block and group size (Table 5)",
        "Does BSA collapse at blocks and groups of 32, as published, and why?",
        SHORT,
        {f"block {l}, group {g}": dict(block_size=l, group_size=g) for l in _SIZES for g in _SIZES}
        | {f"as published, {l}": dict(block_size=l, group_size=l, published=True) for l in (8, 32)},
        paper={"block 32, group 32": {"mse_x100": 132.14}, "source": "arXiv 2506.12541, Table 5"},
    ),
    "branches": Study(
        "Branches off, alone and in pairs (Fig. 2)",
        "What does each branch contribute?",
        SHORT,
        {
            "all three": {},
            **{f"without {name}": _without(name) for name in _BRANCHES},
            **{f"{name} alone": {"branches": [name]} for name in _BRANCHES},
            "random blocks": dict(model="bsa-random"),
            "nearest blocks": dict(model="bsa-nearest"),
        },
    ),
    "sensitivity": Study(
        "Sensitivity: ball, group, block, top-k, depth, width",
        "Which setting buys accuracy at which cost?",
        SHORT,
        {
            "BSA": {},
            **{f"ball {m}": dict(ball_size=m) for m in (64, 128, 512)},
            **{f"group {g}": dict(group_size=g) for g in _SIZES if g != 8},
            **{f"block {l}": dict(block_size=l) for l in _SIZES if l != 8},
            **{f"top-k {k}": dict(top_k=k) for k in (2, 8, 16, 32)},
            **{f"depth {n}": dict(depth=n) for n in (2, 12)},
            "width 32": dict(dim=32, num_heads=4),
            "width 128": dict(dim=128, num_heads=16),
            **{f"Erwin-NSA, top-k {k}": dict(_SMALL_ERWIN_NSA, top_k=k) for k in _SIZES},
            "full attention": _FULL,
            "full attention, depth 2": dict(_FULL, depth=2),
            "ball attention": dict(model="ball"),
        },
    ),
    "physics": Study(
        "Gates and fields against screening length and wavelength",
        "Which branch carries which physics?",
        SHORT,
        _physics(),
        notes=("each set: 200 training and 40 test cars, each with its own charge of 12 blobs 0.06 car lengths wide",),
    ),
    "beacons": Study(
        "Known causes: does the model read them?",
        "Is the answer's cause, one point in a distant cluster, within the receptive field?",
        8000,
        {
            "full attention": _FULL_ON_BEACONS,
            "BSA": _BEACONS,
            "ball attention": dict(_FULL_ON_BEACONS, model="ball", ball_size=32),
            **{f"without {name}": _BEACONS | _without(name) for name in ("compression", "selection")},
        },
        notes=("2048 clouds of 8 clusters of 16 points, balls of 32, top-k 2; 16 clouds a step, tiny models",),
    ),
}


def settings_of(study, variant, scale=1.0):
    """All settings of one variant, as entries of a sweep's variant, training included."""
    entry = {**BASE, "cars": CARS, **STUDIES[study].variants[variant]}
    if entry["model"].startswith("erwin"):
        entry["depth"] = STUDIES[study].variants[variant].get("depth")
    steps = max(2, round(STUDIES[study].steps * scale))
    kept = {name: value for name, value in entry.items() if value is not None}
    return {**kept, "steps": steps, "warmup": max(1, round(WARMUP * steps))}


_NOT_MODEL = ("cars", "steps", "warmup", "batch_size", "model", "preset")


def config_of(entry):
    """The model's configuration of an entry of :func:`settings_of`."""
    own = {key: value for key, value in entry.items() if key not in _NOT_MODEL}
    return configure(entry["model"], entry["preset"], **own)


def shared_names(scale=1.0):
    """{(study, variant): name} where equal settings share one name, that of the first study that has them."""
    names, found = {}, {}
    for study in STUDIES:
        for variant in STUDIES[study].variants:
            entry = settings_of(study, variant, scale)
            kept = asdict(config_of(entry)), entry["model"].split("-")[0], entry["cars"], entry["steps"]
            key = json.dumps(kept, sort_keys=True)
            found[study, variant] = names.setdefault(key, f"{study}: {variant}")
    return found


def sweep_plan(studies, *, scale=1.0, seeds=SEEDS, quick=False, keep=False):
    """One plan for the trainings of several studies; what they have in common is trained once.

    Parameters
    ----------
    studies : sequence of str
        Keys of :data:`STUDIES`: all settings of the first, then those of the second, ...; then with the next seed.
    scale : float
        Factor of all steps.
    seeds : sequence of int
    quick : bool
        Tiny models, few cars and few steps: it shows that everything runs, and its numbers mean nothing.
    keep : bool
        Keep the weights.

    Raises
    ------
    BsavizError
        For an unknown study, and for settings that cannot be built.
    """
    unknown = [name for name in studies if name not in STUDIES]
    if unknown or not studies:
        raise BsavizError(f"unknown study {unknown[0] if unknown else ''!r}; there are {', '.join(STUDIES)}")
    names, variants = shared_names(scale), {}
    for study in studies:
        for variant in STUDIES[study].variants:
            entry = settings_of(study, variant, scale)
            variants.setdefault(names[study, variant], _quick(entry) if quick else entry)
    training = dict(TRAINING, draw="once", num_points=512 if quick else None)
    return SweepPlan(variants=variants, training=training, seeds=tuple(seeds), looks=1 if quick else LOOKS,
                     timing=False, keep_models=keep, objectives=("relative_l2",))  # fmt: skip


def _quick(entry):
    """The same variant of a tiny model on few cars."""
    own = {"ball_size", "depth", "dim", "num_heads", "enc_depths", "dec_depths", "steps", "warmup", "preset",
           "batch_size"}  # fmt: skip
    tiny = {name: value for name, value in entry.items() if name not in own}
    cars = "generated:6+2" if entry["cars"] == CARS else f"{entry['cars']}@6+2"
    return {**tiny, "preset": "tiny", "cars": cars, "steps": 4, "warmup": 1}
