"""The benchmark of trees on a GPU, as far as it goes without one."""

from dataclasses import replace

import pytest
import torch

from bsaviz.study import bench_trees_gpu
from bsaviz.trees import BallTree


def test_a_row_has_times_of_the_same_tree():
    row = bench_trees_gpu.measure(600, "grid", 2, torch.device("cpu"), lambda: None)
    assert row["points"] == 600
    assert row["ms"] > 0
    assert "600  grid" in bench_trees_gpu.table([row])


def test_another_tree_is_not_timed():
    tree = BallTree.build(bench_trees_gpu.cloud(300, "normal"), **bench_trees_gpu.SIZES)
    bench_trees_gpu.check(tree, tree)
    with pytest.raises(SystemExit, match="another rotation than the CPU's: not timed"):
        bench_trees_gpu.check(tree, replace(tree, rotation=tree.rotation.flip(1)))


def test_bad_options_are_refused(capsys):
    with pytest.raises(SystemExit):
        bench_trees_gpu.main(["--repeats", "0"])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so(tmp_path, capsys):
    assert bench_trees_gpu.main(["--out", str(tmp_path / "x.json")]) == 1
    assert "needs a CUDA device" in capsys.readouterr().err
