"""Trees against the published ones: radii, the rotation, and the file check itself."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.trees import BallTree
from bsaviz.trees.golden import check_tree_file, mean_radius
from bsaviz.trees.layout import Layout
from bsaviz.trees.partition import partition
from bsaviz.trees.rotation import rotate, rotation_matrix

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(os.environ.get("BSAVIZ_GOLDEN", ROOT.parent / "shared" / "golden"))


def golden(name):
    """Path of a reference file, or skip."""
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"no reference file {name}; set BSAVIZ_GOLDEN to the folder that holds it")
    return path


def test_radii_are_no_larger_than_published():
    rows = check_tree_file(golden("balltrees.npz"))
    assert len(rows) == 12
    assert {row.size for row in rows} == {8, 64, 256}
    assert all(row.ok for row in rows), rows


def test_radii_of_real_points_are_no_larger_than_published():
    file = np.load(golden("balltrees.npz"))
    for cloud in ("uniform1000", "car", "clusters", "plane"):
        order, mask, positions = (file[f"{cloud}/{name}"] for name in ("tree_idx", "tree_mask", "pos"))
        published = BallTree.from_arrays(order, mask, positions, ball_size=256, block_size=8)
        ours = BallTree.build(positions, padding="power_of_two")
        for size in (8, 64, 256):
            assert ours.nodes(size).radii.mean() <= 1.02 * published.nodes(size).radii.mean(), (cloud, size)


def test_the_definition_of_a_radius_is_that_of_the_file():
    file = np.load(golden("balltrees.npz"))
    for cloud in ("uniform1000", "car", "clusters", "plane"):
        slots = torch.from_numpy(file[f"{cloud}/pos"][file[f"{cloud}/tree_idx"]])[None].double()
        for size in (8, 64, 256):
            published = float(file[f"{cloud}/mean_radius_{size}"])
            assert float(mean_radius(slots, size)) == pytest.approx(published, rel=1e-6)


@pytest.mark.parametrize("name", ["transformer_bsa_car0.npz", "transformer_full_car0.npz"])
def test_rotated_balls_are_the_published_ones(name):
    """The published tree, turned by our rotation and split by our partition, falls into the published rotated balls."""
    file = np.load(golden(name))
    slots = file["pos"][file["tree_idx"]]
    ball_size = json.loads(str(file["config"]))["ball_size"]
    ours = partition(rotate(slots.T, 45.0), Layout.of([len(slots)], ball_size, 8, "multiple"), stop=ball_size)
    published = file["rotated_perm"]
    shared = [
        len(set(a.tolist()) & set(b.tolist()))
        for a, b in zip(ours.reshape(-1, ball_size), published.reshape(-1, ball_size))
    ]
    assert sum(shared) == len(slots)


@pytest.mark.parametrize("dim", [2, 3])
def test_rotation_is_a_rotation(dim):
    matrix = torch.tensor(rotation_matrix(33.0, dim), dtype=torch.float64)
    assert torch.allclose(matrix @ matrix.T, torch.eye(dim, dtype=torch.float64))
    assert torch.linalg.det(matrix).item() == pytest.approx(1.0)
    x = torch.randn(7, dim, dtype=torch.float64)
    assert torch.allclose(torch.stack(rotate(x.T, 33.0), dim=1), x @ matrix)


def test_turns_by_hand():
    assert [float(x) for x in rotate(torch.tensor([[1.0], [0.0]]), 90.0)] == pytest.approx([0.0, -1.0], abs=1e-7)
    assert rotation_matrix(90.0, 3) == [pytest.approx(row, abs=1e-12) for row in ([0, 0, 1], [0, 1, 0], [-1, 0, 0])]


def test_worse_radii_are_reported(tmp_path):
    positions = np.random.default_rng(0).random((500, 3), dtype=np.float32)
    radii = {"a/mean_radius_8": np.float32(0.001), "a/mean_radius_64": np.float32(9)}
    np.savez(tmp_path / "trees.npz", **{"a/pos": positions, **radii})
    small, large = check_tree_file(tmp_path / "trees.npz")
    assert (small.cloud, small.size, small.ok) == ("a", 8, False)
    assert (large.cloud, large.size, large.ok) == ("a", 64, True)
    assert small.published == pytest.approx(0.001)
    assert 0.05 < small.ours < 0.5


def test_files_that_are_no_tree_files(tmp_path):
    with pytest.raises(BsavizError, match="no tree file at .*gone.npz"):
        check_tree_file(tmp_path / "gone.npz")
    (tmp_path / "torn.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BsavizError, match="torn.npz is not a readable .npz file"):
        check_tree_file(tmp_path / "torn.npz")
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(BsavizError, match="text.npz is not a readable .npz file"):
        check_tree_file(tmp_path / "text.npz")
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(BsavizError, match="array.npy is not a readable .npz file"):
        check_tree_file(tmp_path / "array.npy")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(BsavizError, match="other.npz holds no reference tree"):
        check_tree_file(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a/mean_radius_8": 1.0}, "has a/mean_radius_8 but no a/pos"),
        ({"a/pos": np.zeros((9, 3)), "a/mean_radius_x": 1.0}, "should be one number called a/mean_radius_<size>"),
        ({"a/pos": np.zeros((9, 3)), "a/mean_radius_8": np.ones(2)}, "should be one number called"),
    ],
)
def test_a_radius_without_its_points_or_size_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "odd.npz", **arrays)
    with pytest.raises(BsavizError, match=message):
        check_tree_file(tmp_path / "odd.npz")
