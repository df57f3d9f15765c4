"""Potential flow round a closed surface by constant-strength source panels, over a ground plane if wanted.

Every triangle carries a source of constant strength. Its velocity is known in closed form: along the panel it is a sum
over the edges of a logarithm, across it the solid angle under which the panel is seen. The strengths follow from one
linear system, that no air goes through any panel at its centroid. The ground, and a plane of symmetry, are mirror
images with the same strength.

References
----------
Hess and Smith, "Calculation of potential flow about arbitrary bodies", Progress in Aerospace Sciences 8, 1967.
Van Oosterom and Strackee, "The solid angle of a plane triangle", IEEE Trans. Biomed. Eng. 30, 1983.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError
from bsaviz.physics.surfaces import check_surface, triangle_areas, triangle_normals, vertex_average

# Pairs closer than this many panel sizes (square root of the area) use the closed form, the others a point source at
# the centroid, whose relative error falls with the square of the distance: 1e-3 and less from here on.
_NEAR = 8.0
_ROWS = 512  # targets taken together; the largest array is (_ROWS, panels)


@dataclass(frozen=True)
class PanelFlow:
    """A solved potential flow.

    Attributes
    ----------
    pressure : (P,) float64
        At the points, Pa: area-weighted mean over the panels round each.
    pressure_coefficient : (P,) float64
        The same divided by the dynamic pressure; 1 where the air is at rest.
    face_velocity : (F, 3) float64
        Air velocity just outside each panel's centroid, m/s.
    face_pressure_coefficient : (F,) float64
        ``1 - |V|^2 / U^2`` there.
    strength : (F,) float64
        Source strength of each panel, m/s.
    """

    pressure: np.ndarray
    pressure_coefficient: np.ndarray
    face_velocity: np.ndarray
    face_pressure_coefficient: np.ndarray
    strength: np.ndarray


def panel_flow(points, faces, *, velocity=(20.0, 0.0, 0.0), density=1.184, ground=None, half=False):
    """Solve the potential flow of air round a closed triangle surface.

    Equation: the velocity is ``V = U + grad phi`` with ``laplace phi = 0`` outside, ``V . n = 0`` on the surface and on
    the ground, and Bernoulli gives ``p = rho / 2 (|U|^2 - |V|^2)``. Such a flow has no boundary layer and never leaves
    the surface, so it has no wake and no drag: pressure at the front and over the roof is realistic, at the rear it
    recovers where that of a real car does not.

    Parameters
    ----------
    points : (P, 3) array
        Corners of the surface, m.
    faces : (F, 3) int array
        Triangles, counter-clockwise seen from outside.
    velocity : (3,) array
        Undisturbed wind, m/s.
    density : float
        Of the air, kg/m^3.
    ground : float, optional
        Height z of a plane ground below the surface; None for free air.
    half : bool
        The surface given is the half with ``y >= 0`` of a body symmetric in y: its rim lies on ``y = 0``. A quarter of
        the memory and an eighth of the solve.

    Returns
    -------
    PanelFlow

    Raises
    ------
    BsavizError
        When the surface is not closed, is wound inside out, has collapsed or inconsistent triangles, has coordinates
        that are not finite, reaches the ground, or the wind blows through a mirror plane.
    """
    points, faces = check_surface(points, faces, rim_on_plane_y=half)
    wind = _check_wind(velocity, density, ground, half, points)
    panels = _Panels(points, faces, ground, half)
    strength = np.linalg.solve(panels.normal_influence(), -panels.normals @ wind)
    face_velocity = wind + panels.velocity(strength)
    speed_squared = float(wind @ wind)
    face_coefficient = 1 - np.einsum("fi,fi->f", face_velocity, face_velocity) / speed_squared
    coefficient = vertex_average(face_coefficient, faces, panels.areas, len(points))
    return PanelFlow(density / 2 * speed_squared * coefficient, coefficient, face_velocity, face_coefficient, strength)


def _check_wind(velocity, density, ground, half, points):
    wind = np.asarray(velocity, dtype=np.float64)
    if wind.shape != (3,) or not np.isfinite(wind).all() or not wind.any():
        raise BsavizError(f"velocity must be three finite numbers in m/s, not all zero, got {velocity!r}")
    if not np.isfinite(density) or density <= 0:
        raise BsavizError(f"density must be positive (kg/m^3; air has about 1.2), got {density!r}")
    if half and wind[1] != 0:
        raise BsavizError(
            f"half=True mirrors the flow in y = 0, so velocity[1] must be 0, got {wind[1]:g}; pass the whole body"
        )
    if ground is None:
        return wind
    if wind[2] != 0:
        raise BsavizError(f"with a ground plane the wind must blow along it: velocity[2] must be 0, got {wind[2]:g}")
    lowest = points[:, 2].min()
    if not lowest > ground:
        raise BsavizError(
            f"the surface must stay above the ground at z = {ground:g}, but its lowest point is at z = {lowest:g}; "
            "raise the surface or lower the ground"
        )
    return wind


class _Panels:
    """Influence of every panel, with its mirror images, on every centroid."""

    def __init__(self, points, faces, ground, half):
        self.corners = points[faces]
        self.centroids = self.corners.mean(axis=1)
        self.normals = triangle_normals(points, faces)
        self.areas = triangle_areas(points, faces)
        self.mirrors = list(_mirrors(ground, half))
        # A mirror image seen from a target is the panel itself seen from the target's image.
        self.targets = [self.centroids * sign + shift for sign, shift in self.mirrors]
        self.near = [self._near_field(image) for image in range(len(self.mirrors))]

    def _near_field(self, image):
        """Rows, columns and velocities of the panels close to each target of one image, in closed form."""
        targets = self.targets[image]
        reach = _NEAR * np.sqrt(self.areas)
        tree = cKDTree(targets)
        lists = tree.query_ball_point(self.centroids, reach, return_sorted=True)
        rows = np.concatenate([np.asarray(hits, dtype=np.int64) for hits in lists])
        columns = np.repeat(np.arange(len(lists)), [len(hits) for hits in lists])
        # On its own plane a panel's solid angle jumps; the air is on the side that the normal points to.
        own = rows == columns if image == 0 else None
        exact = triangle_source_velocity(targets[rows], self.corners[columns], self.normals[columns], on_panel=own)
        return rows, columns, exact * self.mirrors[image][0]

    def _far_weights(self, image, rows):
        """``area / (4 pi r^3)`` of the far panels, zero for the near ones."""
        targets = self.targets[image][rows]
        squared = (
            np.einsum("ti,ti->t", targets, targets)[:, None]
            + np.einsum("fi,fi->f", self.centroids, self.centroids)
            - 2 * targets @ self.centroids.T
        )
        near_rows, near_columns, _ = self.near[image]
        here = (near_rows >= rows.start) & (near_rows < rows.stop)
        squared[near_rows[here] - rows.start, near_columns[here]] = np.inf
        return self.areas / (4 * np.pi) / (squared * np.sqrt(squared))

    def _row_chunks(self):
        count = len(self.centroids)
        return [slice(start, min(start + _ROWS, count)) for start in range(0, count, _ROWS)]

    def normal_influence(self):
        """(F, F): velocity through panel i for unit strength of panel j."""
        count = len(self.centroids)
        matrix = np.zeros((count, count))
        for image, (sign, _) in enumerate(self.mirrors):
            normals = self.normals * sign  # n . (M u) = (M n) . u
            for rows in self._row_chunks():
                across = np.einsum("ti,ti->t", normals[rows], self.targets[image][rows])[:, None]
                across = across - normals[rows] @ self.centroids.T
                across *= self._far_weights(image, rows)
                matrix[rows] += across
            near_rows, near_columns, velocity = self.near[image]
            matrix[near_rows, near_columns] += np.einsum("pi,pi->p", self.normals[near_rows], velocity)
        return matrix

    def velocity(self, strength):
        """(F, 3): velocity at the centroids that panels of this strength add to the wind."""
        count = len(self.centroids)
        total = np.zeros((count, 3))
        moments = np.column_stack([strength, strength[:, None] * self.centroids])
        for image, (sign, _) in enumerate(self.mirrors):
            for rows in self._row_chunks():
                sums = self._far_weights(image, rows) @ moments
                total[rows] += sign * (self.targets[image][rows] * sums[:, :1] - sums[:, 1:])
            near_rows, near_columns, velocity = self.near[image]
            for axis in range(3):
                near = sparse.csr_array((velocity[:, axis], (near_rows, near_columns)), shape=(count, count))
                total[:, axis] += near @ strength
        return total


def _mirrors(ground, half):
    """(sign, shift) of each image's reflection, the body itself first."""
    for flip_z in (False, True) if ground is not None else (False,):
        for flip_y in (False, True) if half else (False,):
            sign = np.array([1.0, -1.0 if flip_y else 1.0, -1.0 if flip_z else 1.0])
            yield sign, np.array([0.0, 0.0, 2.0 * ground if flip_z else 0.0])


def triangle_source_velocity(targets, corners, normals, on_panel=None):
    """Velocity at each target that its triangle induces with a source of unit strength spread over it.

    ``u = 1/(4 pi) integral of (x - y) / |x - y|^3 dS(y)``, in closed form.

    Parameters
    ----------
    targets : (K, 3) float64
    corners : (K, 3, 3) float64
        Triangle of each target.
    normals : (K, 3) float64
        Their unit normals.
    on_panel : (K,) bool, optional
        Targets that lie on their own triangle: the limit from the side the normal points to is taken, ``u . n = 1/2``.

    Returns
    -------
    (K, 3) float64
    """
    sides = targets[:, None] - corners
    distances = np.sqrt(np.einsum("kci,kci->kc", sides, sides))
    velocity = np.zeros_like(targets)
    for start, stop in ((0, 1), (1, 2), (2, 0)):
        edge = corners[:, stop] - corners[:, start]
        length = np.sqrt(np.einsum("ki,ki->k", edge, edge))
        outward = np.cross(edge, normals) / length[:, None]
        reach = distances[:, start] + distances[:, stop]
        velocity += np.log((reach + length) / (reach - length))[:, None] * outward
    velocity += _solid_angle(sides, distances, on_panel)[:, None] * normals
    return velocity / (4 * np.pi)


def _solid_angle(sides, distances, on_panel):
    """Signed solid angle of each triangle, positive seen from the side its normal points to."""
    a, b, c = sides[:, 0], sides[:, 1], sides[:, 2]
    la, lb, lc = distances.T
    dot = lambda u, v: np.einsum("ki,ki->k", u, v)
    volume = dot(a, np.cross(b, c))
    plane = la * lb * lc + dot(a, b) * lc + dot(a, c) * lb + dot(b, c) * la
    angle = 2 * np.arctan2(volume, plane)
    return angle if on_panel is None else np.where(on_panel, 2 * np.pi, angle)
