"""The turn of the cloud before its second partition."""

import math

import torch

from bsaviz._checks import BsavizError


def rotation_matrix(angle, dim):
    """Matrix of a turn by `angle` degrees; in 3D about x, then y, then z, by that angle each.

    ``points @ rotation_matrix(angle, 3)`` are the turned points of the published trees (Erwin, arXiv 2502.17019). With
    row vectors that is the turn by the inverse.

    Returns
    -------
    list of lists of float
        ``dim`` x ``dim``, orthogonal.

    Raises
    ------
    BsavizError
        When `dim` is neither 2 nor 3.
    """
    if dim not in (2, 3):
        raise BsavizError(f"a rotation needs 2 or 3 dimensions, got {dim}; pass positions of shape (P, 2) or (P, 3)")
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    if dim == 2:
        return [[c, -s], [s, c]]
    about_x = torch.tensor([[1, 0, 0], [0, c, -s], [0, s, c]], dtype=torch.float64)
    about_y = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float64)
    about_z = torch.tensor([[c, -s, 0], [s, c, 0], [0, 0, 1]], dtype=torch.float64)
    return (about_z @ about_y @ about_x).tolist()


def rotate(columns, angle):
    """Coordinates of the turned points along each axis, from those of the points (D arrays or tensors).

    Products and sums are taken one by one: a matrix product may round differently from device to device, and with it
    the tree.
    """
    dim = len(columns)
    matrix = rotation_matrix(angle, dim)
    return [sum(columns[i] * matrix[i][j] for i in range(dim)) for j in range(dim)]
