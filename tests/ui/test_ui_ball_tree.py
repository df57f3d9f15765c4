"""The ball-tree explorer without a browser: what is drawn, told and refused."""

import numpy as np
import pytest
import torch
from ui_cases import bar, marks, tints, tiny_car, titles

from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree
from bsaviz.ui import BallTreeExplorer
from bsaviz.ui.palette import distinct, touching


@pytest.fixture
def explorer():
    with_it = BallTreeExplorer(tiny_car(), ball_size=32, block_size=4)
    yield with_it
    with_it.close()


def test_balls_of_the_picture_are_those_of_the_tree(explorer):
    tree = BallTree.build(torch.as_tensor(explorer.car.positions), ball_size=32, block_size=4, rotation_angle=45.0)
    main, turned = explorer.orders
    np.testing.assert_array_equal(main.node, tree.inverse.numpy() // 32)
    np.testing.assert_array_equal(turned.node, tree.rotated.inverse.numpy() // 32)
    for panel, order in enumerate(explorer.orders):
        colours = tints(explorer.scene, panel)
        assert all(len(np.unique(colours[order.node == node], axis=0)) == 1 for node in np.unique(order.node))


def test_level_and_sizes_move_the_nodes(explorer):
    explorer.ball_size.value = 64
    assert explorer.level.value == 64, "the level stays at the balls"
    assert explorer.orders[0].numbers()[0] == "4"
    explorer.level.value = 4
    assert explorer.orders[0].counts.size == 256 // 4
    assert titles(explorer.scene, 2)[0] == "Ball tree, nodes of 4"
    assert explorer.message.value == ""


def test_radii_and_padding_are_told_with_units(explorer):
    explorer.paint.value = "radius"
    label, low, high = bar(explorer.scene)
    nodes = BallTree.build(torch.as_tensor(explorer.car.positions), ball_size=32, block_size=4).nodes(32)
    assert (label, low) == ("radius (car lengths)", 0.0)
    assert high >= float(nodes.radii.max()) / explorer.car.length - 1e-6
    explorer.paint.value = "padding"
    held = explorer.orders[0].tree
    repeated = np.unique(held.order[~held.mask].numpy()).tolist()
    assert marks(explorer.scene)["#D55E00"] == repeated
    assert "Padding is never attended" in explorer.message.value
    assert "10.7 %" in explorer.numbers.value, "24 of 224 slots"


def test_leaf_order_runs_over_all_slots(explorer):
    explorer.paint.value = "order"
    assert bar(explorer.scene) == ("place in the leaf order (slot)", 0.0, 224.0)


@pytest.mark.parametrize("second", ["morton", "hilbert", "kmeans"])
def test_serialised_orders_stand_beside_the_tree(explorer, second):
    explorer.second.value = second
    assert explorer.problem is None
    assert len(np.unique(explorer.orders[1].place)) == explorer.car.num_points
    assert titles(explorer.scene, 2)[1].startswith(explorer.orders[1].name)


def test_a_picked_point_shows_its_node_in_both(explorer):
    explorer._pick(17, panel=1)
    for panel, order in enumerate(explorer.orders):
        assert marks(explorer.scene, panel)["#D55E00"] == np.flatnonzero(order.node == order.node[17]).tolist()
    assert "Point 17" in explorer.message.value


def test_problems_are_shown_in_place_and_it_goes_on(explorer):
    before = tints(explorer.scene).copy()
    explorer.ball_size.value = 256
    assert "larger than this cloud of 200; lower the ball size to 128 or less" in explorer.message.value
    np.testing.assert_array_equal(tints(explorer.scene), before)
    explorer.ball_size.value = 32
    explorer.block_size.value = 64
    assert "a block of 64 points does not divide a ball of 32" in explorer.message.value
    explorer.block_size.value = 4
    assert explorer.message.value == ""
    explorer.level.value = 64
    assert "set the padding to a power of two" in explorer.message.value
    explorer.padding.value = "power_of_two"
    assert explorer.message.value == ""
    assert explorer.orders[0].numbers()[0] == "4"


def test_a_flat_cloud_and_a_bad_one():
    flat = BallTreeExplorer(np.random.default_rng(0).normal(size=(60, 2)))
    assert flat.ball_size.value == 32
    assert flat.car.positions.shape == (60, 3)
    flat.close()
    with pytest.raises(BsavizError, match=r"points of shape \(P, 2\) or \(P, 3\), got list of shape \(2, 1\)"):
        BallTreeExplorer([[1.0], [2.0]])


@pytest.mark.parametrize("size", [4, 32])
def test_touching_nodes_differ_in_colour(size):
    car = tiny_car(1500)
    tree = BallTree.build(torch.as_tensor(car.positions), ball_size=32, block_size=4)
    node, (a, b) = tree.inverse.numpy() // size, touching(car.positions)
    colours = distinct(node, (a, b))[node]
    apart = node[a] != node[b]
    same = colours[a[apart]] == colours[b[apart]]
    assert same.mean() < 0.002, "the palette of nine is rarely used up"
