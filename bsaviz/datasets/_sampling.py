"""Well-spread subsets of a point set, and the triangles that remain between them."""

import numpy as np
from scipy.spatial import cKDTree


def farthest_points(positions, n, seed=0):
    """Indices of `n` points, each the farthest from those picked before it.

    A new point can only be the nearest picked one of points closer to it than the largest distance left, so each step
    looks at that neighbourhood alone. The result is exactly that of comparing every point with every other.

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
    rng = np.random.default_rng(seed)
    left = np.full(len(positions), np.inf, np.float32)  # distance to the nearest picked point; -1 once picked
    newest = int(rng.integers(len(positions)))
    picked = [newest]
    reach = np.inf
    while len(picked) < n:
        left[newest] = -1
        near = slice(None) if np.isinf(reach) else tree.query_ball_point(positions[newest], reach * 1.000001)
        away = np.linalg.norm(positions[near] - positions[newest], axis=1)
        left[near] = np.minimum(left[near], away)
        newest = int(left.argmax())
        reach = float(left[newest])
        if reach == 0:  # only copies of picked points are left
            spare = np.flatnonzero(left == 0)
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
