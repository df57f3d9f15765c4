"""What a sweep varies, over what, and with which training: read from a file or given, checked before anything runs."""

import itertools
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from bsaviz._checks import BsavizError, require
from bsaviz.datasets.generated import NUM_POINTS
from bsaviz.datasets.named import fields_of
from bsaviz.models import configure
from bsaviz.training import TrainConfig

SAMPLERS = ("grid", "random", "tpe", "nsga2")
OBJECTIVES = ("relative_l2", "mse", "mae_area", "gflops", "forward_ms", "training_ms", "parameters")
_TRAINING = {f.name for f in fields(TrainConfig)} - {"seed", "device"}
_SHOWN = 5  # impossible settings named in an error


@dataclass(frozen=True)
class SweepPlan:
    """A study: parameters and the values they take, and what stays fixed.

    Attributes
    ----------
    parameters : dict of str to list, or to dict(low=, high=, log=False, step=None)
        Names are ``"model"``, ``"preset"``, ``"cars"``, settings of the model (``ball_size``, ``block_size``,
        ``depth``, ...) or of the training (``learning_rate``, ...). Ranges need another sampler than the grid.
    variants : dict of str to dict
        Named settings, each with values of names as above: one more parameter, ``"variant"``, whose values are the
        names. It is for what makes no grid, as models of different families.
    model, preset : str
        Of :func:`bsaviz.models.build`, for every trial unless a parameter says otherwise.
    settings, training : dict
        Fixed settings of the model, and of :class:`bsaviz.training.TrainConfig`.
    cars : str
        Set of cars, see :func:`bsaviz.datasets.training_cars`. What is learnt from what follows from it, unless
        `training` says otherwise.
    seeds : tuple of int
        Each setting is trained once for each.
    sampler : {"grid", "random", "tpe", "nsga2"}
        The grid tries every combination; the others look for good ones, over all objectives at once.
    trials : int, optional
        How many settings a sampler other than the grid tries.
    objectives : tuple of str
        What is made small: ``"relative_l2"``, ``"mse"``, ``"mae_area"``, ``"gflops"``, ``"forward_ms"``,
        ``"training_ms"``, ``"parameters"``.
    skip_impossible : bool
        Leave settings that cannot be built out of the grid, instead of refusing the plan.
    keep_models : bool
        Keep the weights of every trial, so that its fields and gates can be looked at.
    looks : int
        Test cars on which the gates and the receptive fields of every trial are measured, see
        :func:`bsaviz.study.looks.look`.
    timing : bool
        Count operations and time a forward and a training step of every trial. False leaves it out, as where several
        trials share a device: then no cost can be an objective.

    Raises
    ------
    BsavizError
        For an unknown name or value, and for settings that cannot be built: before anything is trained.
    """

    parameters: dict = field(default_factory=dict)
    variants: dict = field(default_factory=dict)
    model: str = "bsa"
    preset: str = "small"
    settings: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)
    cars: str = "generated"
    seeds: tuple = (0,)
    sampler: str = "grid"
    trials: int | None = None
    objectives: tuple = ("relative_l2", "gflops")
    skip_impossible: bool = False
    keep_models: bool = True
    looks: int = 0
    timing: bool = True

    def __post_init__(self):
        for name in ("seeds", "objectives"):
            value = getattr(self, name)
            if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") or not list(value):
                raise BsavizError(f"{name} must be a list of at least one entry, got {value!r}")
            object.__setattr__(self, name, tuple(value))
        self._check_variants()
        if not isinstance(self.parameters, dict) or not (self.parameters or self.variants):
            raise BsavizError("parameters must name one parameter or more with values, as in {ball_size: [64, 128]}")
        if self.variants:
            object.__setattr__(self, "parameters", {"variant": list(self.variants), **self.parameters})
        costs = [name for name in self.objectives if name in ("gflops", "forward_ms", "training_ms")]
        if costs and not self.timing:
            raise BsavizError(f"timing=False measures no {costs[0]}, which is an objective; leave it out of objectives")
        if isinstance(self.looks, bool) or not isinstance(self.looks, int) or self.looks < 0:
            raise BsavizError(f"looks must be a whole number of test cars of at least 0, got {self.looks!r}")
        _among("sampler", [self.sampler], SAMPLERS)
        _among("objective", self.objectives, OBJECTIVES)
        _among("training setting", self.training, sorted(_TRAINING))
        for name, values in self.parameters.items():
            self._check_values(name, values)
        if any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in self.seeds):
            raise BsavizError(f"seeds must be whole numbers of at least 0, got {list(self.seeds)}")
        if (self.sampler == "grid") != (self.trials is None):
            raise BsavizError("trials (how many settings to try) is for random, tpe and nsga2; a grid tries them all")
        if self.trials is not None and (not isinstance(self.trials, int) or self.trials < 1):
            raise BsavizError(f"trials must be a whole number of at least 1, got {self.trials!r}")
        self.combinations()

    @classmethod
    def from_file(cls, path):
        """Read a plan from a ``.yaml`` or ``.json`` file whose entries are the attributes above."""
        path = Path(path)
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise BsavizError(f"cannot read the plan {path}: {error.strerror}") from error
        yaml = require("yaml", "study")
        try:
            entries = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise BsavizError(f"{path} is no YAML: {error}") from error
        return cls.from_dict(entries, str(path))

    @classmethod
    def from_dict(cls, entries, source="the plan"):
        """A plan from its entries."""
        if not isinstance(entries, dict) or not {"parameters", "variants"} & set(entries):
            raise BsavizError(f"{source} must have an entry 'parameters' with the values of each, as in "
                              "parameters: {ball_size: [64, 128]}")  # fmt: skip
        _among(f"entry of {source}", entries, [f.name for f in fields(cls)])
        return cls(**entries)

    def to_json(self):
        """The plan as one line of text: equal plans give equal text."""
        entries = asdict(self)
        entries["parameters"] = {name: given for name, given in self.parameters.items() if name != "variant"}
        return json.dumps(entries, sort_keys=True)

    def combinations(self):
        """The settings of the grid (without the seeds), or None for the other samplers.

        Raises
        ------
        BsavizError
            Where some of them cannot be built, unless `skip_impossible`; names them and why.
        """
        if any(isinstance(values, dict) for values in self.parameters.values()):
            return None
        grid = [dict(zip(self.parameters, values)) for values in itertools.product(*self.parameters.values())]
        possible, problems = [], []
        for chosen in grid:
            try:
                cars, name, preset, settings, training = self.arguments(chosen)
                _check_blocks(configure(name, preset, **settings), cars, training.num_points)
                possible.append(chosen)
            except BsavizError as error:
                problems.append(f"{_words(chosen)}: {error}")
        refuses = self.sampler == "grid" and not self.skip_impossible
        if not possible or (problems and refuses):
            more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
            shown = "\n  ".join(problems[:_SHOWN] + more)
            raise BsavizError(
                f"{len(problems)} of {len(grid)} settings cannot be built; nothing was trained. Change them, or set "
                f"skip_impossible to leave them out:\n  {shown}"
            )
        return possible if self.sampler == "grid" else None

    def arguments(self, chosen, seed=0, device=None):
        """What one trial is made of: (cars, name, preset, settings, TrainConfig).

        Raises
        ------
        BsavizError
            When the model or the training does not take these settings.
        """
        chosen = {**self.variants.get(chosen.get("variant"), {}), **chosen}
        chosen.pop("variant", None)
        name, preset, cars = (chosen.pop(key, getattr(self, key)) for key in ("model", "preset", "cars"))
        target, features = fields_of(cars)
        training = {"target": target, "features": features, **self.training}
        training |= {key: chosen.pop(key) for key in list(chosen) if key in _TRAINING}
        settings = {**self.settings, **chosen}
        configure(name, preset, **settings)
        return cars, name, preset, settings, TrainConfig(**training, seed=seed, device=device)

    def _check_variants(self):
        if not isinstance(self.variants, dict) or any(not isinstance(entry, dict) for entry in self.variants.values()):
            raise BsavizError(
                "variants must give each name its settings, as in {ball only: {model: ball}, wide: {dim: 128}}, got "
                f"{self.variants!r}"
            )
        if self.variants and self.sampler != "grid":
            raise BsavizError("variants are tried one by one: leave the sampler 'grid'")

    def _check_values(self, name, values):
        if name == "seed":
            raise BsavizError("seed is no parameter: list the seeds under 'seeds'")
        if isinstance(values, dict):
            _among(f"entry of the range of {name}", values, ["low", "high", "log", "step"])
            if self.sampler == "grid":
                raise BsavizError(f"{name}: a grid needs a list of values, got a range; list them or choose a sampler")
            if not {"low", "high"} <= set(values):
                raise BsavizError(f"{name}: a range needs low and high, got {values}")
        elif not isinstance(values, (list, tuple)) or not values:
            raise BsavizError(f"{name}: expected a list of values, got {values!r}")


def _check_blocks(config, cars, num_points):
    """Refuse more selected blocks than a cloud has, where its points are known without opening it."""
    points = num_points or (NUM_POINTS if str(cars).startswith("generated") else None)
    selects = hasattr(config, "top_k") and getattr(config, "attention", "bsa") in ("bsa", "nsa")
    if points is None or not selects:
        return
    blocks = -(-points // config.ball_size) * config.ball_size // config.block_size
    if config.top_k > blocks:
        raise BsavizError(
            f"top_k={config.top_k} blocks of {config.block_size} points, but a cloud of {points} points has {blocks}"
        )


def _among(what, given, known):
    unknown = [name for name in given if name not in known]
    if unknown:
        raise BsavizError(f"unknown {what} {unknown[0]!r}; there are {', '.join(map(str, known))}")


def _words(chosen):
    return ", ".join(f"{name}={value}" for name, value in chosen.items())
