"""An even triangle mesh with an exact number of points, symmetric in y, from a sampled signed distance.

The contour of the half ``y >= 0`` (marching cubes) is split among seeds by Lloyd's iteration; the seeds, put back onto
the surface, are the points, and every contour triangle whose corners went to three different seeds gives a triangle.
The rim on ``y = 0`` has seeds of its own, and the mirror image closes the body.

References
----------
Lloyd, "Least squares quantization in PCM", 1982; Valette and Chassery, "Approximated centroidal Voronoi diagrams for
uniform polygonal mesh coarsening", Computer Graphics Forum 23, 2004.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError, require
from bsaviz.datasets.generated_flips import flip_edges, roundness
from bsaviz.physics.surfaces import check_surface, triangle_areas

_NORMAL_WEIGHT = 0.06  # m: two sides of a thin part, normals apart by 2, count as this times 2 apart
_GROOVE = 0.015  # m: a seed farther than this from all of its patch lies on another wall
_SLIVER = 0.1  # roundness below which a triangle is not worth having
_SWEEPS = 30
_ATTEMPTS = 8


def even_half_mesh(distance, num_points, target_spacing, seed=0):
    """Mesh the zero contour of a sampled half.

    Parameters
    ----------
    distance : Grid
        Its first samples in y lie on ``y = 0``.
    num_points : int
        Of the whole body: points on ``y = 0`` count once, the others twice.
    target_spacing : callable
        ``(points (K, 3), curvature (K,)) -> (K,)``: relative distance wanted between neighbours.
    seed : int
        Of the first places.

    Returns
    -------
    points : (H, 3) float64
        With ``y >= 0``, those on the rim last and exactly on ``y = 0``.
    faces : (G, 3) int64
        Outward.
    rim : int
        How many points lie on the rim: ``2 H - rim == num_points``.
    """
    if num_points % 2:
        raise BsavizError(f"num_points must be even, for a symmetric body, got {num_points}")
    contour = _Contour(distance, target_spacing)
    trouble = None
    for attempt in range(_ATTEMPTS):
        generator = np.random.default_rng([seed, attempt])
        try:
            points, faces, rim = _attempt(contour, distance, num_points, generator)
            return (*check_surface(points, faces, rim_on_plane_y=True), rim)
        except BsavizError as error:  # two seeds met twice, or a seed lost its patch: begin elsewhere
            trouble = error
    raise BsavizError(f"no clean mesh of {num_points} points in {_ATTEMPTS} attempts ({trouble}); ask for more points")


class _Contour:
    """The fine contour: points, triangles, mass of every point, and its rim in order."""

    def __init__(self, distance, target_spacing):
        measure = require("skimage.measure", "cars")
        points, faces, _, _ = measure.marching_cubes(distance.values, 0.0, spacing=(distance.spacing,) * 3)
        points, faces = _largest_piece(points.astype(np.float64) + distance.origin, faces.astype(np.int64))
        self.faces = faces
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
        self.rim = _loop(_open_edges(edges))
        points[self.rim, 1] = 0.0
        self.points = points
        self.edges = np.unique(np.sort(edges, axis=1), axis=0)
        gradient = distance.gradient(points)
        self.normals = gradient / np.linalg.norm(gradient, axis=1, keepdims=True)
        self.spacing = target_spacing(points, self._curvature())
        areas = triangle_areas(points, faces)
        self.areas = np.bincount(faces.ravel(), np.repeat(areas / 3, 3), minlength=len(points))

    def _curvature(self):
        """Largest turn of the normal per metre along the edges at each point, smoothed."""
        a, b = self.edges.T
        length = np.maximum(np.linalg.norm(self.points[a] - self.points[b], axis=1), 1e-3)
        turn = np.linalg.norm(self.normals[a] - self.normals[b], axis=1) / np.maximum(length, 0.008)
        both = np.concatenate([self.edges, self.edges[:, ::-1]])
        count = np.bincount(both[:, 0], minlength=len(self.points))
        value = np.bincount(both[:, 0], np.concatenate([turn, turn]), minlength=len(self.points)) / count
        for _ in range(6):
            value = (value + np.bincount(both[:, 0], value[both[:, 1]], minlength=len(value)) / count) / 2
        return value


def _largest_piece(points, faces):
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]]])
    graph = csr_array((np.ones(len(edges)), edges.T), shape=(len(points),) * 2)
    _, piece = connected_components(graph, directed=False)
    keep = piece == np.bincount(piece).argmax()
    index = np.cumsum(keep) - 1
    return points[keep], index[faces[keep[faces[:, 0]]]]


def _open_edges(directed):
    """Directed edges that border one triangle only."""
    _, inverse, uses = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True, return_counts=True)
    return directed[uses[inverse.ravel()] == 1]


def _loop(edges):
    """Points of one closed loop of directed edges, in order."""
    following = dict(edges.tolist())
    loop = [min(following)]
    while (point := following[loop[-1]]) != loop[0]:
        loop.append(point)
    if len(loop) != len(edges):
        raise BsavizError("the body's outline on its plane of symmetry is not one closed curve; change its shape")
    return np.array(loop)


def _attempt(contour, distance, num_points, generator):
    rim_points, rim_label = _rim_seeds(contour, num_points)
    seeds, label = _lloyd(contour, distance, (num_points - len(rim_points)) // 2, rim_points, rim_label, generator)
    points = np.concatenate([_onto_own_patch(contour, label, seeds), rim_points])
    corners = label[contour.faces]
    split = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]) & (corners[:, 2] != corners[:, 0])
    _, faces = check_surface(points, corners[split], rim_on_plane_y=True)
    faces = flip_edges(points, faces, distance)
    if roundness(*(points[faces[:, corner]] for corner in range(3))).min() < _SLIVER:
        raise BsavizError("two points nearly coincide")
    return points, faces, len(rim_points)


def _lloyd(contour, distance, count, rim_points, rim_label, generator):
    """`count` seeds, each in the middle of its patch, and the seed (the rim's come last) of every contour point."""
    first = _spread_choice(contour, count, contour.areas * contour.spacing**-2.0, generator)
    weight = contour.areas * contour.spacing**-4.0  # patches of equal mass are then `spacing` wide
    seeds, normals = contour.points[first], contour.normals[first]
    for _ in range(_SWEEPS):
        label = _nearest(contour, seeds, normals, rim_points, rim_label)
        mass = np.bincount(label, weight, minlength=count + len(rim_points))[:count]
        if (mass == 0).any():
            raise BsavizError("a seed lost its patch")
        seeds = _onto_surface(distance, _patch_sums(label, weight, contour.points, count) / mass[:, None])
        normals = _patch_sums(label, weight, contour.normals, count)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    label = _nearest(contour, seeds, normals, rim_points, rim_label)
    return seeds, _one_patch_each(contour, label, count + len(rim_points))


def _patch_sums(label, weight, values, count):
    return np.stack([np.bincount(label, weight * column, minlength=count)[:count] for column in values.T], axis=1)


def _rim_seeds(contour, num_points):
    """Points along the rim, an even number of them at the wanted spacing, and which contour rim point is whose."""
    rim = contour.points[contour.rim]
    step = np.linalg.norm(np.roll(rim, -1, axis=0) - rim, axis=1)
    spacing = (contour.spacing[contour.rim] + np.roll(contour.spacing[contour.rim], -1)) / 2
    along = np.concatenate([[0], np.cumsum(step / spacing)])
    # Even triangles of side s have sqrt(3)/2 s^2 to a point.
    scaled_area = 2 * np.sum(contour.areas * contour.spacing**-2.0)
    side = np.sqrt(2 / np.sqrt(3) * scaled_area / num_points)
    count = 2 * round(along[-1] / side / 2)
    places = np.arange(count) * along[-1] / count
    closed = np.vstack([rim, rim[:1]])
    seeds = np.stack([np.interp(places, along, closed[:, axis]) for axis in range(3)], axis=1)
    owner = np.round(along[:-1] / along[-1] * count).astype(np.int64) % count
    return seeds, owner


def _spread_choice(contour, count, chance, generator):
    """`count` different contour points off the rim: every so many in the contour's own order, by the sum of `chance`.

    A change in the last bits of the contour moves few of them, where independent draws would all change.
    """
    chance = chance.copy()
    chance[contour.rim] = 0
    total = np.cumsum(chance)
    places = (np.arange(count) + generator.uniform(0.25, 0.75, count)) * total[-1] / count
    return np.minimum(np.searchsorted(total, places), len(total) - 1)


def _nearest(contour, seeds, normals, rim_points, rim_label):
    """Seed of every contour point; normals count as distance, so that thin parts keep their two sides apart."""
    rim_normals = contour.normals[contour.rim][np.searchsorted(rim_label, np.arange(len(rim_points)))]
    where = np.concatenate([seeds, rim_points])
    facing = np.concatenate([normals, rim_normals])
    tree = cKDTree(np.hstack([where, _NORMAL_WEIGHT * facing]))
    _, label = tree.query(np.hstack([contour.points, _NORMAL_WEIGHT * contour.normals]))
    label[contour.rim] = len(seeds) + rim_label
    return label


def _onto_surface(distance, points):
    for _ in range(3):
        gradient = distance.gradient(points)
        squared = np.maximum(np.einsum("pi,pi->p", gradient, gradient), 0.05)
        points = points - (distance(points) / squared)[:, None] * gradient
    return points


def _onto_own_patch(contour, label, seeds):
    """Move seeds that came down away from their patch, in a narrow groove, to its nearest contour point."""
    own = label < len(seeds)
    points, label = contour.points[own], label[own]
    gap = np.linalg.norm(points - seeds[label], axis=1)
    order = np.lexsort((gap, label))
    nearest = order[np.searchsorted(label[order], np.arange(len(seeds)))]
    astray = gap[nearest] > _GROOVE
    return np.where(astray[:, None], points[nearest], seeds)


def _one_patch_each(contour, label, count):
    """Give scattered bits of a seed's patch to their neighbours, so that every patch is in one piece."""
    label = label.copy()
    a, b = contour.edges.T
    for _ in range(10):
        same = label[a] == label[b]
        graph = csr_array((np.ones(same.sum()), (a[same], b[same])), shape=(len(label),) * 2)
        _, piece = connected_components(graph, directed=False)
        size = np.bincount(piece)
        largest = np.zeros(count, dtype=np.int64)
        np.maximum.at(largest, label, size[piece])
        stray = size[piece] < largest[label]
        if not stray.any():
            break
        for here, there in ((a, b), (b, a)):
            move = stray[here] & ~stray[there]
            label[here[move]] = label[there[move]]
    return label


def mirrored(points, faces, rim):
    """Whole body from its half: points (2 H - rim, 3) and faces (2 G, 3); the rim's points are shared."""
    half = len(points) - rim
    image = np.concatenate([np.arange(half) + len(points), np.arange(half, len(points))])
    both = np.concatenate([points, points[:half] * [1, -1, 1]])
    return both, np.concatenate([faces, image[faces][:, ::-1]])
