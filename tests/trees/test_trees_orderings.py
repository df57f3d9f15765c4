"""Orderings behind one face: partitions of equal shares, each by its own rule."""

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees import ORDERINGS, BallTree, order_points
from bsaviz.trees.orderings_curves import CODES, along_curve, grid_cells, hilbert_code, morton_code


def cloud(num_points, dim=3, seed=0):
    return torch.rand(num_points, dim, generator=torch.Generator().manual_seed(seed))


def ordered(points, ordering, batch=None, **options):
    options = dict(ball_size=32, block_size=8, rotation_angle=45) | options
    return order_points(points, batch, ordering=ordering, **options)


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("ordering", ORDERINGS)
@pytest.mark.parametrize("num_points", [1, 5, 33, 203])
def test_every_ordering_is_a_partition_with_equal_shares(ordering, num_points, dim):
    points = cloud(num_points, dim)
    tree = ordered(points, ordering)
    for own in (tree, tree.rotated):
        assert own.order[own.mask].sort().values.equal(torch.arange(num_points))
        assert own.positions.equal(points[own.order])
        assert own.gather(points)[own.mask].sum(0).allclose(points.sum(0))
        assert own.scatter(own.gather(points)).equal(points)
        shares = own.nodes(32).counts[0]
        assert shares.max() - shares.min() <= 1
    assert tree.rotation.sort().values.equal(torch.arange(tree.order.shape[1])[None])


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_a_batch_orders_each_sample_as_it_would_be_alone(ordering):
    clouds = [cloud(203), cloud(90, seed=1), cloud(40, seed=2) * 100]
    batch = torch.arange(3).repeat_interleave(torch.tensor([203, 90, 40]))
    together = ordered(torch.cat(clouds), ordering, batch)
    first = 0
    for row, points in enumerate(clouds):
        alone = ordered(points, ordering)
        own = alone.order.shape[1]
        assert together.order[row, :own].equal(alone.order[0] + first)
        assert together.mask[row, :own].equal(alone.mask[0])
        assert not together.mask[row, own:].any()
        assert together.rotation[row, :own].equal(alone.rotation[0])
        first += len(points)


@pytest.mark.parametrize("ordering", ["morton", "hilbert", "kmeans", "graph"])
def test_balls_are_far_tighter_than_those_of_a_shuffled_cloud(ordering):
    tree = ordered(cloud(1024), ordering)
    shuffled = BallTree.from_arrays(
        torch.randperm(1024, generator=torch.Generator().manual_seed(0)), torch.ones(1024, dtype=torch.bool),
        cloud(1024), ball_size=32, block_size=8,
    )  # fmt: skip
    assert tree.nodes(32).radii.mean() < 0.6 * shuffled.nodes(32).radii.mean()
    assert tree.nodes(8).radii.mean() < 0.4 * shuffled.nodes(8).radii.mean()


@pytest.mark.parametrize("ordering", ORDERINGS)
def test_the_second_order_joins_points_that_the_first_keeps_apart(ordering):
    tree = ordered(cloud(1024), ordering)
    ball, other = tree.inverse // 32, tree.rotated.inverse // 32
    together = ball[:, None] == ball
    kept = (together & (other[:, None] == other)).sum() / together.sum()
    assert kept < 0.8
    assert tree.rotated.nodes(32).radii.mean() < 1.6 * tree.nodes(32).radii.mean()


@pytest.mark.parametrize("dim", [2, 3])
def test_a_curve_passes_every_cell_once_and_hilbert_only_steps_to_neighbours(dim):
    cells = torch.cartesian_prod(*[torch.arange(8)] * dim)
    for code in CODES.values():
        assert code(cells, 3).sort().values.equal(torch.arange(8**dim))
    passed = cells[hilbert_code(cells, 3).argsort()]
    assert ((passed[1:] - passed[:-1]).abs().sum(1) == 1).all()


def test_morton_interleaves_the_bits():
    # x = 0b10, y = 0b11, z = 0b01: levels 110, 011
    assert morton_code(torch.tensor([[2, 3, 1]]), 2).item() == 0b110011


def test_the_transposed_curve_is_the_curve_of_the_swapped_axes():
    points, one = cloud(300), torch.zeros(300, dtype=torch.int64)
    for name in CODES:
        swapped = along_curve(name, points[:, [1, 0, 2]], one, 1)
        assert along_curve(name, points, one, 1, transposed=True).equal(swapped)
        assert not along_curve(name, points, one, 1).equal(swapped)


def test_the_grid_is_cubic_and_each_sample_has_its_own():
    points = torch.tensor([[0.0, 0, 0], [4, 2, 1], [10, 10, 10], [10, 10, 12]])
    cells = grid_cells(points, torch.tensor([0, 0, 1, 1]), 2, 2)
    assert cells.tolist() == [[0, 0, 0], [3, 2, 1], [0, 0, 0], [0, 0, 3]]


def test_kmeans_finds_clusters_that_no_axis_separates():
    # four clusters of 32 along a diagonal band: cuts along an axis would split them, means do not
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    centres = torch.tensor([[-1.5, 0.0], [-0.5, 0.0], [0.5, 0.0], [1.5, 0.0]])
    points = (centres.repeat_interleave(32, 0) + cloud(128, 2) * torch.tensor([0.3, 4.0])) @ turn.T
    shuffle = torch.randperm(128, generator=torch.Generator().manual_seed(1))
    tree = ordered((points * 0.2)[shuffle], "kmeans", rotation_angle=None)
    best = ordered((points * torch.tensor([0.2, 0.2]))[shuffle], "balltree", rotation_angle=None)
    spread = lambda tree: tree.nodes(32).radii.square().sum()
    assert spread(tree) < spread(best)


def test_kmeans_with_equal_quotas_separates_blobs_exactly():
    blobs = torch.randperm(4 * 32, generator=torch.Generator().manual_seed(0)) // 32
    points = torch.tensor([[0.0, 0], [9, 1], [1, 9], [9, 9]])[blobs] + cloud(128, 2)
    tree = ordered(points, "kmeans")
    for own in (tree, tree.rotated):
        assert (blobs[own.order].view(4, 32) == blobs[own.order].view(4, 32)[:, :1]).all()


def test_a_folded_chain_is_cut_along_its_bonds_not_through_space():
    # a hairpin of two strands a hair apart: balls in space would hold both strands
    steps = torch.arange(64.0)
    strand = torch.stack([steps, torch.zeros(64), torch.zeros(64)], 1)
    points = torch.cat([strand, strand.flip(0) + torch.tensor([0, 0.1, 0])])
    shuffle = torch.randperm(128, generator=torch.Generator().manual_seed(0))
    place = shuffle.argsort()
    bonds = torch.stack([place[:-1], place[1:]])
    tree = ordered(points[shuffle], "graph", edges=bonds, block_size=32)
    along_chain = shuffle[tree.order].view(4, 32).sort(dim=1).values
    assert (along_chain[:, -1] - along_chain[:, 0] == 31).all()
    other = shuffle[tree.rotated.order].view(4, 32).sort(dim=1).values
    assert (other[:3, -1] - other[:3, 0] > 31).any()


def test_graph_parts_without_a_bond_between_them_stay_whole():
    left, right = cloud(32), cloud(32, seed=1) + 0.5
    chain = torch.arange(31)
    bonds = torch.cat([torch.stack([chain, chain + 1]), torch.stack([chain, chain + 1]) + 32], 1)
    tree = ordered(torch.cat([left, right]), "graph", edges=bonds)
    assert {tuple(sorted(set((ball // 32).tolist()))) for ball in tree.order.view(2, 32)} == {(0,), (1,)}


def test_repeated_and_reversed_bonds_and_coincident_points_change_nothing():
    points = cloud(64)
    points[5] = points[6]
    bonds = torch.stack([torch.arange(63), torch.arange(1, 64)])
    again = torch.cat([bonds, bonds.flip(0), torch.tensor([[3], [3]])], 1)
    assert ordered(points, "graph", edges=bonds).order.equal(ordered(points, "graph", edges=again).order)


def test_without_an_angle_there_is_no_second_order():
    for ordering in ORDERINGS:
        assert ordered(cloud(40), ordering, rotation_angle=None).rotation is None


def test_double_precision_is_kept_and_padding_may_go_to_a_power_of_two():
    tree = ordered(cloud(70).double(), "hilbert", padding="power_of_two")
    assert tree.positions.dtype == torch.float64
    assert tree.order.shape[1] == 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(ordering="peano"), "ordering must be one of 'balltree', 'morton', .* got 'peano'"),
        (dict(ordering="morton", edges=[[0], [1]]), "edges are read by ordering='graph' alone, got ordering='morton'"),
        (dict(ordering="graph", edges=np.zeros((3, 2), int)), r"edges must be integers of shape \(2, E\), got"),
        (dict(ordering="graph", edges=[[0.0], [1.0]]), "edges must be integers"),
        (dict(ordering="graph", edges=[[0], [40]]), "edges must hold indices from 0 to 39, got 0 to 40"),
        (dict(ordering="hilbert", ball_size=30), "ball_size must be a multiple of block_size, got 30 and 8"),
        (dict(ordering="kmeans", padding="none"), "padding must be one of"),
        (dict(ordering="kmeans", rotation_angle="some"), "rotation_angle must be a number"),
    ],
)
def test_errors_say_what_to_do(options, message):
    with pytest.raises(BsavizError, match=message):
        order_points(cloud(40), **(dict(ball_size=32, block_size=8) | options))
