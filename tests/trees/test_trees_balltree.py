"""What one does with a tree: to leaf order and back, nodes, the rotated tree, trees made elsewhere."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsaviz import BallTree as FromThePackage
from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree


@pytest.fixture
def tree():
    positions = torch.randn(300, 3, generator=torch.Generator().manual_seed(3))
    batch = torch.repeat_interleave(torch.tensor([190, 110]))
    return BallTree.build(positions, batch, ball_size=32, block_size=4, rotation_angle=45)


def test_the_package_offers_it():
    assert FromThePackage is BallTree


def test_gather_and_scatter_round_trip(tree):
    for shape in ((300,), (300, 5), (300, 2, 3)):
        x = torch.randn(shape)
        assert tree.gather(x).shape == (*tree.order.shape, *shape[1:])
        assert torch.equal(tree.scatter(tree.gather(x)), x)
    labels = torch.arange(300)
    assert torch.equal(tree.scatter(tree.gather(labels)), labels)


def test_inverse_is_the_slot_of_each_point(tree):
    flat = tree.order.view(-1)
    assert torch.equal(flat[tree.inverse], torch.arange(300))
    assert tree.mask.view(-1)[tree.inverse].all()


def test_gather_and_scatter_are_differentiable(tree):
    x = torch.randn(300, 2, requires_grad=True, dtype=torch.float64)
    weight = torch.randn(300, 2, dtype=torch.float64)
    (tree.scatter(tree.gather(x)) * weight).sum().backward()
    assert torch.equal(x.grad, weight)
    y = torch.randn(*tree.order.shape, requires_grad=True)
    tree.scatter(y).sum().backward()
    assert torch.equal(y.grad, tree.mask.float())


def test_positions_keep_their_gradient_and_precision():
    positions = torch.randn(40, 2, dtype=torch.float64, requires_grad=True)
    tree = BallTree.build(positions, ball_size=16, block_size=4)
    tree.positions[tree.mask].sum().backward()
    assert tree.positions.dtype == torch.float64
    assert torch.equal(positions.grad, torch.ones(40, 2, dtype=torch.float64))
    assert BallTree.build(torch.randn(40, 2).half(), ball_size=16, block_size=4).positions.dtype == torch.float32
    assert BallTree.build(np.zeros((40, 2), dtype=np.float32), ball_size=16, block_size=4).num_points == 40


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.sampled_from([2, 3]), st.sampled_from([1, 2, 4, 8, 16, 32]), st.integers(0, 10**6))
def test_nodes_cover_their_points(count, dim, size, seed):
    positions = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tree = BallTree.build(positions, ball_size=32, block_size=8)
    nodes = tree.nodes(size)
    points, real = tree.positions.unflatten(1, (-1, size)), tree.mask.unflatten(1, (-1, size))
    distance = (points - nodes.centers[:, :, None]).norm(dim=-1)
    assert (distance <= nodes.radii[..., None] * (1 + 1e-12) + 1e-12)[real].all()
    assert torch.equal(nodes.counts, real.sum(dim=2))
    assert nodes.radii.shape == nodes.counts.shape == nodes.centers.shape[:2]
    assert (nodes.radii[nodes.counts < 2] <= 1e-12).all()
    assert nodes.centers.isfinite().all()
    means = torch.stack([points[0, i][real[0, i]].mean(dim=0) for i in range(points.shape[1]) if real[0, i].any()])
    assert torch.allclose(nodes.centers[0][nodes.counts[0] > 0], means)


def test_nodes_by_hand():
    positions = torch.tensor([[0.0, 0], [2, 0], [10, 0], [10, 4]])
    nodes = BallTree.build(positions, ball_size=4, block_size=2).nodes(2)
    assert nodes.centers.tolist() == [[[1, 0], [10, 2]]]
    assert nodes.radii.tolist() == [[1, 2]]
    assert nodes.counts.tolist() == [[2, 2]]


def test_small_balls_far_from_the_origin_keep_their_radius():
    near = torch.rand(64, 3, generator=torch.Generator().manual_seed(0)).mul(64).round()
    trees = [BallTree.build(x, ball_size=64, block_size=8) for x in (near, near + 4096)]
    assert torch.allclose(trees[0].nodes(8).radii, trees[1].nodes(8).radii, rtol=1e-6)


def test_rotated_is_a_tree_of_its_own(tree):
    rotated = tree.rotated
    x = torch.randn(300, 4)
    assert torch.equal(rotated.scatter(rotated.gather(x)), x)
    leaf = tree.gather(x)
    assert torch.equal(leaf.gather(1, tree.rotation[..., None].expand_as(leaf)), rotated.gather(x))
    assert (rotated.ball_size, rotated.block_size, rotated.num_points) == (32, 4, 300)
    assert rotated.rotation is None
    assert tree.rotated is rotated


def test_rotated_balls_differ_and_their_blocks_are_as_tight_as_the_main_ones():
    positions = torch.rand(8192, 3, generator=torch.Generator().manual_seed(0))
    ours = BallTree.build(positions, rotation_angle=45)
    members = lambda tree: {frozenset(ball.tolist()) for ball in tree.order[0].view(-1, 256)}
    assert not members(ours) & members(ours.rotated)
    blocks = ours.nodes(8).radii.mean()
    assert ours.rotated.nodes(8).radii.mean() < 1.1 * blocks
    published = BallTree.build(positions, rotation_angle=45, rotate_to="ball")
    assert published.rotated.nodes(8).radii.mean() > 1.5 * blocks
    assert members(published.rotated) == members(ours.rotated)


def test_no_rotation():
    for angle in (None, 0):
        tree = BallTree.build(torch.rand(20, 3), ball_size=8, block_size=4, rotation_angle=angle)
        assert tree.rotation is None
        assert tree.angle == 0.0
        with pytest.raises(BsavizError, match="no rotated tree; build it with rotation_angle=45"):
            _ = tree.rotated


def test_frozen_and_movable(tree):
    with pytest.raises(FrozenInstanceError):
        tree.angle = 3.0
    moved = tree.to("meta")
    assert {x.device.type for x in (moved.order, moved.mask, moved.positions, moved.rotation, moved.batch)} == {"meta"}
    assert moved.num_points == tree.num_points
    assert torch.equal(tree.to("cpu").inverse, tree.inverse)


def test_from_arrays_restores_a_tree(tree):
    flat = tree.scatter(tree.positions)
    for positions in (flat, tree.positions):
        again = BallTree.from_arrays(
            tree.order.numpy(), tree.mask.numpy(), positions, ball_size=32, block_size=4, rotation=tree.rotation.numpy()
        )
        for name in ("order", "mask", "positions", "rotation", "batch", "inverse"):
            assert torch.equal(getattr(again, name), getattr(tree, name)), name
        assert (again.num_points, again.angle) == (300, 45.0)


def test_from_arrays_takes_one_sample_without_its_batch_axis():
    tree = BallTree.from_arrays([1, 0, 2, 2], [True, True, True, False], torch.rand(3, 3), ball_size=4, block_size=2)
    assert tree.order.tolist() == [[1, 0, 2, 2]]
    assert tree.batch is None
    assert tree.angle == 0.0
    assert tree.inverse.tolist() == [1, 0, 2]


def test_use_with_rows_of_another_cloud_is_refused(tree):
    with pytest.raises(BsavizError, match=r"gather expects one row for each of the 300 points, got shape \(299, 2\)"):
        tree.gather(torch.zeros(299, 2))
    with pytest.raises(BsavizError, match=r"scatter expects .* \(B, N\) = \(2, 192\), got shape \(2, 300\)"):
        tree.scatter(torch.zeros(2, 300))
    for size in (5, 0, 4.0):
        with pytest.raises(BsavizError, match=f"size must divide the 192 slots of a sample, got {size}"):
            tree.nodes(size)
