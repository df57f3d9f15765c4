"""What layers keep for the backward pass: little, and the gradients are those of the plain formulas."""

import pytest
import torch
from torch.nn import functional as F

from bsaviz.attention import ErwinNSAAttention
from bsaviz.attention.mpnn import MessagePassing
from bsaviz.models import build
from bsaviz.models.swiglu import SwiGLU


def kept(call, without=()):
    """Bytes that a call leaves for the backward pass, each memory once, parameters left out; and what it returns."""
    known = {p.untyped_storage().data_ptr() for p in without}
    memories = {}

    def pack(x):
        memory = x.untyped_storage()
        if memory.data_ptr() not in known:
            memories[memory.data_ptr()] = memory  # held, so that no other takes its address
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = call()
    return sum(memory.nbytes() for memory in memories.values()), out


def perceptron(dtype=torch.float64):
    torch.manual_seed(0)
    mlp = SwiGLU(5, 20).to(dtype)
    for p in mlp.parameters():
        torch.nn.init.normal_(p)
    return mlp, torch.randn(2, 7, 5, dtype=dtype, requires_grad=True)


def plain(mlp, x):
    return mlp.w3(mlp.w2(x) * F.silu(mlp.w1(x)))


def test_the_perceptron_is_its_formula_with_first_and_second_gradients():
    mlp, x = perceptron()
    wanted = [x, *mlp.parameters()]
    assert torch.equal(mlp(x), plain(mlp, x))
    for ours, formula in zip(*(torch.autograd.grad(f(x).sin().sum(), wanted) for f in (mlp, lambda x: plain(mlp, x)))):
        assert torch.allclose(ours, formula, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(mlp, x)


def test_the_perceptron_keeps_its_input_alone():
    mlp, x = perceptron()
    assert kept(lambda: mlp(x), mlp.parameters())[0] == x.untyped_storage().nbytes()
    assert kept(lambda: plain(mlp, x), mlp.parameters())[0] > 16 * x.untyped_storage().nbytes()


def test_the_perceptron_rounds_as_autocast_does():
    mlp, x = perceptron(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        ours, formula = mlp(x), plain(mlp, x)
    assert ours.dtype == formula.dtype == torch.bfloat16
    assert torch.equal(ours, formula)
    of_ours, of_formula = (torch.autograd.grad(out.float().sum(), mlp.w1.weight)[0] for out in (ours, formula))
    assert of_ours.dtype == torch.float32
    assert torch.allclose(of_ours, of_formula, rtol=0.02, atol=0.02 * of_formula.abs().max())


def test_messages_keep_nothing_of_the_edges():
    torch.manual_seed(0)
    messages = MessagePassing(8, 2).double()
    x, places = torch.randn(20, 8, dtype=torch.float64, requires_grad=True), torch.randn(20, 3)
    edges = torch.randint(20, (2, 4000))
    bytes_kept, out = kept(lambda: messages(x, places, edges), messages.parameters())
    ends = edges.untyped_storage().nbytes() + 4000 * 3 * 8  # who sends to whom, and how far it is
    assert bytes_kept <= ends + 10 * x.untyped_storage().nbytes()
    ours = torch.autograd.grad(out.sin().sum(), [x, *messages.parameters()])

    def formula(x):
        sender, receiver = edges
        step = (places[sender] - places[receiver]).double()
        for message, norm, update, update_norm in zip(
            messages.message, messages.message_norm, messages.update, messages.update_norm
        ):
            sent = norm(F.gelu(message(torch.cat([x[sender], x[receiver], step], 1))))
            mean = torch.zeros_like(x).index_add(0, receiver, sent) / torch.bincount(receiver, minlength=20)[:, None]
            x = x + update_norm(update(torch.cat([x, mean], 1)))
        return x

    for got, wanted in zip(ours, torch.autograd.grad(formula(x).sin().sum(), [x, *messages.parameters()])):
        assert torch.allclose(got, wanted, rtol=1e-9, atol=1e-9)


def test_projections_and_gates_keep_their_tokens_once_under_autocast():
    attention = ErwinNSAAttention(32, 2, 64, 16, 2)
    x, places = torch.randn(1, 128, 32, requires_grad=True), torch.randn(1, 128, 3)
    seen = []
    read = lambda _, arguments: seen.append(arguments[0])
    hooks = [part.register_forward_pre_hook(read) for part in (attention.qkv, attention.gating)]
    with torch.autocast("cpu", torch.bfloat16):
        attention(x, places)
    for hook in hooks:
        hook.remove()
    assert seen[0] is seen[1]
    assert seen[0].dtype == torch.bfloat16


@pytest.mark.parametrize("recompute", [False, True])
def test_recomputed_layers_keep_their_input_alone(recompute):
    torch.manual_seed(0)
    model = build("erwin-nsa", "tiny", mp_steps=0, depth=6, recompute=recompute)
    positions = torch.randn(256, 3)
    bytes_kept, _ = kept(lambda: model(positions), model.parameters())
    tokens = 256 * model.config.dim * 4
    assert (bytes_kept < 20 * tokens) == recompute


@pytest.mark.parametrize("pooling", ["mean", "mlp"])
def test_heads_are_made_again_once_with_the_same_gradients(pooling):
    x, places = torch.randn(1, 64, 8, dtype=torch.float64, requires_grad=True), torch.randn(1, 64, 3)
    results = {}
    for keep_heads in (True, False):
        torch.manual_seed(0)
        attention = ErwinNSAAttention(8, 2, 32, 8, 2, pooling=pooling, keep_heads=keep_heads).double()
        split, calls = attention._in_heads, []
        attention._in_heads = lambda x, split=split, calls=calls: calls.append(0) or split(x)
        out = attention(x, places).sin().sum()
        assert len(calls) == 1
        wanted = [x, *attention.parameters()]
        first = torch.autograd.grad(out, wanted, retain_graph=True)
        assert len(calls) == (1 if keep_heads else 2)
        results[keep_heads] = [*first, *torch.autograd.grad(out, wanted)]
    for ours, plain in zip(results[False], results[True]):
        assert torch.equal(ours, plain)
