"""The benchmark: what it says without the peer, and what it writes with one."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from bsaviz.study import bench_trees
from bsaviz.trees import BallTree


def test_without_the_peer_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "balltree", None)
    assert bench_trees.main(["--out", str(tmp_path / "trees.json")]) == 1
    assert "pip install 'bsaviz[bench]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_it_writes_times_ratios_and_radii(monkeypatch, capsys, tmp_path):
    def build(points, sample):
        tree = BallTree.build(points, padding="power_of_two")
        return tree.order[0], tree.mask[0]

    def build_with_rotations(points, sample, strides, ball_sizes, angle):
        return *build(points, sample), [torch.arange(512)] * len(ball_sizes)

    peer = SimpleNamespace(build_balltree=build, build_balltree_with_rotations=build_with_rotations)
    monkeypatch.setitem(sys.modules, "balltree", peer)
    out = tmp_path / "new" / "trees.json"
    assert bench_trees.main(["--points", "400", "--rounds", "2", "--out", str(out)]) == 0
    assert "ours, to the block" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert {"date", "cpu", "versions", "rounds", "rows"} <= set(written)
    (row,) = written["rows"]
    assert row["points"] == 400
    assert set(row["ms"]) >= {name for pair in row["ratio"].values() for name in pair}
    assert all(ms > 0 for ms in row["ms"].values())
    assert row["mean_radius"]["ours"] == pytest.approx(row["mean_radius"]["published"])


def test_a_cloud_too_small_for_the_published_rotation_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench_trees.main(["--points", "100"])
    assert "more than 256" in capsys.readouterr().err
