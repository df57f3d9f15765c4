"""Ball trees of the kernels' package: every backend against the definition written as a recursion."""

import json
import os
import subprocess
import sys

import interpreted
import pytest
import torch

import bsa_kernels

TURN = [[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]
CASES = {
    "one sample": dict(points=[700], ball_size=64, block_size=8),
    "ragged batch": dict(points=[260, 1, 97], ball_size=32, block_size=4, slots=[288, 64, 128]),
    "several launches": dict(points=[2300], ball_size=256, block_size=8),
    "sizes that are no powers of two": dict(points=[130, 71], ball_size=24, block_size=6),
    "down to the ball": dict(points=[150, 40], ball_size=32, block_size=8, rotate_to="ball"),
    "plane": dict(points=[300], ball_size=64, block_size=16, dims=2),
    "double precision": dict(points=[300], ball_size=64, block_size=16, dtype="float64"),
}


def cloud(points, dims=3, dtype="float32", seed=0):
    """Positions, a third of them on a coarse grid: many ties and duplicates."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randn(sum(points), dims, generator=generator, dtype=getattr(torch, dtype))
    positions[::3] = (positions[::3] * 2).round()
    return positions


def build(options, backend, device="cpu"):
    options = dict(options)
    points, dims, dtype = options.pop("points"), options.pop("dims", 3), options.pop("dtype", "float32")
    turn = [row[:dims] for row in TURN[:dims]]
    positions = cloud(points, dims, dtype).to(device)
    return bsa_kernels.build_ball_tree(positions, points, rotation=turn, backend=backend, **options)


def by_recursion(positions, slots, ball_size, block_size, stop):
    """Leaf order of one sample: one node after the other, sorted along its widest axis, ties by index."""
    count, values = len(positions), positions.tolist()

    def split(held, first, size):
        if size <= stop:
            return sorted(held)
        unit = ball_size if size > ball_size else block_size if size > block_size else 1
        half = -(-(size // unit) // 2) * unit
        left = count * (first + half) // slots - count * first // slots
        column = lambda axis: positions[held, axis] if held else positions.new_zeros(1)
        extents = [(column(a).max() - column(a).min()).item() for a in range(positions.shape[1])]
        axis = extents.index(max(extents))
        held = sorted(held, key=lambda i: (values[i][axis], i))
        return split(held[:left], first, half) + split(held[left:], first + half, size - half)

    return split(list(range(count)), 0, slots)


@pytest.mark.parametrize("case", [name for name in CASES if name != "several launches"])
def test_torch_is_the_recursion(case):
    options = dict(CASES[case])
    tree = build(options, "torch")
    points, ball, block = options["points"], options["ball_size"], options["block_size"]
    positions = cloud(points, options.get("dims", 3), options.get("dtype", "float32"))
    slots = options.get("slots") or [-(-count // ball) * ball for count in points]
    assert tree.order.shape == tree.mask.shape == tree.rotation.shape == (len(points), max(slots))
    first = 0
    for row, (count, owned) in enumerate(zip(points, slots)):
        order, mask = tree.order[row], tree.mask[row]
        main = by_recursion(positions[first : first + count], owned, ball, block, 1)
        assert (order[mask] - first).tolist() == main
        turn = torch.tensor([r[: positions.shape[1]] for r in TURN[: positions.shape[1]]], dtype=positions.dtype)
        held, stop, inside = order[mask], block, mask
        if options.get("rotate_to") == "ball":
            held, stop, inside = order[:owned], ball, torch.arange(max(slots)) < owned
        x = positions[held]
        turned = torch.stack([sum(x[:, i] * turn[i, j] for i in range(len(turn))) for j in range(len(turn))], 1)
        rotated = by_recursion(turned, owned, ball, block, stop)
        assert torch.equal(order[tree.rotation[row]][inside], held[rotated])
        first += count


@pytest.fixture(scope="module")
def by_kernels():
    """Every case by the kernels, from one process in which they are interpreted."""
    pytest.importorskip("triton", reason="triton is not installed")
    return interpreted.results(__file__)


@pytest.mark.parametrize("case", CASES)
def test_kernels_make_the_same_tree(by_kernels, case):
    for name, values in build(CASES[case], "torch")._asdict().items():
        assert by_kernels[case][name] == values.tolist(), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
class TestOnCuda:
    @pytest.mark.parametrize("backend", ["triton", "torch"])
    @pytest.mark.parametrize("case", CASES)
    def test_same_tree(self, case, backend):
        for ours, theirs in zip(build(CASES[case], backend, "cuda"), build(CASES[case], "torch")):
            assert ours.is_cuda
            assert torch.equal(ours.cpu(), theirs)

    @pytest.mark.parametrize("points", [[65536], [3586, 100_000, 777]])
    def test_same_tree_of_large_clouds(self, points):
        options = dict(points=points, ball_size=256, block_size=8)
        first, again = build(options, "triton", "cuda"), build(options, "triton", "cuda")
        for ours, same, theirs in zip(first, again, build(options, "torch")):
            assert torch.equal(ours, same)
            assert torch.equal(ours.cpu(), theirs)

    @pytest.mark.parametrize("scale", [1e-45, 3e38])
    def test_extreme_coordinates(self, scale):
        positions = cloud([600]).clamp(-1, 1) * scale
        here = bsa_kernels.build_ball_tree(positions, ball_size=64, backend="torch")
        there = bsa_kernels.build_ball_tree(positions.cuda(), ball_size=64, backend="triton")
        assert torch.equal(here.order, there.order.cpu())


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_without_spills(capability, tmp_path):
    pytest.importorskip("triton", reason="triton is not installed")
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)  # what is compiled here has no binary, and must not meet a GPU
    program = [sys.executable, __file__, str(capability)]
    done = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [line.split() for line in done.stdout.splitlines()]
    assert {row[0] for row in rows} == {f"partition.{name}" for name in ("_mark", "_count", "_move", "_finish")}
    for name, _, spilled in rows:
        assert int(spilled) == 0, f"{name} spills {spilled} bytes at sm_{capability}"


def test_one_tree_of_one_sample_by_default():
    tree = bsa_kernels.build_ball_tree(cloud([300]))
    assert tree.order.shape == (1, 512)
    assert int(tree.mask.sum()) == 300
    assert tree.rotation is None


def test_registration_passes_opcheck():
    flat = sum(TURN, [])
    for matrix, to_ball in ((flat, False), (flat, True), ([], False)):
        arguments = cloud([70, 30]), [70, 30], [96, 32], 32, 8, matrix, to_ball, "auto"
        torch.library.opcheck(torch.ops.bsa_kernels.build_ball_tree.default, arguments)


P = cloud([100])
MESSAGES = [
    (dict(positions=P[0]), r"positions must be a tensor \(P, 2\) or \(P, 3\), got \(3,\)"),
    (dict(positions=[1.0]), r"positions must be a tensor .* got list"),
    (dict(positions=P.half()), "positions must be float32 or float64, got torch.float16; convert"),
    (dict(points=[60, 30]), r"sum to the 100 positions, got \[60, 30\]"),
    (dict(points=[100, 0]), "at least 1"),
    (dict(ball_size=0), "ball_size must be a positive integer, got 0"),
    (dict(block_size=2.0), "block_size must be a positive integer, got 2.0"),
    (dict(ball_size=20), "ball_size must be a multiple of block_size, got 20 and 8; let them nest"),
    (dict(slots=[64]), r"slots must be a multiple of ball_size=32 for each sample, no fewer .* got \[64\]"),
    (dict(slots=[130]), "slots must be a multiple of ball_size=32"),
    (dict(rotation=[[1.0, 0.0], [0.0, 1.0]]), "rotation must be 3 x 3 numbers, as positions have 3 coordinates"),
    (dict(rotate_to="leaf"), "rotate_to must be one of 'block', 'ball', got 'leaf'"),
    (dict(backend="cuda"), "backend must be one of 'auto', 'triton', 'torch', got 'cuda'"),
]


@pytest.mark.parametrize(("options", "message"), MESSAGES)
def test_bad_arguments(options, message):
    options = dict(positions=P, ball_size=32, block_size=8) | options
    with pytest.raises((ValueError, TypeError), match=message):
        bsa_kernels.build_ball_tree(**options)


def test_an_explicit_backend_never_falls_back(monkeypatch):
    partition = pytest.importorskip("bsa_kernels.triton.partition", reason="triton is not installed")
    with pytest.raises(ValueError, match="build_ball_tree here: .* positions are on cpu; use backend='torch'"):
        bsa_kernels.build_ball_tree(P, backend="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "nodes of up to 1024 slots, not 2048" in partition.unsupported(P.T, 2048)
    assert "fewer than 2**31 coordinates" in partition.unsupported(torch.empty(3, 2**30, device="meta"), 1)
    assert partition.unsupported(P.T, 1024) is None


# Below: the child processes.


def print_trees():
    interpreted.quicken()
    trees = {name: build(options, "triton")._asdict() for name, options in CASES.items()}
    print(json.dumps({case: {name: x.tolist() for name, x in tree.items()} for case, tree in trees.items()}))


def print_resources(capability):
    """Name, registers and spilled bytes of the kernels of a tree of 4096 points, compiled without a GPU."""
    from test_triton_compile import compile_launch
    from triton.runtime.jit import JITFunction

    from bsa_kernels.triton import partition

    seen = set()

    def catch(self, *args, grid, warmup, **kwargs):
        if self.__name__ not in seen:
            seen.add(self.__name__)
            print(*compile_launch(self, grid, args, dict(kwargs), capability))

    JITFunction.run = catch
    partition.leaf_order(torch.empty(3, 4096, device="meta"), [4096], [4096], 256, 8, 1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print_resources(int(sys.argv[1]))
    else:
        print_trees()
