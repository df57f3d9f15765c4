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
from bsaviz.physics.surfaces import check_surface, triangle_areas, vertex_average

_NORMAL_WEIGHT = 0.06  # m: two sides of a thin part, normals apart by 2, count as this times 2 apart
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
        share = vertex_average(areas, faces, np.ones(len(faces)), len(points)) * np.bincount(faces.ravel()) / 3
        self.areas = share

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
    rim, inner = len(rim_points), (num_points - len(rim_points)) // 2
    weight = contour.areas * contour.spacing**-4.0
    chance = contour.areas * contour.spacing**-2.0
    first = _spread_choice(contour, inner, chance, generator)
    label = None
    seeds, normals = contour.points[first], contour.normals[first]
    for _ in range(_SWEEPS):
        label = _nearest(contour, seeds, normals, rim_points, rim_label)
        mass = np.bincount(label, weight, minlength=inner + rim)[:inner]
        if (mass == 0).any():
            raise BsavizError("a seed lost its patch")
        for target, values in ((seeds, contour.points), (normals, contour.normals)):
            for axis in range(3):
                total = np.bincount(label, weight * values[:, axis], minlength=inner + rim)[:inner]
                target[:, axis] = total / mass
        seeds = _onto_surface(distance, seeds)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    label = _one_patch_each(contour, _nearest(contour, seeds, normals, rim_points, rim_label), inner + rim)
    corners = label[contour.faces]
    split = (corners[:, 0] != corners[:, 1]) & (corners[:, 1] != corners[:, 2]) & (corners[:, 2] != corners[:, 0])
    return np.concatenate([seeds, rim_points]), corners[split], rim


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
    if num_points % 2:
        raise BsavizError(f"num_points must be even, for a symmetric body, got {num_points}")
    places = np.arange(count) * along[-1] / count
    closed = np.vstack([rim, rim[:1]])
    seeds = np.stack([np.interp(places, along, closed[:, axis]) for axis in range(3)], axis=1)
    owner = np.round(along[:-1] / along[-1] * count).astype(np.int64) % count
    return seeds, owner


def _spread_choice(contour, count, chance, generator):
    """`count` different contour points off the rim, drawn with probability `chance`."""
    off_rim = np.ones(len(contour.points), dtype=bool)
    off_rim[contour.rim] = False
    weight = np.where(off_rim, chance, 0)
    return generator.choice(len(contour.points), size=count, replace=False, p=weight / weight.sum())


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
