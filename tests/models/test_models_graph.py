"""Graphs of neighbours, and messages over them."""

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.attention.mpnn import MessagePassing
from bsaviz.models import graph
from bsaviz.models.graph import neighbour_graph

POINTS = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
BATCH = torch.arange(60) // 35


def pairs(edges):
    return set(map(tuple, edges.T.tolist()))


def expected(wanted):
    """Pairs of the dense matrix of distances that `wanted` keeps, sample by sample."""
    kept = set()
    for start, end in ((0, 35), (35, 60)):
        distance = torch.cdist(POINTS[start:end].double(), POINTS[start:end].double())
        for i, row in enumerate(distance):
            kept |= {(start + int(j), start + i) for j in wanted(row)}
    return kept


@pytest.mark.parametrize("by", ["tree", "distance"])
@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (dict(neighbours=5), lambda row: row.argsort()[:5]),
        (dict(neighbours=1), lambda row: row.argsort()[:1]),
        (dict(radius=0.8), lambda row: (row <= 0.8).nonzero()[:, 0]),
    ],
)
def test_the_neighbours_are_those_of_the_matrix_of_distances(by, settings, wanted, monkeypatch):
    if by == "distance":  # what other devices do, a few receivers at a time
        monkeypatch.setattr(graph, "_by_tree", graph._by_distance)
        monkeypatch.setattr(graph, "_PAIRS", 100)
    edges = neighbour_graph(POINTS, BATCH, **settings)
    assert pairs(edges) == expected(wanted)
    assert edges.shape[1] == len(pairs(edges))
    assert torch.equal(edges[1], edges[1].sort().values)


def test_a_sample_with_few_points_gets_them_all():
    assert pairs(neighbour_graph(POINTS[:3], neighbours=8)) == {(j, i) for j in range(3) for i in range(3)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(radius=-1.0), "radius must be a finite length above 0, got -1.0; leave it out for nearest neighbours"),
        (dict(neighbours=0), "neighbours must be an integer of at least 1, got 0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(BsavizError, match=message):
        neighbour_graph(POINTS, **settings)


def test_a_point_without_an_edge_gets_an_empty_message():
    torch.manual_seed(0)
    mpnn = MessagePassing(8, 1).double()
    x, edges = torch.randn(60, 8).double(), torch.tensor([[1], [0]])
    out = mpnn(x, POINTS.double(), edges)
    alone = x + mpnn.update_norm[0](mpnn.update[0](torch.cat([x, torch.zeros_like(x)], dim=1)))
    torch.testing.assert_close(out[1:], alone[1:])
    assert not torch.allclose(out[0], alone[0])


def test_messages_do_not_see_where_the_cloud_lies():
    torch.manual_seed(0)
    mpnn = MessagePassing(8, 2).double()
    edges = neighbour_graph(POINTS, neighbours=4)
    x = torch.randn(60, 8).double()
    torch.testing.assert_close(mpnn(x, POINTS.double() + 100, edges), mpnn(x, POINTS.double(), edges))


def test_messages_have_gradients():
    torch.manual_seed(0)
    mpnn = MessagePassing(4, 2).double()
    points = POINTS[:10].double()
    edges = neighbour_graph(points, neighbours=3)
    assert torch.autograd.gradcheck(lambda x: mpnn(x, points, edges), torch.randn(10, 4).double().requires_grad_())
