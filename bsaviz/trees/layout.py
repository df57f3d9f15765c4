"""Where the slots of a tree's nodes begin and end: a matter of counts alone, decided before a position is looked at."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Level(NamedTuple):
    """The nodes of one level and how they split, in the order in which a partition holds them.

    Attributes
    ----------
    starts, counts, left : (nodes,) int64
        First place in the partition's lists, points held, and how many of them (the smaller ones along the axis that
        is split) go to the left child.
    """

    starts: np.ndarray
    counts: np.ndarray
    left: np.ndarray


class Leaves(NamedTuple):
    """The nodes that are not split any more, in the order in which a partition holds them.

    Attributes
    ----------
    counts, places : (leaves,) int64
        Points held, and the first of their places in the leaf order.
    """

    counts: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Layout:
    """Slots of a batch of trees and the share of points of every node.

    A sample of `P` points owns the first `n` slots of its row. The slots ``[s, t)`` hold the points
    ``[P s // n, P t // n)`` of the leaf order, so any node holds its proportional share of the points, rounded down or
    up: padding is spread evenly.

    Attributes
    ----------
    points : (B,) int64
        Points of each sample.
    slots : (B,) int64
        Slots each sample owns, a multiple of `ball_size`. The remaining slots of a shorter sample are all padding.
    ball_size, block_size : int
    """

    points: np.ndarray
    slots: np.ndarray
    ball_size: int
    block_size: int

    @classmethod
    def of(cls, points, ball_size, block_size, padding):
        """Layout for samples of `points` points under a padding rule ("multiple" or "power_of_two")."""
        points = np.asarray(points, dtype=np.int64)
        balls = -(-points // ball_size)
        if padding == "power_of_two":
            balls = np.array([1 << (int(b) - 1).bit_length() for b in balls], dtype=np.int64)
        return cls(points, balls * ball_size, ball_size, block_size)

    @property
    def width(self):
        """Slots of one row of the batch, N."""
        return int(self.slots.max())

    def real_slots(self):
        """Flat slot (row * N + slot) of every point of the leaf order, (P,) int64."""
        sample = np.repeat(np.arange(self.points.size), self.points)
        place = np.arange(sample.size) - (self.points.cumsum() - self.points)[sample]
        return sample * self.width + -(-(place + 1) * self.slots[sample] // self.points[sample]) - 1

    def owned_slots(self):
        """Flat slot of every slot owned by a sample, in order."""
        sample = np.repeat(np.arange(self.points.size), self.slots)
        return np.arange(sample.size) - (self.slots.cumsum() - self.slots)[sample] + sample * self.width

    def mask(self):
        """True in the slots of real points, (B, N)."""
        mask = np.zeros((self.points.size, self.width), dtype=bool)
        mask.reshape(-1)[self.real_slots()] = True
        return mask

    def fill(self):
        """Place in the leaf order of the point that each slot holds, (B, N) int64; a padding slot repeats a neighbour.

        An even slot looks to the next point and an odd one to the one before, so that a pair of slots with one real
        point holds it twice, as in the published trees.
        """
        slot = np.arange(self.width)[None, :]
        points, slots = self.points[:, None], self.slots[:, None]
        before, after = points * slot // slots, points * (slot + 1) // slots
        place = np.where((after > before) | (slot % 2 == 0), before, before - 1)
        return place.clip(0, points - 1) + (self.points.cumsum() - self.points)[:, None]

    def all_slots_real(self):
        """The layout in which every owned slot counts as a point (the published rotated tree splits this one)."""
        return Layout(self.slots, self.slots, self.ball_size, self.block_size)

    def splits(self, stop):
        """Split every node in two until no node with two points or more has more than `stop` slots.

        Children follow as all left ones and then all right ones, which is the order a stable partition of the whole
        list leaves them in; nodes without a point are left out.

        Returns
        -------
        levels : list of Level
        leaves : Leaves
        """
        levels = []
        places = self.points.cumsum() - self.points
        row_place, starts, counts = places, places, self.points
        sample, first, size = np.arange(self.points.size), np.zeros_like(self.slots), self.slots
        while (splits := (size > stop) & (counts > 1)).any():
            half = np.where(splits, self._left_slots(size), size)
            row = sample if self.points.size > 1 else 0  # one divisor for all is many times faster
            middle = row_place[row] + self.points[row] * (first + half) // self.slots[row]
            left = middle - places
            levels.append(Level(starts, counts, left))
            sample, first = np.concatenate([sample, sample]), np.concatenate([first, first + half])
            size, places = np.concatenate([half, size - half]), np.concatenate([places, middle])
            counts = np.concatenate([left, counts - left])
            held = counts > 0
            if not held.all():
                sample, first, size, places, counts = (a[held] for a in (sample, first, size, places, counts))
            starts = counts.cumsum() - counts
        return levels, Leaves(counts, places)

    def _left_slots(self, size):
        """Slots of the left child: whole balls while there are several, then whole blocks, then slots."""
        balls, blocks, slots = ((size // unit + 1) // 2 * unit for unit in (self.ball_size, self.block_size, 1))
        return np.where(size > self.ball_size, balls, np.where(size > self.block_size, blocks, slots))
