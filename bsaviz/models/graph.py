"""The graph of neighbours that message passing runs on."""

from math import isfinite

import numpy as np
import torch
from scipy.spatial import cKDTree

from bsaviz._checks import BsavizError

_PAIRS = 2**24  # distances held at once
_ALL_PAIRS = 2**14  # points up to which a GPU takes all distances; beyond, their number grows faster than a tree's work


@torch.no_grad()
def neighbour_graph(positions, batch=None, *, neighbours=8, radius=None):
    """Edges from each point's neighbours, and from the point itself, to the point.

    Parameters
    ----------
    positions : Tensor (P, D)
        Points of all samples, one sample after the other.
    batch : Tensor (P,) int64, optional
        Sample of each point, ascending; no edge joins two samples.
    neighbours : int
        Nearest points of the sample, the point itself among them; all of a sample that has fewer.
    radius : float, optional
        Instead: every point no further than this, in the units of the positions.

    Returns
    -------
    Tensor (2, E) int64
        Senders and receivers, by receiver, on the device of the positions. A k-d tree on the CPU finds them; on other
        devices, for samples of up to 16 384 points, all distances are taken there instead, a part at a time.
    """
    if radius is not None and (not isfinite(radius) or radius <= 0):
        raise BsavizError(f"radius must be a finite length above 0, got {radius}; leave it out for nearest neighbours")
    if isinstance(neighbours, bool) or not isinstance(neighbours, int) or neighbours < 1:
        raise BsavizError(f"neighbours must be an integer of at least 1, got {neighbours!r}")
    counts = [len(positions)] if batch is None else torch.bincount(batch).tolist()
    edges, start = [], 0
    for points in positions.detach().split(counts):
        find = _by_tree if positions.device.type == "cpu" or len(points) > _ALL_PAIRS else _by_distance
        edges.append(find(points, min(neighbours, len(points)), radius).to(positions.device) + start)
        start += len(points)
    return torch.cat(edges, dim=1)


def check_edges(edges, num_points, batch=None):
    """Refuse edges that are not (2, E) indices of points, each inside one sample."""
    if not isinstance(edges, torch.Tensor) or edges.dim() != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        came = f"{tuple(edges.shape)} {edges.dtype}" if isinstance(edges, torch.Tensor) else type(edges).__name__
        raise BsavizError(f"edges must be an int64 tensor (2, E) of senders and receivers, got {came}")
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < num_points:
        raise BsavizError(
            f"edges must hold indices from 0 to {num_points - 1}, got {int(edges.min())} to {int(edges.max())}; "
            "in a batch, add the number of points of the samples before"
        )
    if batch is not None and not torch.equal(batch[edges[0]], batch[edges[1]]):
        raise BsavizError("edges join points of different samples; keep those inside one sample")
    return edges


def _by_tree(points, neighbours, radius):
    tree = cKDTree(points.double().cpu().numpy())
    if radius is None:
        nearest = tree.query(tree.data, k=[*range(1, neighbours + 1)])[1]
        receiver = np.repeat(np.arange(len(points)), neighbours)
        return torch.from_numpy(np.stack([nearest.reshape(-1), receiver])).long()
    pairs = tree.query_pairs(radius, output_type="ndarray").T.astype(np.int64)
    everyone = np.arange(len(points))[None].repeat(2, axis=0)
    edges = np.concatenate([everyone, pairs, pairs[::-1]], axis=1)
    return torch.from_numpy(edges[:, np.argsort(edges[1], kind="stable")])


def _by_distance(points, neighbours, radius):
    edges = []
    place = torch.arange(len(points), device=points.device)
    for receivers in place.split(max(1, _PAIRS // len(points))):
        # Axis by axis: a product of matrices would lose the small distances.
        squares = sum((column[receivers, None] - column).square() for column in points.double().T)
        if radius is None:
            nearest = squares.topk(neighbours, dim=1, largest=False).indices
            edges.append(torch.stack([nearest, receivers[:, None].expand_as(nearest)]).flatten(1))
        else:
            found = (squares <= radius**2).nonzero().T
            edges.append(torch.stack([found[1], receivers[found[0]]]))
    return torch.cat(edges, dim=1)
