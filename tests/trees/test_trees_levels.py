"""Coarse levels of a tree, and their rotated orders."""

import pytest
import torch

from bsaviz.trees import BallTree, levels
from bsaviz.trees.levels import coarse_rotations, coarsen, with_rotation
from bsaviz.trees.rotation import rotate

POINTS = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
BATCH = torch.arange(200) // 120


def rotated_tree(published=False, batch=BATCH):
    padding = "power_of_two" if published else "multiple"
    tree = BallTree.build(POINTS, batch, ball_size=32, block_size=8, padding=padding)
    return with_rotation(tree, 45.0, 8, published=published)


def test_a_coarse_slot_lies_at_the_mean_of_its_real_slots():
    positions = torch.tensor([[[0.0, 0], [2, 4], [6, 6], [9, 9], [1, 1], [1, 3]]])
    mask = torch.tensor([[True, True, True, False, False, False]])
    places, real = coarsen(positions, mask, 2)
    assert torch.equal(places, torch.tensor([[[1.0, 2], [6, 6], [1, 2]]]))
    assert torch.equal(real, torch.tensor([[True, True, False]]))
    places, real = coarsen(positions, None, 3)
    torch.testing.assert_close(places[0, 0], torch.tensor([8 / 3, 10 / 3]))
    assert real is None


@pytest.mark.parametrize("published", [False, True])
def test_rotated_orders_are_permutations_that_leave_padding_in_place(published):
    tree = rotated_tree(published)
    mask = tree.mask
    for stride, rotation in zip(
        (1, 2, 8), (tree.rotation, *coarse_rotations(tree, (2, 4), (8, 4), published=published))
    ):
        slots = torch.arange(rotation.shape[1]).expand_as(rotation)
        assert torch.equal(rotation.sort(1).values, slots)
        real = mask.unflatten(1, (-1, stride)).any(-1)
        assert published or torch.equal(rotation[~real], slots[~real])
        assert not torch.equal(rotation[real], slots[real])


def test_balls_of_a_rotated_level_are_parted_by_the_turned_axes():
    tree = rotated_tree(batch=None)
    places = coarsen(tree.positions, tree.mask, 2)[0][0]
    (rotation,) = coarse_rotations(tree, (2,), (56,))
    turned = torch.stack(rotate(list(places.T), 45.0), dim=1)
    widest = (turned.amax(0) - turned.amin(0)).argmax()
    halves = turned[rotation[0], widest].split(56)
    assert halves[0].max() <= halves[1].min()


def test_the_same_orders_are_given_again():
    tree = rotated_tree()
    first = coarse_rotations(tree, (2,), (8,))
    assert coarse_rotations(tree, (2,), (8,))[0] is first[0]
    assert coarse_rotations(tree, (2,), (4,))[0] is not first[0]


def test_other_devices_find_the_same_order(monkeypatch):
    tree = rotated_tree()
    here = (tree.rotation, *coarse_rotations(tree, (2, 4), (8, 4)))
    monkeypatch.setattr(levels, "_by_numpy", levels._by_kernels)
    again = rotated_tree()
    there = (again.rotation, *coarse_rotations(again, (2, 4), (8, 4)))
    assert all(torch.equal(one, other) for one, other in zip(here, there, strict=True))
