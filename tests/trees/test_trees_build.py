"""The partition itself: against its definition written as a recursion, and the properties people rely on."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import bsa_kernels
from bsaviz.trees import BallTree
from bsaviz.trees.layout import Layout
from bsaviz.trees.rotation import rotate, rotation_matrix


def by_recursion(points, ball_size, block_size):
    """Leaf order of one sample by the definition: one node after the other, sorted along its widest axis."""
    count = len(points)
    slots = -(-count // ball_size) * ball_size
    points = points.tolist()

    def split(held, first, size):
        if len(held) < 2:
            return held
        unit = ball_size if size > ball_size else block_size if size > block_size else 1
        half = -(-(size // unit) // 2) * unit
        left = count * (first + half) // slots - count * first // slots
        extents = [max(points[i][a] for i in held) - min(points[i][a] for i in held) for a in range(len(points[0]))]
        axis = extents.index(max(extents))
        held = sorted(held, key=lambda i: (points[i][axis], i))
        return split(held[:left], first, half) + split(held[left:], first + half, size - half)

    return split(list(range(count)), 0, slots)


@st.composite
def clouds(draw, max_samples=3, max_points=90):
    """Positions, batch, ball_size, block_size; coarse grids make many ties and duplicates."""
    sizes = draw(st.lists(st.integers(1, max_points), min_size=1, max_size=max_samples))
    dim = draw(st.sampled_from([2, 3]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    positions = torch.randn(sum(sizes), dim, generator=generator, dtype=dtype)
    if draw(st.booleans()):
        positions = (positions * 2).round()
    block_size = draw(st.sampled_from([1, 2, 3, 4, 6]))
    ball_size = block_size * draw(st.sampled_from([1, 2, 3, 5, 8]))
    return positions, torch.repeat_interleave(torch.tensor(sizes)), ball_size, block_size


options = st.fixed_dictionaries(
    {"padding": st.sampled_from(["multiple", "power_of_two"]), "rotate_to": st.sampled_from(["block", "ball"])}
)


@settings(max_examples=60, deadline=None)
@given(clouds(max_samples=1))
def test_the_order_is_that_of_the_recursion(cloud):
    positions, _, ball_size, block_size = cloud
    tree = BallTree.build(positions, ball_size=ball_size, block_size=block_size)
    assert tree.order[tree.mask].tolist() == by_recursion(positions, ball_size, block_size)


@settings(max_examples=60, deadline=None)
@given(clouds(), options)
def test_every_point_is_in_one_real_slot_of_its_own_sample(cloud, option):
    positions, batch, ball_size, block_size = cloud
    tree = BallTree.build(positions, batch, ball_size=ball_size, block_size=block_size, rotation_angle=45, **option)
    rows = torch.arange(len(tree.order))[:, None]
    for order, mask in ((tree.order, tree.mask), (tree.rotated.order, tree.rotated.mask)):
        assert torch.equal(order[mask].sort().values, torch.arange(len(positions)))
        assert (batch[order] == rows).all()
        assert torch.equal(mask.sum(dim=1), torch.bincount(batch))
    assert torch.equal(tree.positions, positions[tree.order])
    assert torch.equal(tree.rotated.positions, positions[tree.rotated.order])
    assert tree.order.shape[1] % ball_size == 0


@settings(max_examples=60, deadline=None)
@given(clouds(), options)
def test_rotation_permutes_the_slots_of_each_sample(cloud, option):
    positions, batch, ball_size, block_size = cloud
    tree = BallTree.build(positions, batch, ball_size=ball_size, block_size=block_size, rotation_angle=45, **option)
    slots = torch.arange(tree.order.shape[1])
    assert all(torch.equal(row.sort().values, slots) for row in tree.rotation)
    size = block_size if option["rotate_to"] == "block" else ball_size
    inside = tree.rotation.unflatten(1, (-1, size))
    inside = inside[tree.mask.unflatten(1, (-1, size)).all(dim=2)]
    assert (inside.diff(dim=-1) > 0).all()  # inside the last nodes the main tree's order remains
    if option["rotate_to"] == "block":
        assert torch.equal(tree.rotated.mask, tree.mask)


@settings(max_examples=40, deadline=None)
@given(clouds(), options)
def test_a_sample_of_a_batch_has_the_tree_it_has_alone(cloud, option):
    positions, batch, ball_size, block_size = cloud
    sizes = {"ball_size": ball_size, "block_size": block_size, "rotation_angle": 30.0, **option}
    tree = BallTree.build(positions, batch, **sizes)
    for sample in range(len(tree.order)):
        rows = (batch == sample).nonzero()[:, 0]
        alone = BallTree.build(positions[rows], **sizes)
        width = alone.order.shape[1]
        assert torch.equal(tree.order[sample, :width], rows[alone.order[0]])
        assert torch.equal(tree.rotation[sample, :width], alone.rotation[0])
        assert not tree.mask[sample, width:].any()


@settings(max_examples=40, deadline=None)
@given(clouds())
def test_real_points_are_spread_evenly(cloud):
    positions, batch, ball_size, block_size = cloud
    tree = BallTree.build(positions, batch, ball_size=ball_size, block_size=block_size)
    for sample, points in enumerate(torch.bincount(batch).tolist()):
        for size in (ball_size, block_size):
            own = tree.nodes(size).counts[sample, : -(-points // ball_size) * ball_size // size]
            assert own.max() - own.min() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 200), st.integers(0, 10**6))
def test_permuting_the_input_permutes_the_order(count, seed):
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(count, 3, generator=generator, dtype=torch.float64)
    shuffle = torch.randperm(count, generator=generator)
    sizes = {"ball_size": 32, "block_size": 4, "rotation_angle": 45}
    tree, shuffled = BallTree.build(positions, **sizes), BallTree.build(positions[shuffle], **sizes)
    assert torch.equal(shuffle[shuffled.order], tree.order)
    assert torch.equal(shuffled.rotation, tree.rotation)


@settings(max_examples=60, deadline=None)
@given(clouds(), options)
def test_the_operator_of_other_devices_makes_the_same_tree(cloud, option):
    positions, batch, ball_size, block_size = cloud
    sizes = {"ball_size": ball_size, "block_size": block_size}
    tree = BallTree.build(positions, batch, rotation_angle=45, **sizes, **option)
    points = torch.bincount(batch).tolist()
    slots = Layout.of(points, ball_size, block_size, option["padding"]).slots
    matrix = rotation_matrix(45.0, positions.shape[1])
    turn = {"rotation": matrix, "rotate_to": option["rotate_to"]}
    theirs = bsa_kernels.build_ball_tree(positions, points, slots=slots, **turn, **sizes)
    for name in ("order", "mask", "rotation"):
        assert torch.equal(getattr(theirs, name), getattr(tree, name)), name
    turned = rotate(positions.numpy().T, 45.0)
    assert all((a == b.numpy()).all() for a, b in zip(turned, rotate(positions.T, 45.0)))


def test_minus_zero_is_zero():
    positions = torch.tensor([[0.0, 0.0], [-0.0, 0.0], [0.0, -0.0], [-0.0, 0.0]])
    for dtype in (torch.float32, torch.float64):
        tree = BallTree.build(positions.to(dtype), ball_size=4, block_size=2, rotation_angle=45)
        assert tree.order.tolist() == tree.rotation.tolist() == [[0, 1, 2, 3]]


DEGENERATE = {
    "one point": torch.ones(1, 3),
    "equal": torch.full((300, 3), 0.25),
    "collinear": torch.linspace(0, 1, 300)[:, None] * torch.tensor([1.0, 2.0, 3.0]),
    "along an axis": torch.linspace(0, 1, 300)[:, None] * torch.tensor([0.0, 0.0, 1.0]),
    "planar": torch.cat([torch.rand(300, 2, generator=torch.Generator().manual_seed(1)), torch.zeros(300, 1)], dim=1),
    "each twice": torch.rand(150, 3, generator=torch.Generator().manual_seed(2)).repeat(2, 1),
    "huge": torch.tensor([[-3e38, 0, 0], [3e38, 0, 0], [0, 3e38, 1]]),
    "tiny": torch.tensor([[1e-45, 0, 0], [0, 0, 0], [0, 1e-45, 0]]),
}


@pytest.mark.parametrize("cloud", DEGENERATE)
@pytest.mark.parametrize("padding", ["multiple", "power_of_two"])
def test_degenerate_clouds(cloud, padding):
    positions = DEGENERATE[cloud]
    tree = BallTree.build(positions, ball_size=64, block_size=8, rotation_angle=45, padding=padding)
    assert torch.equal(tree.order[tree.mask].sort().values, torch.arange(len(positions)))
    assert torch.equal(tree.scatter(tree.gather(positions)), positions)
    assert tree.rotated.mask.sum() == len(positions)


def test_points_on_a_line_come_out_sorted():
    values = torch.rand(300, generator=torch.Generator().manual_seed(0))
    tree = BallTree.build(torch.stack([values, torch.zeros(300)], dim=1), ball_size=64, block_size=8)
    assert torch.equal(values[tree.order[tree.mask]], values.sort().values)


@pytest.mark.parametrize(("points", "padding", "slots"), [
    (1, "multiple", 256), (256, "multiple", 256), (257, "multiple", 512), (3586, "multiple", 3840),
    (1, "power_of_two", 256), (257, "power_of_two", 512), (600, "power_of_two", 1024), (3586, "power_of_two", 4096),
])  # fmt: skip
def test_slots(points, padding, slots):
    tree = BallTree.build(torch.rand(points, 3), padding=padding)
    assert tree.order.shape == (1, slots)


@pytest.mark.parametrize("points", [130, 200, 255])
def test_padding_repeats_the_neighbour(points):
    """Two slots of one real point hold it twice, as in the published trees: unmasked padding then does no harm."""
    tree = BallTree.build(torch.rand(points, 3), ball_size=64, block_size=8, padding="power_of_two")
    pairs, real = tree.order.view(-1, 2), tree.mask.view(-1, 2)
    assert real.any(dim=1).all()
    assert (pairs[:, 0] == pairs[:, 1])[~real.all(dim=1)].all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("rotate_to", ["block", "ball"])
@pytest.mark.parametrize("padding", ["multiple", "power_of_two"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_tree_is_the_same_on_cuda(rotate_to, padding, dtype):
    positions = torch.randn(5000, 3, dtype=dtype, generator=torch.Generator().manual_seed(0))
    positions[1000:2000] = (positions[1000:2000] * 4).round()
    batch = torch.repeat_interleave(torch.tensor([3586, 1, 1413]))
    sizes = {"rotation_angle": 45, "padding": padding, "rotate_to": rotate_to}
    here, there = BallTree.build(positions, batch, **sizes), BallTree.build(positions, batch, device="cuda", **sizes)
    for name in ("order", "mask", "positions", "rotation", "inverse"):
        assert getattr(there, name).is_cuda
        assert torch.equal(getattr(there, name).cpu(), getattr(here, name)), name
