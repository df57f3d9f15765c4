"""Well-spread subsets of a point set, and the triangles that remain between them."""

import numpy as np
from scipy.spatial import cKDTree

_RUN = 256


def farthest_points(positions, n, seed=0):
    """Indices of `n` points, each the farthest from those picked before it.

    A new point can only be the nearest picked one of points closer to it than the largest distance left, so each step
    looks at that neighbourhood alone, and the largest distance is kept for runs of points that lie close together. The
    result is that of comparing every point with every other; of points equally far, any may be picked.

    Parameters
    ----------
    positions : array (P, D)
    n : int
        At most P.
    seed : int
        Picks the first point.

    Returns
    -------
    array (n,) int64
        Sorted, all different (also among points that coincide).
    """
    tree = cKDTree(positions)
    rank = np.empty(len(positions), np.int64)  # place of each point in the tree's order, where neighbours are close
    rank[tree.indices] = np.arange(len(positions))
    left = np.full(-(-len(positions) // _RUN) * _RUN, -1.0)  # distance to the nearest picked point; -1 once picked
    left[: len(positions)] = np.inf
    runs = left.reshape(-1, _RUN)
    farthest = runs.max(axis=1)
    rng = np.random.default_rng(seed)
    newest, reach = int(rng.integers(len(positions))), None
    picked = [newest]
    while len(picked) < n:
        near = np.arange(len(rank)) if reach is None else tree.query_ball_point(positions[newest], reach * 1.000001)
        places = rank[near]
        away = np.sqrt(((positions[near].astype(np.float64) - positions[newest]) ** 2).sum(axis=1))
        left[places] = np.minimum(left[places], away)
        left[rank[newest]] = -1
        touched = np.unique(places // _RUN)
        farthest[touched] = runs[touched].max(axis=1)
        run = int(farthest.argmax())
        place = run * _RUN + int(runs[run].argmax())
        newest, reach = int(tree.indices[place]), float(left[place])
        if reach == 0:  # only copies of picked points are left
            spare = tree.indices[np.flatnonzero(left == 0)]
            picked.extend(rng.choice(spare, n - len(picked), replace=False).tolist())
            break
        picked.append(newest)
    return np.sort(np.asarray(picked, dtype=np.int64))


def collapse_faces(positions, faces, keep):
    """Triangles between the points `keep`, when every other point moves to the nearest of them.

    Parameters
    ----------
    positions : array (P, 3)
    faces : array (F, 3)
    keep : array (n,)
        Indices of the points that stay.

    Returns
    -------
    array (G, 3) int64
        Rows of indices into ``positions[keep]``, winding kept, each triangle once. G may be 0.
    """
    nearest = cKDTree(positions[keep]).query(positions)[1]
    faces = nearest[faces]
    a, b, c = faces.T
    faces = faces[(a != b) & (b != c) & (c != a)]
    first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)[1]
    return faces[np.sort(first)]


def split_long_edges(positions, faces, n):
    """Halve the longest edges of a mesh, round after round, until it has at least `n` points.

    An edge longer than the spacing of `n` evenly spread points is halved in both its triangles, so no gaps arise; the
    spacing shrinks while that does not give enough points.

    Parameters
    ----------
    positions : array (P, 3)
    faces : array (F, 3)
    n : int
        More than P.

    Returns
    -------
    ends : list of array (k, 2)
        For each round, the pairs of points in whose middle the round's new points lie.
    faces : array (G, 3) int64
    """
    a, b, c = positions.astype(np.float64)[faces.T]
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    longest = np.sqrt(2 * area / (np.sqrt(3) * n))  # side of the triangles when each point has its n-th of the area
    rounds = []
    while len(positions) < n:
        pairs, side = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0,
                                return_inverse=True)  # fmt: skip
        lengths = np.linalg.norm(positions[pairs[:, 0]] - positions[pairs[:, 1]], axis=1)
        split = lengths > longest
        if not split.any():
            longest = min(0.9 * longest, 0.999 * float(lengths.max()))
            continue
        middle = np.full(len(pairs), -1)
        middle[split] = len(positions) + np.arange(split.sum())
        faces = _cut(faces, middle[side].reshape(-1, 3))
        rounds.append(pairs[split])
        positions = np.concatenate([positions, positions[pairs[split]].mean(axis=1)])
    return rounds, faces


def _cut(faces, middles):
    """Triangles after some of their sides got a middle point; `middles` (F, 3) has it for the side from each corner."""
    uncut = middles < 0
    count = 3 - uncut.sum(axis=1)

    def corners(number, first):
        """Corners a, b, c and middles of triangles with so many cut sides, turned to begin at the corner `first`."""
        order = (first[:, None] + np.arange(3)) % 3
        turned = [np.take_along_axis(values, order, axis=1)[count == number].T for values in (faces, middles)]
        return *turned[0], *turned[1]

    a, b, c, ab, _, _ = corners(1, (~uncut).argmax(axis=1))
    pieces = [*faces[count == 0].T[None], (a, ab, c), (ab, b, c)]
    a, b, c, ab, bc, _ = corners(2, uncut.argmax(axis=1) + 1)
    pieces += [(ab, b, bc), (a, ab, c), (ab, bc, c)]
    a, b, c, ab, bc, ca = corners(3, np.zeros(len(faces), int))
    pieces += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([np.stack(piece, axis=1) for piece in pieces])
