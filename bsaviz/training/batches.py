"""Cars as tensors, and how a step's cars are put together: points concatenated, trees stacked."""

import inspect
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree

_TOGETHER = 32  # trees built at once


@dataclass(frozen=True)
class Sample:
    """One car on the device, in input order.

    Attributes
    ----------
    name : str
    positions : Tensor (P, 3)
    target : Tensor (P, K)
        In the field's own units.
    features : Tensor (P, F) or None
    areas : Tensor (P,)
        Surface each point stands for.
    tree : BallTree or None
        Built once; None for a random subset, whose tree is built with its batch.
    edges : Tensor (2, E) int64 or None
        Bonds, for models that take them.
    """

    name: str
    positions: torch.Tensor
    target: torch.Tensor
    features: torch.Tensor | None
    areas: torch.Tensor
    tree: BallTree | None = None
    edges: torch.Tensor | None = None

    def subset(self, num_points, generator):
        """A random subset of the points (numpy `generator`), without a tree; the sample itself where it has no more."""
        if num_points >= len(self.positions):
            return self
        keep = torch.from_numpy(generator.choice(len(self.positions), num_points, replace=False))
        keep = keep.to(self.positions.device)
        features = None if self.features is None else self.features[keep]
        edges = self.edges
        if edges is not None:
            place = edges.new_full((len(self.positions),), -1).index_copy(0, keep, torch.arange(len(keep)).to(keep))
            edges = place[edges]
            edges = edges[:, (edges >= 0).all(dim=0)]
        return Sample(self.name, self.positions[keep], self.target[keep], features, self.areas[keep], edges=edges)


@dataclass(frozen=True)
class Batch:
    """Points of several cars, concatenated, and the tree over them: the arguments of a forward, and its target.

    Attributes
    ----------
    sizes : list of int
        Points of each car.
    """

    positions: torch.Tensor
    target: torch.Tensor
    features: torch.Tensor | None
    batch: torch.Tensor
    tree: BallTree
    sizes: list
    edges: torch.Tensor | None = None


def samples_of(cars, model, config, device, num_points=None):
    """Turn cars into samples with the target and features of `config`.

    Parameters
    ----------
    cars : sequence of Car or of bsaviz.datasets.Sample
    model : PointModel
        Its input and output widths are checked against the cars'.
    config : TrainConfig
    device : torch.device
    num_points : int, optional
        First take an evenly spread subset of so many points of each car.

    Raises
    ------
    BsavizError
        When a car lacks the target or a feature, holds NaN there, or has another number of columns than the model.
    """
    config = resolved(config, cars)
    cars = [car if num_points is None else car.subsample(num_points, seed=config.seed) for car in cars]
    samples = []
    for car in cars:
        target = _columns(car, config.target)
        features = [_columns(car, name) for name in config.features]
        what, outputs = f"target {config.target!r}", target.shape[1]
        if config.loss == "nll":
            what, outputs = f"{what} with a standard deviation for each of its columns", 2 * outputs
        _check_width(car, what, outputs, "out_features", model.config.out_features)
        width = sum(part.shape[1] for part in features)
        _check_width(car, f"features {config.features}", width, "in_features", model.config.in_features)
        tensor = lambda array: torch.as_tensor(np.ascontiguousarray(array, np.float32)).to(device)
        features = tensor(np.concatenate(features, axis=1)) if features else None
        edges = getattr(car, "edges", None)
        edges = None if edges is None else torch.as_tensor(edges).to(device)
        positions, areas = tensor(car.positions), tensor(car.point_areas)
        samples.append(Sample(car.name, positions, tensor(target), features, areas, edges=edges))
    return samples


def resolved(config, cars):
    """The settings with the target, features and loss of the cars where `config` names none."""
    first = next(iter(cars), None)
    return replace(
        config,
        target=config.target or getattr(first, "target_name", "pressure"),
        features=config.features or getattr(first, "feature_names", ()),
        loss=config.loss or getattr(first, "loss", "mse"),
    )


def model_sizes(car, config=None):
    """Settings of :func:`bsaviz.models.build` that a model of such cars needs.

    Parameters
    ----------
    car : Car or bsaviz.datasets.Sample
    config : TrainConfig, optional

    Returns
    -------
    dict
        ``spatial_dims``, ``in_features`` and ``out_features``.

    Examples
    --------
    >>> build("bsa", "tiny", **model_sizes(train[0]))  # doctest: +SKIP
    """
    from bsaviz.training.config import TrainConfig

    config = resolved(config or TrainConfig(), [car])
    outputs = _columns(car, config.target).shape[1] * (2 if config.loss == "nll" else 1)
    dims = car.positions.shape[1]
    return {"spatial_dims": dims, "in_features": feature_width(car, config.features), "out_features": outputs}


def extra_inputs(model, sample):
    """What a model takes of a sample (or batch) besides points, features and tree: its edges."""
    if sample.edges is None or "edges" not in inspect.signature(model.leaf_arguments).parameters:
        return {}
    return {"edges": sample.edges}


def with_trees(samples, model):
    """The same samples, each with the tree that `model` would build for it alone.

    Trees over as many points each are built together: a GPU then builds them in the time of a few.
    """
    samples, missing = list(samples), {}
    for place, sample in enumerate(samples):
        if sample.tree is None:
            alone = place if sample.edges is not None else None  # a tree may follow a sample's own edges
            missing.setdefault((len(sample.positions), alone), []).append(place)
    for places in missing.values():
        for i in range(0, len(places), _TOGETHER):
            some = places[i : i + _TOGETHER]
            for place, tree in zip(some, _trees([samples[place] for place in some], model)):
                samples[place] = replace(samples[place], tree=tree)
    return samples


def _trees(samples, model):
    """The trees of samples that all have the same number of points, built at once."""
    if len(samples) == 1:
        return [_tree(model, samples[0].positions, None, samples[0].edges)]
    points = len(samples[0].positions)
    positions = torch.cat([sample.positions for sample in samples])
    batch = torch.arange(len(samples), device=positions.device).repeat_interleave(points)
    whole, row = _tree(model, positions, batch, None), lambda tensor, i: None if tensor is None else tensor[i : i + 1]
    return [
        replace(
            whole,
            order=row(whole.order, i) - i * points,
            mask=row(whole.mask, i),
            positions=row(whole.positions, i),
            rotation=row(whole.rotation, i),
            num_points=points,
            batch=None,
        )
        for i in range(len(samples))
    ]


def _tree(model, positions, batch, edges):
    """A model's tree; one that can put points in order along their bonds is given them."""
    takes_edges = edges is not None and "edges" in inspect.signature(model.tree).parameters
    return model.tree(positions, batch, edges) if takes_edges else model.tree(positions, batch)


def collate(samples, model):
    """Concatenate samples; stack their trees, or build one over all where a sample has none."""
    join = lambda parts: torch.cat(list(parts))
    sizes = [len(sample.positions) for sample in samples]
    batch = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(sizes)).to(samples[0].positions.device)
    positions = join(sample.positions for sample in samples)
    trees = [sample.tree for sample in samples]
    edges = _join_edges(samples, sizes)
    return Batch(
        positions=positions,
        target=join(sample.target for sample in samples),
        features=None if samples[0].features is None else join(sample.features for sample in samples),
        batch=batch,
        tree=_tree(model, positions, batch, edges) if None in trees else stack_trees(trees, batch),
        sizes=sizes,
        edges=edges,
    )


def _join_edges(samples, sizes):
    """Edges of the samples over their concatenated points, or None where a sample has none."""
    if any(sample.edges is None for sample in samples):
        return None
    starts = np.cumsum([0, *sizes[:-1]]).tolist()
    return torch.cat([sample.edges + start for sample, start in zip(samples, starts)], dim=1)


def stack_trees(trees, batch):
    """One tree over a batch from the trees of its samples: the tree that building it over the batch gives.

    Parameters
    ----------
    trees : sequence of BallTree
        Each over one sample.
    batch : Tensor (P,) int64
        Sample of each point of the batch.
    """
    width = max(tree.order.shape[1] for tree in trees)
    trees = [_widened(tree, width) for tree in trees]
    starts = np.cumsum([0, *(tree.num_points for tree in trees[:-1])]).tolist()
    stacked = lambda name: torch.cat([getattr(tree, name) for tree in trees])
    return replace(
        trees[0],
        order=torch.cat([tree.order + start for tree, start in zip(trees, starts)]),
        mask=stacked("mask"),
        positions=stacked("positions"),
        rotation=None if trees[0].rotation is None else stacked("rotation"),
        num_points=sum(tree.num_points for tree in trees),
        batch=batch,
    )


def _widened(tree, width):
    """A tree of one sample with empty balls at its end, up to `width` slots; they repeat its last point."""
    extra = width - tree.order.shape[1]
    if extra == 0:
        return tree
    repeat = lambda rows: torch.cat([rows, rows[:, -1:].expand(-1, extra, *rows.shape[2:])], dim=1)
    rotation = tree.rotation
    if rotation is not None:
        stay = torch.arange(width - extra, width, device=rotation.device)[None]
        rotation = torch.cat([rotation, stay], dim=1)
    mask = torch.cat([tree.mask, tree.mask.new_zeros(1, extra)], dim=1)
    return replace(tree, order=repeat(tree.order), mask=mask, positions=repeat(tree.positions), rotation=rotation)


def cars_of_step(step, num_cars, batch_size, seed):
    """Which cars a step sees, as a list of their numbers: a function of the step alone.

    Every car comes once before any comes again; each pass has its own order. That nothing is carried from step to step
    is what lets a resumed run see exactly the cars that an unbroken one sees.
    """
    batch_size = min(batch_size, num_cars)
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(_order_of_pass(place // num_cars, num_cars, seed)[place % num_cars]) for place in places]


@lru_cache(maxsize=4)
def _order_of_pass(number, num_cars, seed):
    return np.random.default_rng((seed, 0, number)).permutation(num_cars)


def draws_of_step(step, seed):
    """The numpy generator of what a step draws: a function of the step alone, too."""
    return np.random.default_rng((seed, 1, step))


def feature_width(car, names):
    """Columns that these features of a car have together: the ``in_features`` of a model that reads them.

    Without names: of the features that its set gives (none of a car).
    """
    return sum(_columns(car, name).shape[1] for name in names or getattr(car, "feature_names", ()))


def _columns(car, name):
    """A field of a car as (P, k) float32."""
    if name == "normals":
        values = car.normals
    elif name == "pressure":
        values = car.pressure
    elif name in car.fields:
        values = car.fields[name]
    else:
        there = ", ".join(sorted(car.fields)) or "none"
        raise BsavizError(
            f"car {car.name!r} has no field {name!r} (its fields: {there}); choose one of them, or 'normals'"
        )
    values = np.asarray(values, np.float32)
    if not np.isfinite(values).all():
        raise BsavizError(
            f"car {car.name!r}: field {name!r} holds NaN or infinite values; repair the file or leave the car out"
        )
    return values.reshape(len(values), -1)


def _check_width(car, what, came, setting, wanted):
    if came != wanted:
        raise BsavizError(
            f"car {car.name!r}: {what} has {came} columns, but the model was built with {setting}={wanted}; "
            f"build it with {setting}={came}, or choose other fields"
        )
