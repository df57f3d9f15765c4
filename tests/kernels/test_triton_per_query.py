"""Queries that choose for themselves, and the inverse index by counting: in the interpreter, compiled, and on a GPU."""

import json

import interpreted
import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

SINGLE = dict(ball_size=32, group_selection=False, mask_own_ball=False)
CASES = {
    "one round, masked": dict(n=64, heads=1, d=4, block_size=8, top_k=3, masked=True, **SINGLE),
    "own ball left out, odd channels": dict(
        n=64, heads=1, d=5, block_size=4, top_k=2, ball_size=32, group_selection=False, biased=False
    ),
    "several rounds": dict(n=64, heads=1, d=64, block_size=16, top_k=3, biased=False, **SINGLE),
    "half precision": dict(n=64, heads=1, d=8, block_size=8, top_k=4, dtype="float16", biased=False, **SINGLE),
    "long lists, read in pieces": dict(n=64, heads=1, d=4, block_size=8, top_k=3, biased=False, long=True, **SINGLE),
    "groups that choose many": dict(
        n=64, heads=1, d=4, ball_size=32, block_size=4, group_size=8, top_k=6, biased=False
    ),
}
LIMITS = {"float32": 2e-5, "float16": 3e-3}  # far above rounding, far below any mistake
ON_GPU = [  # n, heads, d, dtype, and the options
    (1024, 4, 4, "bfloat16", dict(ball_size=128, block_size=32, top_k=16, mask_own_ball=False)),
    (1024, 4, 4, "float32", dict(ball_size=128, block_size=32, top_k=16, mask_own_ball=False, masked=True)),
    (2048, 4, 8, "bfloat16", dict(ball_size=256, block_size=8, top_k=4)),
    (8192, 2, 12, "bfloat16", dict(ball_size=256, block_size=8, top_k=6)),  # more blocks than a warp looks at
    (512, 2, 128, "float16", dict(ball_size=256, block_size=64, top_k=2, mask_own_ball=False)),
    (1024, 4, 4, "bfloat16", dict(ball_size=128, block_size=32, top_k=16, group_size=8, masked=True)),
]


@pytest.fixture(scope="module")
def results():
    """Every case's errors, from one process in which the kernels are interpreted."""
    return interpreted.results(__file__)


@pytest.mark.parametrize("case", CASES)
def test_follows_the_reference(results, case):
    limit = LIMITS[CASES[case].get("dtype", "float32")]
    assert results[case]["regret"] <= limit
    assert {"out", "dq", "dk", "dv", "dgate"} <= set(results[case]["errors"])
    for name, error in results[case]["errors"].items():
        assert error <= limit, f"{name} is off by {error}"


def test_ties_go_to_the_lowest_block(results):
    assert results["ties"] == [[0, 1, 2], [3, 0, 1]]


def test_counting_lists_the_queries_of_every_block_in_order(results):
    assert results["counting"] == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("n", "heads", "d", "dtype", "options"), ON_GPU)
def test_is_as_exact_as_plain_pytorch_and_the_same_every_time(n, heads, d, dtype, options):
    from bsa_kernels.triton import check, fused

    dtype = getattr(torch, dtype)
    options = {"group_selection": "group_size" in options} | options
    masked = options.pop("masked", False)
    arguments, dout = check.inputs(n, heads, d, dtype, masked=masked, block_size=options["block_size"])
    forward, backward, regret = check.limits(dtype)
    for name, (ours, plain) in check.errors(arguments, dout, **options).items():
        assert ours <= (forward if name == "out" else backward) * plain, name
    assert check.regret(arguments, **options) <= regret
    run = lambda *x: fused.ball_sparse_attention(*x, **(check.DEFAULTS | options))
    first, second = (check.differentiate(run, arguments, dout) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


# Below: the child process.


def errors_of(options):
    from bsa_kernels.triton import check, inverse, popular

    options = dict(options)
    usual = popular.chunk_of, popular.LONG, inverse.MANY_OF_FEW
    if options.pop("long", False):  # lists of 24 queries on the average, in pieces of 8
        popular.chunk_of, popular.LONG, inverse.MANY_OF_FEW = (lambda spec: 8), 1, 0
    keywords = {name: options.pop(name) for name in ("masked", "biased") if name in options}
    sizes = (options.pop("n"), options.pop("heads"), options.pop("d"), getattr(torch, options.pop("dtype", "float32")))
    arguments, dout = check.inputs(*sizes, block_size=options["block_size"], device="cpu", **keywords)
    chosen = check.chosen(arguments, **options)
    errors = {name: pair[0] for name, pair in check.errors(arguments, dout, indices=chosen, **options).items()}
    popular.chunk_of, popular.LONG, inverse.MANY_OF_FEW = usual
    return {"errors": errors, "regret": check.regret(arguments, indices=chosen, **options)}


def ties():
    """Three blocks of equal score; then the last one better than they."""
    from bsa_kernels.triton.per_query import select_blocks

    keys = torch.tensor([1.0, 1.0, 1.0, 0.5]).view(1, 1, 4, 1).repeat(1, 1, 1, 4)
    queries = torch.tensor([1.0, -1.0]).view(1, 1, 2, 1).repeat(1, 1, 1, 4)
    return select_blocks(queries, keys, None, 2, 1, 1, 3, False)[0, 0].tolist()


def wrong_lists():
    """Blocks whose list by counting is not that of their queries in order."""
    from bsa_kernels.triton.counting import by_counting

    heads, groups, top_k, blocks = 2, 150, 5, 70
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([torch.randperm(blocks, generator=generator)[:top_k] for _ in range(heads * groups)])
    chosen = chosen.view(1, heads, groups, top_k)
    chosen[torch.rand(chosen.shape, generator=generator) < 0.2] = -1
    order, bounds = by_counting(chosen, blocks)
    wrong = []
    for head in range(heads):
        for block in range(blocks):
            queries = (chosen[0, head] == block).any(-1).nonzero()[:, 0]
            start, end = bounds[head * (blocks + 1) + block :][:2].tolist()
            if (order[start:end] // top_k - head * groups).tolist() != queries.tolist():
                wrong.append((head, block))
    return wrong


if __name__ == "__main__":
    interpreted.quicken()
    found = {name: errors_of(options) for name, options in CASES.items()}
    print(json.dumps(found | {"ties": ties(), "counting": wrong_lists()}))
