"""Partitions by clustering: every node is cut in two, each side its share of the points, until it is a block.

What differs is how the points of a node are lined up before the cut: along the line between two means (k-means), or by
how much nearer they are, along the edges of a graph, to one of its two ends than to the other. The cut itself is that
of the ball tree, so that balls and blocks nest and hold equal shares. numpy and scipy on the CPU, wherever the
positions are.
"""

import numpy as np

ROUNDS = 4  # of Lloyd's algorithm for one cut; the quotas leave it little to improve after that
NEIGHBOURS = 8


def bisect(layout, line_up):
    """Leaf order (P,) of recursive cuts.

    Parameters
    ----------
    layout : Layout
        Shares of the nodes; blocks are not cut, and keep the order of the last cut.
    line_up : callable
        ``line_up(points, node, left)`` gives a number for each of the `points`, of which those with the smallest ones
        go to the left child; `node` (P,) is the node of each, ascending, and `left` (nodes,) how many go left.
    """
    points = np.arange(layout.points.sum())
    place = np.arange(len(points))
    levels, leaves = layout.splits(layout.block_size)
    for starts, counts, left in levels:
        node = np.repeat(np.arange(len(counts)), counts)
        is_cut = ((left > 0) & (left < counts))[node]
        points = points[np.lexsort((np.where(is_cut, line_up(points, node, left), place), node))]
        goes_left = place < (starts + left)[node]
        points = np.concatenate([points[goes_left], points[~goes_left]])
    return points[np.argsort(np.repeat(leaves.places, leaves.counts), kind="stable")]


def kmeans_order(positions, layout, second=False):
    """Leaf order of balanced bisecting k-means (P,).

    Each node is cut by 2-means with a quota: given two centres, the cut of least squared distance that gives each its
    share sends left the points of smallest projection on the line between the centres; the centres move to the means
    of their sides, a few times over. It starts from the node's direction of largest variance.

    Parameters
    ----------
    positions : (P, D) array
    layout : Layout
    second : bool
        Start from the direction of second largest variance: another local optimum, for the odd layers.
    """

    def line_up(points, node, left):
        x, counts = positions[points], np.bincount(node)
        x = x - (_sums(x, node) / counts[:, None])[node]
        direction = _principal(x, node, 1 + second)
        starts, place = counts.cumsum() - counts, np.arange(len(points))
        cut = (left > 0) & (left < counts)
        for _ in range(ROUNDS):
            along = (x * direction[node]).sum(1)
            goes_left = np.empty(len(points), dtype=bool)
            goes_left[np.lexsort((along, node))] = place < (starts + left)[node]
            total_left = _sums(x * goes_left[:, None], node)
            # the points are centred on their node, so the two sides' sums are opposite
            between = -total_left * (1 / np.maximum(left, 1) + 1 / np.maximum(counts - left, 1))[:, None]
            direction = np.where(cut[:, None] & between.any(1, keepdims=True), between, direction)
        return (x * direction[node]).sum(1)

    return bisect(layout, line_up)


def graph_order(positions, edges, layout):
    """Leaf order (P,) of recursive cuts of a graph by the distance along its edges.

    Of each connected part of a node the two ends are found, as the point farthest from the one of largest first
    coordinate, and the one farthest from that; its points are lined up by the difference of their distances to the two.
    Parts that no edge connects follow each other along the node's widest axis.

    Parameters
    ----------
    positions : (P, D) array
    edges : (2, E) int64 array
        Pairs of points, in any direction; each counts with its length.
    layout : Layout
    """
    from scipy.sparse import coo_matrix  # here, since scipy takes a while to import
    from scipy.sparse.csgraph import connected_components, dijkstra

    tails, heads, lengths = _once(positions, edges)

    def line_up(points, node, left):
        nonlocal tails, heads, lengths
        node_of_point = np.empty(len(points), dtype=np.int64)
        node_of_point[points] = node
        inside = node_of_point[tails] == node_of_point[heads]
        tails, heads, lengths = tails[inside], heads[inside], lengths[inside]
        graph = coo_matrix((lengths, (tails, heads)), shape=(len(points),) * 2).tocsr()
        parts, part = connected_components(graph, directed=False)
        away = lambda sources: dijkstra(graph, directed=False, indices=sources, min_only=True)
        one_end = _farthest(away(_farthest(positions[:, 0], part)), part)
        from_one_end = away(one_end)
        across = from_one_end - away(_farthest(from_one_end, part))
        beside = _along_widest(positions, points, node, part, parts)
        ranked = np.lexsort((across[points], part[points], beside[part[points]], node))
        rank = np.empty(len(points))
        rank[ranked] = np.arange(len(points))
        return rank

    return bisect(layout, line_up)


def nearest_edges(positions, samples, count=NEIGHBOURS):
    """Edges (2, E) from every point to the `count` nearest of its sample."""
    from scipy.spatial import cKDTree

    edges = []
    for sample in range(int(samples[-1]) + 1):
        first, last = np.searchsorted(samples, [sample, sample + 1])
        near = min(count, last - first - 1)
        if near > 0:
            found = cKDTree(positions[first:last]).query(positions[first:last], near + 1)[1][:, 1:]
            edges.append(np.stack([np.repeat(np.arange(last - first), near), found.reshape(-1)]) + first)
    return np.concatenate(edges, axis=1) if edges else np.zeros((2, 0), dtype=np.int64)


def _sums(x, group):
    """Sums (groups, D) of the rows of each group."""
    return np.stack([np.bincount(group, column) for column in x.T], axis=1)


def _principal(x, node, rank):
    """Direction of each node's `rank`-th largest variance, its largest component positive."""
    dim = x.shape[1]
    products = [np.bincount(node, x[:, i] * x[:, j]) for i in range(dim) for j in range(dim)]
    vectors = np.linalg.eigh(np.stack(products, axis=1).reshape(-1, dim, dim))[1]
    direction = vectors[:, :, -min(rank, dim)]
    largest = np.take_along_axis(direction, abs(direction).argmax(1)[:, None], axis=1)
    return direction * np.where(largest < 0, -1, 1)


def _once(positions, edges):
    """Each edge once, without loops, with its length; coincident points are a hair apart, since 0 means no edge."""
    pairs = np.unique(np.sort(edges, axis=0), axis=1)
    tails, heads = pairs[:, pairs[0] != pairs[1]]
    lengths = np.linalg.norm(positions[tails] - positions[heads], axis=1)
    return tails, heads, np.maximum(lengths, np.finfo(np.float64).tiny)


def _farthest(distance, part):
    """The point of each part with the largest distance, the last of equals."""
    order = np.lexsort((distance, part))
    return order[np.append(np.flatnonzero(np.diff(part[order])), len(order) - 1)]


def _along_widest(positions, points, node, part, parts):
    """Where the mean of each part lies along the widest axis of its node."""
    x, starts = positions[points], np.searchsorted(node, np.arange(node[-1] + 1))
    widest = (np.maximum.reduceat(x, starts) - np.minimum.reduceat(x, starts)).argmax(1)
    along = x[np.arange(len(x)), widest[node]]
    return np.bincount(part[points], along, parts) / np.bincount(part, minlength=parts)
