"""Orderings of a cloud behind one face: ball tree, space-filling curves, clusters."""

import numpy as np
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees import inputs
from bsaviz.trees.balltree import BallTree
from bsaviz.trees.layout import Layout
from bsaviz.trees.orderings_clusters import graph_order, kmeans_order, nearest_edges
from bsaviz.trees.orderings_curves import along_curve

ORDERINGS = ("balltree", "morton", "hilbert", "kmeans", "graph")


def order_points(
    positions, batch=None, *, ordering="balltree", ball_size=256, block_size=8, rotation_angle=None,
    padding="multiple", rotate_to="block", edges=None, device=None,
):  # fmt: skip
    """A cloud put in order, so that consecutive slots are balls and blocks of near points.

    ============== ============================================ ==================================================
    ordering       slots follow                                 second order, read by odd layers
    ============== ============================================ ==================================================
    ``"balltree"`` the ball tree (Erwin, arXiv 2502.17019)      the tree of the rotated cloud
    ``"morton"``   the Morton curve (Point Transformer V3,      the curve with its first two axes swapped
                   arXiv 2312.10035)
    ``"hilbert"``  the Hilbert curve (the same)                 the curve with its first two axes swapped
    ``"kmeans"``   balanced bisecting k-means                   cuts that start from the second principal direction
    ``"graph"``    cuts along the bonds of a graph (a question  the same order, moved on by half a ball
                   left open by Erwin-NSA, arXiv 2508.10758)
    ============== ============================================ ==================================================

    In each of them a sample owns the next multiple of `ball_size` slots, its padding is spread evenly, and every ball
    and block holds its equal share of the points.

    Parameters
    ----------
    positions, batch, ball_size, block_size, padding, rotate_to, device
        As in :meth:`BallTree.build`; `rotate_to` is for the ball tree.
    ordering : str
    rotation_angle : float, optional
        Degrees of the ball tree's rotation. For the others any angle but 0 asks for the second order.
    edges : (2, E) integers, optional
        For ``"graph"``: the bonds, as pairs of indices into `positions`; those between samples do not count. Default:
        each point and its 8 nearest.

    Returns
    -------
    BallTree

    Raises
    ------
    BsavizError
        As `BallTree.build`, for an unknown ordering, and for edges that are none or that no ordering reads.
    """
    inputs.check_choice("ordering", ordering, ORDERINGS)
    if edges is not None and ordering != "graph":
        raise BsavizError(f"edges are read by ordering='graph' alone, got ordering={ordering!r}; leave edges out")
    if ordering == "balltree":
        return BallTree.build(
            positions, batch, ball_size=ball_size, block_size=block_size, rotation_angle=rotation_angle,
            padding=padding, rotate_to=rotate_to, device=device,
        )  # fmt: skip
    inputs.check_sizes(ball_size, block_size)
    inputs.check_choice("padding", padding, inputs.PADDINGS)
    angle = inputs.checked_angle(rotation_angle)
    positions = inputs.checked_positions(positions, device)
    batch, points = inputs.checked_batch(batch, len(positions), positions.device)
    layout = Layout.of(points, ball_size, block_size, padding)
    samples = np.repeat(np.arange(len(points)), points)
    if ordering in ("morton", "hilbert"):
        first, second = _curves(ordering, positions, samples, bool(angle))
    elif ordering == "kmeans":
        first, second = _kmeans(positions, layout, bool(angle))
    else:
        first, second = _graph(positions, edges, samples, layout), None
    first = first.to(positions.device)
    order = first[torch.from_numpy(layout.fill()).to(first.device)]
    rotation = None
    if angle:
        rotation = _moved_on(layout) if second is None else _other_order(first, second.to(first.device), layout)
    return BallTree(
        order=order,
        mask=torch.from_numpy(layout.mask()).to(order.device),
        positions=positions[order],
        ball_size=ball_size,
        block_size=block_size,
        angle=angle,
        rotation=None if rotation is None else rotation.to(order.device),
        num_points=len(positions),
        batch=batch,
    )


def _curves(name, positions, samples, twice):
    along = lambda transposed: along_curve(name, positions, of_point, int(samples[-1]) + 1, transposed)
    of_point = torch.from_numpy(samples).to(positions.device)
    return along(False), along(True) if twice else None


def _kmeans(positions, layout, twice):
    points = positions.detach().double().cpu().numpy()
    by_means = lambda second: torch.from_numpy(kmeans_order(points, layout, second))
    return by_means(False), by_means(True) if twice else None


def _graph(positions, edges, samples, layout):
    points = positions.detach().double().cpu().numpy()
    edges = nearest_edges(points, samples) if edges is None else _checked_edges(edges, len(points))
    return torch.from_numpy(graph_order(points, edges, layout))


def _checked_edges(edges, num_points):
    edges = torch.as_tensor(edges)
    if edges.ndim != 2 or edges.shape[0] != 2 or edges.is_floating_point() or edges.dtype == torch.bool:
        raise BsavizError(f"edges must be integers of shape (2, E), got shape {tuple(edges.shape)} and {edges.dtype}")
    edges = edges.long().cpu().numpy()
    if edges.size and not 0 <= edges.min() <= edges.max() < num_points:
        raise BsavizError(
            f"edges must hold indices from 0 to {num_points - 1}, got {edges.min()} to {edges.max()}; give pairs of "
            "rows of positions"
        )
    return edges


def _other_order(first, second, layout):
    """Slot of the first order for each slot of the second, (B, N); both are orders of the points, padding stays."""
    slots = torch.from_numpy(layout.real_slots()).to(first.device)
    place = torch.empty_like(first)
    place[first] = torch.arange(len(first), device=first.device)
    rotation = torch.arange(layout.points.size * layout.width, device=first.device)
    rotation[slots] = slots[place[second]]
    return rotation.view(-1, layout.width) % layout.width


def _moved_on(layout):
    """Each sample's own slots, moved on by half a ball around their end, (B, N)."""
    slot, own = np.arange(layout.width)[None, :], layout.slots[:, None]
    moved = (slot + layout.ball_size // 2) % own
    return torch.from_numpy(np.where(slot < own, moved, slot))
