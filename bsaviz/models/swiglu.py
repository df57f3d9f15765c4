"""The perceptron of a layer, which keeps only its input for the backward pass."""

import torch
from torch import nn
from torch.nn import functional as F

from bsaviz.attention.linear import Linear, rounded


class SwiGLU(nn.Module):
    """w3(w2(x) * silu(w1(x))) (Shazeer, arXiv 2002.05202), with biases.

    What lies between is four hidden widths a token, more than all the rest of a layer keeps. In training it is made
    again in the backward pass from x, by two more matrix products beside the nine of the perceptron's step.
    """

    def __init__(self, dim, hidden):
        super().__init__()
        self.w1, self.w2, self.w3 = Linear(dim, hidden), Linear(dim, hidden), Linear(hidden, dim)

    def forward(self, x):
        if not torch.is_grad_enabled():
            return self.w3(self.w2(x) * F.silu(self.w1(x)))
        weights = [p for layer in (self.w1, self.w2, self.w3) for p in (layer.weight, layer.bias)]
        return _Frugal.apply(*map(rounded, (x, *weights)))


class _Frugal(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(x, w1, b1, w2, b2, w3, b3):
        return F.linear(F.silu(F.linear(x, w1, b1)).mul_(F.linear(x, w2, b2)), w3, b3)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs[:6])

    @staticmethod
    def backward(ctx, grad):
        x, w1, b1, w2, b2, w3 = ctx.saved_tensors
        rows = lambda t: t.flatten(0, -2)
        of_weight = lambda g, t: rows(g).T @ rows(t)
        once = not torch.is_grad_enabled()  # nobody differentiates this gradient: memory may be used again
        times = torch.Tensor.mul_ if once else torch.mul
        gate, value = F.linear(x, w1, b1), F.linear(x, w2, b2)
        swish = F.silu(gate)
        grad_w3 = of_weight(grad, swish * value)
        grad_hidden = grad @ w3
        grad_value, grad_swish = times(swish, grad_hidden), times(value, grad_hidden)
        del swish, value, grad_hidden
        grad_gate = _silu_gradient(grad_swish, gate)
        del grad_swish, gate
        return (
            torch.addmm(rows(grad_value @ w2), rows(grad_gate), w1).view_as(x),
            of_weight(grad_gate, x), rows(grad_gate).sum(0),
            of_weight(grad_value, x), rows(grad_value).sum(0),
            grad_w3, rows(grad).sum(0),
        )  # fmt: skip


def _silu_gradient(grad, x):
    if not torch.is_grad_enabled():
        return torch.ops.aten.silu_backward(grad, x)
    slope = x.sigmoid()  # in steps that have gradients of their own
    return grad * slope * (1 + x * (1 - slope))
