"""Colours that tell neighbouring nodes of a tree apart, for any colour vision."""

import numpy as np
from scipy.spatial import cKDTree

# Okabe and Ito's colours, with a light and a dark grey for the nodes that touch more than six others.
DISTINCT = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#D55E00", "#BBBBBB", "#555555")
NEIGHBOURS = 8


def touching(positions):
    """Pairs of near points, as two arrays of indices: each point with its nearest ones.

    Parameters
    ----------
    positions : array (P, D)
    """
    count = min(NEIGHBOURS + 1, len(positions))
    near = cKDTree(positions).query(positions, k=count)[1]
    return np.repeat(np.arange(len(positions)), count), near.reshape(-1)


def distinct(node, pairs):
    """Colour of every node, as a row of `DISTINCT`, so that touching nodes differ, wherever the palette allows it.

    Nodes take turns: in each round, those that come before all their uncoloured neighbours in a fixed random order take
    the first colour that no neighbour has (Jones and Plassmann, 1993). A node all of whose neighbours use up the
    palette gets a colour by its number.

    Parameters
    ----------
    node : array (P,) int64
        Node of each point, 0, 1, ...
    pairs : (array, array)
        Near points, of `touching`.

    Returns
    -------
    array (nodes,) int64
    """
    count = int(node.max()) + 1
    a, b = (node[points] for points in pairs)
    edges = np.unique((a * count + b)[a != b])
    a, b = edges // count, edges % count
    a, b = np.concatenate([a, b]), np.concatenate([b, a])
    turn = np.random.default_rng(0).permutation(count)
    colour = np.full(count, -1)
    while (colour < 0).any():
        waiting = (colour[a] < 0) & (colour[b] < 0)
        blocked = np.zeros(count, bool)
        blocked[a[waiting & (turn[a] < turn[b])]] = True
        ready = (colour < 0) & ~blocked
        colour[ready] = _first_free(colour, a, b, ready)
    return colour


def _first_free(colour, a, b, ready):
    """The first colour of each ready node that none of its neighbours has."""
    used = np.zeros((len(colour), len(DISTINCT)), bool)
    taken = ready[a] & (colour[b] >= 0)
    used[a[taken], colour[b[taken]]] = True
    used = used[ready]
    return np.where(used.all(1), np.flatnonzero(ready) % len(DISTINCT), used.argmin(1))
