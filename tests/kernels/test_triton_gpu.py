"""The kernels on a CUDA device: accuracy, determinism, memory, and how they sit in PyTorch."""

import warnings

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

import bsa_kernels
from bsa_kernels import reference
from bsa_kernels.triton import check, few, fused_backward
from bsa_kernels.triton import fused as fused_module

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CASES = [
    dict(head_dim=32),
    dict(head_dim=32, group_compression=True),
    dict(head_dim=8, masked=True),
    dict(head_dim=8, masked=True, group_compression=True),
    dict(head_dim=16, masked=True, batch=2, n=2304),
    dict(head_dim=64, masked=True, group_compression=True),
    dict(head_dim=64),
    dict(head_dim=128, masked=True),
    dict(head_dim=128, group_compression=True),
    dict(head_dim=16, top_k=16, group_selection=False),
    dict(head_dim=4, top_k=16, block_size=32, ball_size=128, group_selection=False, mask_own_ball=False, masked=True),
    dict(head_dim=40, block_size=16, group_size=32, ball_size=128, top_k=3),
    dict(head_dim=32, batch=2, masked=True, ball_size=32, top_k=32, n=1056, block_size=4),
    dict(head_dim=32, ball_size=1024, block_size=64, group_size=64, top_k=2),
    dict(head_dim=48, given=True, group_compression=True, coarse_scores=True, masked=True),
    dict(head_dim=32, biased=False, mask_own_ball=False, group_size=4, top_k=7),
    dict(head_dim=24, given=True, ball_size=64, n=448, block_size=32, group_size=8, top_k=10),
    dict(head_dim=8, ball_size=512, group_size=16, top_k=1, n=1536, batch=3, masked=True),
    dict(head_dim=4, ball_size=128, n=1152, group_compression=True, coarse_scores=True),
    dict(head_dim=80, ball_size=32, n=96, top_k=8),
    dict(head_dim=16, ball_size=32, n=64, top_k=8, masked=True),  # 4 admissible blocks at most: missing slots
]
ids = lambda case: "-".join(f"{name}={value}" for name, value in case.items())


def made(case, dtype, heads=2, **more):
    options = dict(n=2048) | case | more
    names = ("batch", "masked", "given", "biased", "scale", "seed")
    keywords = {name: options.pop(name) for name in names if name in options}
    n, head_dim = options.pop("n"), options.pop("head_dim")
    return *check.inputs(n, heads, head_dim, dtype, block_size=options.get("block_size", 8), **keywords), options


def fused(options):
    def run(*x):
        return bsa_kernels.ball_sparse_attention(
            *x[:7], q_coarse=x[7], k_coarse=x[8], v_coarse=x[9], backend="triton", **options
        )

    return run


@pytest.fixture(autouse=True)
def exact_float32(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def poison():
    """Leave NaN in the memory that the next allocations will get."""
    for size in (2**12, 2**16, 2**20, 2**22, 2**24):
        blocks = [torch.full((size,), torch.nan, device="cuda") for _ in range(12)]
        del blocks


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_error_within_limits(case, dtype):
    arguments, dout, options = made(case, dtype)
    forward, backward, most = check.limits(dtype)
    poison()
    for name, (ours, plain) in check.errors(arguments, dout, **options).items():
        assert ours <= (forward if name == "out" else backward) * plain + 1e-6, f"{name}: {ours} against {plain}"
    assert check.regret(arguments, **options) <= most


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", [*CASES[:9], dict(head_dim=24, masked=True), dict(head_dim=40)], ids=ids)
def test_error_within_limits_as_with_many_points(case, dtype, monkeypatch):
    """The launches that many points get, on few of them."""
    monkeypatch.setattr(few, "FEW", 0)
    monkeypatch.setattr(fused_backward, "TOGETHER", 0)
    monkeypatch.setattr(fused_module, "_plans", {})
    arguments, dout, options = made(case, dtype)
    gates = arguments[3]  # some below zero
    gates[:, :, gates.shape[2] // 2 :].neg_()
    poison()
    for name, (ours, plain) in check.errors(arguments, dout, **options).items():
        assert ours <= (2 if name == "out" else 3) * plain + 1e-6, f"{name}: {ours} against {plain}"


@pytest.mark.parametrize("head_dim", [8, 32])
def test_blocks_that_most_groups_choose(head_dim):
    """Their lists are read in chunks."""
    arguments, dout, options = made(dict(head_dim=head_dim, n=8192), torch.bfloat16)
    arguments[0].abs_()
    arguments[1][:, :, 40:72].abs_().mul_(6)
    poison()
    for name, (ours, plain) in check.errors(arguments, dout, **options).items():
        assert ours <= (2 if name == "out" else 3) * plain + 1e-6, f"{name}: {ours} against {plain}"
    first, second = (check.differentiate(fused(options), arguments, dout) for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_two_runs_give_the_same_bits(case):
    arguments, dout, options = made(case, torch.bfloat16)
    first = check.differentiate(fused(options), arguments, dout)
    poison()
    second = check.differentiate(fused(options), arguments, dout)
    for name, value in first.items():
        assert torch.isfinite(value).all(), name
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("group_compression", [False, True])
def test_branches_and_log_sum_exps(group_compression):
    arguments, _, options = made(dict(head_dim=32, masked=True, group_compression=group_compression), torch.float32)
    x = dict(zip(("q_coarse", "k_coarse", "v_coarse"), arguments[7:]))
    _, ours = bsa_kernels.ball_sparse_attention(*arguments[:7], **x, backend="triton", return_aux=True, **options)
    exact = [a.double() if a is not None and a.is_floating_point() else a for a in arguments[:7]]
    _, theirs = reference.ball_sparse_attention(*exact, **options)
    assert torch.equal(ours.indices, theirs.indices)
    for name in ("ball", "compression", "selection", "ball_lse", "compression_lse", "selection_lse"):
        torch.testing.assert_close(getattr(ours, name).double(), getattr(theirs, name), rtol=1e-5, atol=1e-5)


def test_ties_go_to_the_lowest_block():
    q = torch.ones(1, 1, 64, 16, device="cuda", dtype=torch.bfloat16)
    k = torch.ones(1, 1, 64, 16, device="cuda", dtype=torch.bfloat16)
    k[:, :, 40] = 2
    sizes = dict(ball_size=64, block_size=8, group_size=8, top_k=4)
    indices = bsa_kernels.select_blocks(q, k, **sizes, backend="triton")
    assert indices[0, 0, 0].tolist() == [40, 8, 9, 10]
    assert indices[0, 0, 63].tolist() == [40, 0, 1, 2]


def test_missing_slots():
    q = torch.randn(1, 1, 8, 16, device="cuda", dtype=torch.float16)
    indices = bsa_kernels.select_blocks(q, q, ball_size=32, block_size=8, group_size=8, top_k=6, backend="triton")
    assert (indices[..., 4:] == -1).all()
    assert (indices[..., :4] >= 0).all()


@pytest.mark.parametrize("scale", [1e-4, 30.0])
def test_extreme_logits_stay_finite(scale):
    arguments, dout, options = made(dict(head_dim=32, masked=True, scale=scale), torch.bfloat16)
    for name, value in check.differentiate(fused(options), arguments, dout).items():
        assert torch.isfinite(value).all(), name


def test_nothing_real_gives_zeros():
    arguments, dout, options = made(dict(head_dim=16), torch.bfloat16)
    arguments = *arguments[:6], torch.zeros(1, 2048, dtype=torch.bool, device="cuda"), *arguments[7:]
    for name, value in check.differentiate(fused(options), arguments, dout).items():
        assert (value == 0).all(), name


def test_samples_that_end_in_padding():
    """A shorter sample of a batch ends in balls without a real point; it has the results that it has alone."""
    arguments, dout, options = made(dict(head_dim=16, batch=2, n=1024, masked=True, top_k=3), torch.float32)
    mask = arguments[6].clone()
    mask[1, 512:] = False
    together = check.differentiate(fused(options), (*arguments[:6], mask, *arguments[7:]), dout)
    short = [x[1:, :, :512] if x is not None and x.dim() == 4 else x for x in arguments]
    short[4], short[6] = arguments[4][1:, :512], mask[1:, :512]
    alone = check.differentiate(fused(options), short, dout[1:, :, :512])
    for name in ("out", "dq", "dk", "dv", "dgate"):
        torch.testing.assert_close(together[name][1:, :, :512], alone[name], rtol=1e-4, atol=1e-5)
        assert (together[name][1:, :, 512:] == 0).all(), name


def test_inputs_off_the_alignment():
    arguments, dout, options = made(dict(head_dim=32, n=1024), torch.bfloat16)
    expected = check.differentiate(fused(options), arguments, dout)

    def shifted(x):
        room = x.new_empty(x.numel() + 1)[1:].view(x.shape)
        return room.copy_(x)

    moved = [None if x is None else shifted(x) for x in arguments]
    leaves = [x.requires_grad_() if i in (0, 1, 2, 3, 5) else x for i, x in enumerate(moved)]
    out = fused(options)(*leaves)
    grads = torch.autograd.grad(out, [leaves[i] for i in (0, 1, 2, 3, 5)], shifted(dout))
    for name, ours in zip(("out", "dq", "dk", "dv", "dgate", "dslope"), (out, *grads)):
        torch.testing.assert_close(ours, expected[name], rtol=2e-2, atol=2e-2, msg=name)


def test_offsets_beyond_32_bits():
    shape = 9, 8, 2**20, 32  # more than 2**31 elements
    q = torch.randn(1, 8, 2**20, 32, device="cuda", dtype=torch.bfloat16).expand(shape).contiguous()
    out = bsa_kernels.ball_attention(q, q, q, ball_size=256, backend="triton")
    assert torch.equal(out[0], out[-1])


def test_million_points_with_256_channels():
    arguments, dout, options = made(dict(n=2**20, head_dim=32, group_compression=True), torch.bfloat16, heads=8)
    for name, value in check.differentiate(fused(options), arguments, dout).items():
        assert torch.isfinite(value).all(), name


@pytest.mark.parametrize("variant", [{}, dict(group_compression=True)], ids=ids)
def test_compiles_to_one_graph(variant):
    arguments, dout, options = made(dict(head_dim=32, masked=True) | variant, torch.bfloat16)
    eager = check.differentiate(fused(options), arguments, dout)
    torch._dynamo.reset()
    compiled = check.differentiate(torch.compile(fused(options), fullgraph=True), arguments, dout)
    for name, value in eager.items():
        torch.testing.assert_close(compiled[name], value, rtol=2e-2, atol=2e-2)


def test_fake_and_meta_tensors_have_the_shapes_of_real_ones():
    from torch._subclasses import FakeTensorMode

    arguments, dout, options = made(dict(head_dim=32, masked=True), torch.bfloat16)
    real = check.differentiate(fused(options), arguments, dout)

    def shapes(backend, move):
        moved = [x if x is None else move(x) for x in arguments]
        moved = [x.requires_grad_() if i in (0, 1, 2, 3, 5) else x for i, x in enumerate(moved)]
        out = bsa_kernels.ball_sparse_attention(*moved[:7], backend=backend, **options)
        grads = torch.autograd.grad(out, [moved[i] for i in (0, 1, 2, 3, 5)], move(dout))
        return [(x.shape, x.dtype) for x in (out, *grads)]

    expected = [(real[name].shape, real[name].dtype) for name in ("out", "dq", "dk", "dv", "dgate", "dslope")]
    with FakeTensorMode() as mode:
        assert shapes("triton", mode.from_tensor) == expected
    assert shapes("auto", lambda x: x.to("meta")) == expected


def test_auto_sends_the_rest_to_torch_and_says_so_once():
    from bsa_kernels import backends

    arguments, _, _ = made(dict(head_dim=16, n=384), torch.float32)
    arguments = [x.double() if x is not None and x.is_floating_point() else x for x in arguments[:7]]
    sizes = dict(ball_size=96, block_size=8, group_size=8, top_k=4)  # neither the dtype nor the ball is the kernels'
    backends._say_once.cache_clear()
    with pytest.warns(RuntimeWarning, match="ball_attention runs in plain PyTorch on this GPU: the kernels take"):
        ours = bsa_kernels.ball_sparse_attention(*arguments, **sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = bsa_kernels.ball_sparse_attention(*arguments, **sizes)
    assert torch.equal(ours, again)
    theirs, _ = reference.ball_sparse_attention(*arguments, **sizes)
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("what", [dict(dtype=torch.float64), dict(ball_size=96), dict(top_k=33), dict(head_dim=136)],
                         ids=str)  # fmt: skip
def test_an_explicit_request_outside_the_table_names_the_way_out(what):
    head_dim, dtype = what.get("head_dim", 16), what.get("dtype", torch.float32)
    q = torch.randn(1, 2, 384, head_dim, device="cuda", dtype=dtype)
    gate = torch.rand(1, 2, 384, 3, device="cuda", dtype=dtype)
    sizes = dict(ball_size=what.get("ball_size", 128), block_size=8, group_size=8, top_k=what.get("top_k", 4))
    with pytest.raises(ValueError, match="backend='triton' cannot run .* the kernels take .*; use backend='torch'"):
        bsa_kernels.ball_sparse_attention(q, q, q, gate, backend="triton", **sizes)


def operator_calls():
    arguments, _, _ = made(dict(head_dim=16, n=512, masked=True), torch.float32)
    q, k, v, _, positions, slope, mask = (
        x.requires_grad_() if i in (0, 1, 2, 5) else x for i, x in enumerate(arguments[:7]))  # fmt: skip
    coarse = k.detach()[:, :, ::8].contiguous().requires_grad_()
    block_mask = mask.unflatten(1, (-1, 8)).any(-1)
    indices = torch.randint(-1, 64, (1, 2, 64, 3), device="cuda")
    return {
        "ball_attention": (q, k, v, positions, slope, mask, 128, "triton"),
        "compressed_attention": (q, coarse, coarse.detach().clone(), block_mask, "triton"),
        "select_blocks": (coarse.detach(), coarse.detach().clone(), block_mask, 128, 8, 8, 3, True, "triton"),
        "selected_attention": (q, k, v, indices, mask, 8, 8, "triton"),
    }


@pytest.mark.parametrize("name", ["ball_attention", "compressed_attention", "select_blocks", "selected_attention"])
def test_single_operators_pass_opcheck(name):
    torch.library.opcheck(getattr(torch.ops.bsa_kernels, name).default, operator_calls()[name])


def test_operator_registration():
    arguments, _, options = made(dict(head_dim=16, n=512, masked=True), torch.float32)
    from bsa_kernels.triton import fused as module

    arguments = [x.requires_grad_() if i in (0, 1, 2, 3, 5) else x for i, x in enumerate(arguments)]
    settings = [(check.DEFAULTS | options)[name] for name in module.NAMES]
    torch.library.opcheck(
        module.fused, (*arguments, *settings),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )  # fmt: skip


def test_autocast_and_checkpointing():
    from torch.utils.checkpoint import checkpoint

    arguments, dout, options = made(dict(head_dim=32), torch.float32)

    def run(*x):
        with torch.autocast("cuda", torch.bfloat16):
            return fused(options)(*x)

    plain = check.differentiate(run, arguments, dout.bfloat16())
    assert plain["out"].dtype == torch.bfloat16
    again = check.differentiate(lambda *x: checkpoint(run, *x, use_reentrant=False), arguments, dout.bfloat16())
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name


@pytest.mark.parametrize("variant", [{}, dict(group_compression=True)], ids=ids)
def test_cuda_graph_replays(variant):
    arguments, dout, options = made(dict(head_dim=32, n=1024) | variant, torch.bfloat16)
    fresh, fresh_dout, _ = made(dict(head_dim=32, n=1024, seed=1) | variant, torch.bfloat16)
    names = ("dq", "dk", "dv", "dgate", "dslope")
    expected = check.differentiate(fused(options), fresh, fresh_dout)
    leaves = [x.requires_grad_() if i in (0, 1, 2, 3, 5) else x for i, x in enumerate(arguments)]

    def run():
        out = fused(options)(*leaves)
        return out, *torch.autograd.grad(out, [leaves[i] for i in (0, 1, 2, 3, 5)], dout)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = run()
    with torch.no_grad():
        for x, new in zip((*leaves, dout), (*fresh, fresh_dout)):
            if x is not None:
                x.copy_(new)
    for result in captured:
        result.detach().fill_(torch.nan)
    graph.replay()
    for name, ours in zip(("out", *names), captured):
        assert torch.equal(ours, expected[name]), name


@pytest.mark.parametrize("variant", [{}, dict(group_compression=True)], ids=ids)
def test_flops_are_counted(variant):
    from torch.utils.flop_counter import FlopCounterMode

    arguments, dout, options = made(dict(head_dim=32) | variant, torch.bfloat16)
    leaves = [x.requires_grad_() if i in (0, 1, 2, 3, 5) else x for i, x in enumerate(arguments[:7])]
    counts = []
    for backend in ("triton", "torch"):
        with FlopCounterMode(display=False) as forward:
            out = bsa_kernels.ball_sparse_attention(*leaves, backend=backend, **options)
        with FlopCounterMode(display=False) as backward:
            out.backward(dout)
        counts.append((forward.get_total_flops(), backward.get_total_flops()))
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


# Faster, and rounding alone parts two trainings in bfloat16 by 1 %, since it decides which blocks are chosen. In plain
# PyTorch on a CPU, where the projection's weights begin 0.1 % apart: 0.5 to 1.7 % at 1e-3, 0.02 % at this rate.
RATE = 3e-4


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("variant", [{}, dict(group_compression=True, coarse_scores=True)], ids=ids)
def test_training_follows_the_reference(variant, autocast):
    def losses(backend):
        torch.manual_seed(0)
        n, heads, d = 512, 4, 16
        x, positions = torch.randn(n, 64, device="cuda"), torch.rand(1, n, 3, device="cuda")
        waves, mixed = torch.randn(3, 64, device="cuda"), torch.randn(64, 64, device="cuda")
        target = torch.sin(4 * positions[0] @ waves) + 0.04 * x @ mixed
        project, gates, back = (torch.nn.Linear(64, size).cuda() for size in (192, 3 * heads, 64))
        slope = torch.nn.Parameter(-torch.ones(heads, device="cuda"))
        parameters = [slope, *project.parameters(), *gates.parameters(), *back.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=RATE)
        history = []
        for _ in range(200):
            with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
                q, k, v = project(x).view(n, 3, heads, d).permute(1, 2, 0, 3)[:, None]
                gate = gates(x).sigmoid().view(n, heads, 3).permute(1, 0, 2)[None]
                out = bsa_kernels.ball_sparse_attention(
                    q, k, v, gate, positions, slope, ball_size=128, backend=backend, **variant
                )
                out = back(out[0].permute(1, 0, 2).reshape(n, 64))
            loss = (out.float() - target).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append(loss.item())
        return torch.tensor(history)

    ours, theirs = losses("triton"), losses("torch")
    assert ours[-1] < 0.8 * ours[0]
    assert ((ours - theirs).abs() / theirs).max() < 0.01
