"""Turn edges of a triangle mesh so that its triangles lie closer to the surface and are rounder."""

import numpy as np

_ROUNDS = 12
_ROUNDNESS = 0.012  # m: how much closeness to the surface one unit of roundness is worth
_LEAST_GAIN = 5e-4  # m
_SLIVER = 0.35  # roundness below which no flip may go


def flip_edges(points, faces, distance):
    """Flip edges as long as that helps.

    An edge ``ab`` between triangles ``abc`` and ``bad`` becomes ``cd`` where the middle of ``cd`` lies closer to the
    surface than that of ``ab``, with a little credit for rounder triangles. Creases come out straight that way.

    Parameters
    ----------
    points : (P, 3) float64
    faces : (F, 3) int64
        Edges of one triangle only are left alone.
    distance : callable
        Signed distance of points (K, 3), with a method ``gradient``.

    Returns
    -------
    (F, 3) int64
    """
    faces = faces.copy()
    for _ in range(_ROUNDS):
        quads, sides = _quads(faces)
        gain = _gain(points, quads, distance)
        chosen = _apart(quads, sides, gain, len(faces), faces)
        if not len(chosen):
            break
        a, b, c, d = quads[chosen].T
        faces[sides[chosen, 0]] = np.stack([c, d, b], axis=1)
        faces[sides[chosen, 1]] = np.stack([d, c, a], axis=1)
    return faces


def _quads(faces):
    """(a, b, c, d) of every inner edge: triangle (a, b, c) on its left, (b, a, d) on its right; and those two."""
    start = faces.ravel()
    stop, other = np.roll(faces, -1, axis=1).ravel(), np.roll(faces, -2, axis=1).ravel()
    owner = np.repeat(np.arange(len(faces)), 3)
    order = np.lexsort((start > stop, np.maximum(start, stop), np.minimum(start, stop)))
    here, there = order[:-1], order[1:]
    pair = (start[here] == stop[there]) & (stop[here] == start[there])
    here, there = here[pair], there[pair]
    quads = np.stack([start[here], stop[here], other[here], other[there]], axis=1)
    return quads, np.stack([owner[here], owner[there]], axis=1)


def _gain(points, quads, distance):
    a, b, c, d = (points[corner] for corner in quads.T)
    round_before = np.minimum(roundness(a, b, c), roundness(b, a, d))
    round_after = np.minimum(roundness(c, d, b), roundness(d, c, a))
    before = np.abs(distance((a + b) / 2)) - _ROUNDNESS * round_before
    after = np.abs(distance((c + d) / 2)) - _ROUNDNESS * round_after
    # The new triangles must be neither slivers nor folded over.
    after = np.where(round_after > np.minimum(round_before, _SLIVER), after, np.inf)
    outward = distance.gradient((a + b + c + d) / 4)
    for corners in ((c, d, b), (d, c, a)):
        facing = np.einsum("qi,qi->q", np.cross(corners[1] - corners[0], corners[2] - corners[0]), outward)
        size = np.linalg.norm(np.cross(corners[1] - corners[0], corners[2] - corners[0]), axis=1)
        after = np.where(facing > 0.3 * size * np.linalg.norm(outward, axis=1), after, np.inf)
    return before - after


def roundness(a, b, c):
    """1 for an equilateral triangle, 0 for one without area."""
    squares = sum(np.einsum("qi,qi->q", side, side) for side in (b - a, c - b, a - c))
    return 2 * np.sqrt(3) * np.linalg.norm(np.cross(b - a, c - a), axis=1) / squares


def _apart(quads, sides, gain, num_faces, faces):
    """Edges to flip at once: each the best of both its triangles, and none that joins points joined already."""
    best = np.full(num_faces, _LEAST_GAIN)
    np.maximum.at(best, sides.ravel(), np.repeat(gain, 2))
    chosen = np.flatnonzero((gain > _LEAST_GAIN) & (gain >= best[sides].max(axis=1)))
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    size = faces.max() + 1
    new = np.sort(quads[chosen][:, 2:], axis=1) @ [size, 1]
    free = ~np.isin(new, edges @ [size, 1])
    _, first = np.unique(new[free], return_index=True)
    return chosen[free][first]
