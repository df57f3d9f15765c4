"""Areas and normals of meshes and clouds."""

import numpy as np
from scipy.spatial import cKDTree


def _area_vectors(positions, faces):
    """Normal of each triangle times its area (F, 3), in float64."""
    a, b, c = positions.astype(np.float64)[faces.T]
    return np.cross(b - a, c - a) / 2


def mesh_point_areas(positions, faces):
    """A third of the area of each point's triangles (P,) float32."""
    third = np.linalg.norm(_area_vectors(positions, faces), axis=1) / 3
    return np.bincount(faces.ravel(), np.repeat(third, 3), minlength=len(positions)).astype(np.float32)


def mesh_normals(positions, faces):
    """Area-weighted unit normals (P, 3) float32, zero at points of no triangle."""
    vectors = np.repeat(_area_vectors(positions, faces), 3, axis=0)
    total = np.stack([np.bincount(faces.ravel(), vectors[:, axis], minlength=len(positions)) for axis in range(3)], 1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.divide(total, length, out=np.zeros_like(total), where=length > 0).astype(np.float32)


def cloud_normals(positions, neighbours=16):
    """Unit normals of a cloud (P, 3) float32: least variance among the nearest points, away from the centroid."""
    neighbours = min(neighbours, len(positions))
    nearest = cKDTree(positions).query(positions, k=neighbours)[1].reshape(len(positions), neighbours)
    around = positions.astype(np.float64)[nearest]
    around -= around.mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.einsum("pki,pkj->pij", around, around))[1][:, :, 0]
    outwards = np.einsum("pi,pi->p", normals, positions - positions.mean(axis=0))
    return np.where(outwards[:, None] < 0, -normals, normals).astype(np.float32)
