"""What each step reads: from tables that hold the whole set in leaf order, or put together as it is drawn."""

from typing import NamedTuple

import torch

from bsaviz._checks import BsavizError
from bsaviz.training.batches import cars_of_step, collate, draws_of_step, extra_inputs

_CHUNK = 32  # samples whose trees, graphs and leaf arguments are made together


class LeafBatch(NamedTuple):
    """Cars of one step as a model's ``forward_leaves`` takes them.

    Attributes
    ----------
    arguments : dict
        Of ``forward_leaves``.
    inverse : Tensor (P,) int64
        Flat slot of each point.
    target : Tensor (P, K)
        In input order, in physical units.
    sizes : list of int
        Points of each car.
    weight : float
        Part that these cars have in the loss of the whole step; 1 where one device reads them all.
    """

    arguments: dict
    inverse: torch.Tensor
    target: torch.Tensor
    sizes: list
    weight: float = 1.0


class Drawn:
    """Cars put together in each step: for points drawn anew, and for cars of different sizes.

    Parameters
    ----------
    samples : sequence of Sample
        With trees, where they keep their points.
    model : PointModel
    config : TrainConfig
    ranks : Ranks
    redrawn : bool
        Draw ``config.num_points`` of each car's points in each step.
    """

    static = False

    def __init__(self, samples, model, config, ranks, redrawn):
        self.samples, self.model, self.config, self.ranks, self.redrawn = samples, model, config, ranks, redrawn

    def at(self, step):
        """The batch of the step numbered `step`."""
        config = self.config
        chosen = [self.samples[i] for i in cars_of_step(step, len(self.samples), config.batch_size, config.seed)]
        if self.redrawn:
            generator = draws_of_step(step, config.seed)
            chosen = [sample.subset(config.num_points, generator) for sample in chosen]
        own = self.ranks.share(chosen)
        points = lambda samples: sum(len(sample.positions) for sample in samples)
        part = (len, points)[config.loss != "relative_l2"]  # of that loss every car has the same part, else every point
        return leaf_batch(collate(own, self.model), self.model)._replace(weight=part(own) / part(chosen))


class Table:
    """All cars of a set on the device, in leaf order: a step gathers its own by their numbers, and no host is asked.

    Parameters
    ----------
    samples : sequence of Sample
        All with the same number of points; with trees.
    model : PointModel
    config : TrainConfig
    ranks : Ranks

    Raises
    ------
    Uneven
        When the cars do not have the same shapes.
    """

    static = True

    def __init__(self, samples, model, config, ranks):
        sizes = sorted({len(sample.positions) for sample in samples})
        if len(sizes) > 1:
            raise Uneven(f"the cars have different numbers of points ({sizes[0]} to {sizes[-1]})")
        chunks = [samples[i : i + _CHUNK] for i in range(0, len(samples), _CHUNK)]
        parts = [leaf_batch(collate(chunk, model), model) for chunk in chunks]
        points, slots = sizes[0], samples[0].tree.order.shape[1]
        self._offsets = {"order": points, "edges": points, "inverse": slots}
        whole = lambda name, chunked: self._whole(name, chunked, chunks)
        names = parts[0].arguments
        self._arguments = {name: whole(name, [part.arguments[name] for part in parts]) for name in names}
        self._inverse = whole("inverse", [part.inverse for part in parts])
        self._target = whole("target", [part.target for part in parts])
        batch = min(config.batch_size, len(samples))
        self._sizes, self._weight = [points] * (batch // ranks.size), 1 / ranks.size
        steps = range(config.steps)
        cars = [ranks.share(cars_of_step(step, len(samples), config.batch_size, config.seed)) for step in steps]
        self._cars = torch.tensor(cars, device=samples[0].positions.device)

    def at(self, number):
        """The batch of the step whose number the tensor (1,) holds."""
        cars = self._cars.index_select(0, number)[0]
        arguments = {name: self._gather(name, column, cars) for name, column in self._arguments.items()}
        inverse, target = self._gather("inverse", self._inverse, cars), self._gather("target", self._target, cars)
        return LeafBatch(arguments, inverse, target, self._sizes, self._weight)

    def _whole(self, name, parts, chunks):
        """An argument of all cars, (cars, ...), from those of the chunks; indices count from each car's own first."""
        if parts[0] is None:
            return None
        if isinstance(parts[0], tuple | list):
            return tuple(self._whole(name, each, chunks) for each in zip(*parts))
        return torch.cat([self._apart(name, part, len(chunk)) for part, chunk in zip(parts, chunks)])

    def _apart(self, name, joined, count):
        if name == "edges":
            joined = joined.T
            edges = torch.bincount(joined[:, 1] // self._offsets[name], minlength=count)
            if len(edges) != count or not bool((edges == edges[0]).all()):
                raise Uneven("the cars have different numbers of edges")
        apart = joined.unflatten(0, (count, -1))
        return apart - self._starts(name, count, apart) if name in self._offsets else apart

    def _gather(self, name, column, cars):
        if column is None:
            return None
        if isinstance(column, tuple):
            return tuple(self._gather(name, each, cars) for each in column)
        rows = column.index_select(0, cars)
        if name in self._offsets:
            rows = rows + self._starts(name, len(cars), rows)
        joined = rows.flatten(0, 1)
        return joined.T if name == "edges" else joined

    def _starts(self, name, count, rows):
        """Where the indices of each car start in a batch, (count, 1, ...) for `rows` (count, ...)."""
        starts = torch.arange(count, device=rows.device) * self._offsets[name]
        return starts.view(-1, *[1] * (rows.dim() - 1))


def feed_of(samples, model, config, ranks, *, redrawn):
    """What a run's steps read, and why they cannot be recorded (None where they can): a :class:`Table` if it may be.

    Parameters
    ----------
    samples : sequence of Sample
        With trees, unless `redrawn`.
    model : PointModel
    config : TrainConfig
    ranks : Ranks
    redrawn : bool
        ``config.num_points`` of each car's points are drawn anew in each step.
    """
    why_not = "points are drawn anew in each step (draw='once' keeps them)" if redrawn else None
    if why_not is None:
        try:
            return Table(samples, model, config, ranks), None
        except Uneven as error:
            why_not = str(error)
    return Drawn(samples, model, config, ranks, redrawn), why_not


class Uneven(BsavizError):
    """The cars of a set differ in their shapes: they make no table."""


def leaf_batch(batch, model):
    """A batch of :func:`~bsaviz.training.batches.collate` as a model's ``forward_leaves`` takes it."""
    tree = batch.tree
    arguments = model.leaf_arguments(batch.positions, batch.features, tree, **extra_inputs(model, batch))
    return LeafBatch(arguments, tree.inverse, batch.target, batch.sizes)
