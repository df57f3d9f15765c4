"""Closed triangle surfaces: normals, areas, and the checks that a solver needs before it can trust one."""

import numpy as np

from bsaviz._checks import BsavizError


def triangle_normals(points, faces):
    """Unit normals (F, 3), outward for triangles that run counter-clockwise seen from outside."""
    normals = _doubled_area_vectors(points, faces)
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def triangle_areas(points, faces):
    """Areas (F,) in the square of the points' unit."""
    return np.linalg.norm(_doubled_area_vectors(points, faces), axis=1) / 2


def _doubled_area_vectors(points, faces):
    a, b, c = points[faces[:, 0]], points[faces[:, 1]], points[faces[:, 2]]
    return np.cross(b - a, c - a)


def vertex_average(values, faces, weights, num_points):
    """Mean (P,) over the triangles round each point of `values` (F,), weighted by `weights` (F,)."""
    corners = faces.ravel()
    total = np.bincount(corners, np.repeat(weights * values, 3), minlength=num_points)
    return total / np.bincount(corners, np.repeat(weights, 3), minlength=num_points)


def check_surface(points, faces, *, rim_on_plane_y=False):
    """Check that a triangle surface bounds a solid, and return it as float64 points and int64 faces.

    Parameters
    ----------
    points : (P, 3) array
    faces : (F, 3) int array
    rim_on_plane_y : bool
        Allow an open rim that lies on the plane ``y = 0``, the surface being the half ``y >= 0`` of a solid.

    Raises
    ------
    BsavizError
        Naming the first thing that is wrong: shapes, coordinates that are not finite, indices out of range,
        points that no triangle uses, triangles without area, edges of one or more than two triangles, neighbours wound
        against each other, inside out.
    """
    points, faces = np.asarray(points), np.asarray(faces)
    if points.ndim != 2 or points.shape[1] != 3:
        raise BsavizError(f"points must have shape (P, 3), got {points.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or len(faces) == 0:
        raise BsavizError(f"faces must be triangles: integers of shape (F, 3), F > 0, got {faces.dtype} {faces.shape}")
    points, faces = points.astype(np.float64), faces.astype(np.int64)
    bad = ~np.isfinite(points).all(axis=1)
    if bad.any():
        raise BsavizError(
            f"points must be finite, but {bad.sum()} are NaN or infinite (first: point {bad.argmax()}); "
            "remove or repair them"
        )
    if faces.min() < 0 or faces.max() >= len(points):
        raise BsavizError(f"faces must index the {len(points)} points, got indices from {faces.min()} to {faces.max()}")
    unused = np.bincount(faces.ravel(), minlength=len(points)) == 0
    if unused.any():
        raise BsavizError(
            f"{unused.sum()} points belong to no triangle (first: point {unused.argmax()}); drop them first"
        )
    _check_areas(points, faces)
    _check_edges(points, faces, rim_on_plane_y)
    return points, faces


def _check_areas(points, faces):
    edges = points[faces] - points[np.roll(faces, 1, axis=1)]
    longest_squared = np.einsum("fci,fci->fc", edges, edges).max(axis=1)
    flat = triangle_areas(points, faces) <= 1e-9 * longest_squared
    if flat.any():
        first = flat.argmax()
        raise BsavizError(
            f"{flat.sum()} triangles have no area (first: face {first}, points {faces[first].tolist()}); "
            "merge double points and drop collapsed triangles"
        )


def _check_edges(points, faces, rim_on_plane_y):
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    undirected, inverse, uses = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    open_edges = undirected[uses == 1]
    if rim_on_plane_y:
        if points[:, 1].min() < 0:
            raise BsavizError(f"the half y >= 0 was expected, but a point lies at y = {points[:, 1].min():g}")
        open_edges = open_edges[(points[open_edges, 1] != 0).any(axis=1)]
    if len(open_edges):
        raise BsavizError(
            f"the surface must be closed, but {len(open_edges)} edges border one triangle only "
            f"(first: points {open_edges[0].tolist()}); fill its holes"
        )
    if (uses > 2).any():
        crowded = undirected[uses > 2]
        raise BsavizError(
            f"{len(crowded)} edges border more than two triangles (first: points {crowded[0].tolist()}); "
            "split the surface there"
        )
    forward = np.bincount(inverse.ravel(), directed[:, 0] < directed[:, 1], minlength=len(undirected))
    twisted = (uses == 2) & (forward != 1)
    if twisted.any():
        raise BsavizError(
            f"{twisted.sum()} pairs of neighbouring triangles are wound against each other "
            f"(first: at the edge of points {undirected[twisted][0].tolist()}); orient the faces consistently"
        )
    # The rim lies on y = 0, so that the cap that would close it adds nothing when volume is summed from y.
    volume = np.einsum("f,f->", points[faces].mean(axis=1)[:, 1], _doubled_area_vectors(points, faces)[:, 1] / 2)
    if volume <= 0:
        raise BsavizError("the triangles face inwards; reverse their corners: faces[:, ::-1]")
