r"""How much a model's prediction at a query changes with each input point.

.. math:: G(i, j) = \Big\lVert \frac{\partial y_i}{\partial (p_j, f_j)} \Big\rVert_F ,

the prediction `y` (normalised, as the model is trained; all its numbers), by position `p` and features `f` of a point.
The tree and the chosen blocks are held fixed: they change by jumps. Each row is one vector-Jacobian product through the
whole model.
"""

from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch.nn import functional as F

from bsaviz._checks import BsavizError
from bsaviz.fields.layerwise import AT_ONCE
from bsaviz.fields.tracing import bonds


def model_gradient(model, surface, tree, sites, queries, features=None):
    """Norm of the Jacobian of the prediction at each query by each input point: (Q, P) float32.

    Of a region, the prediction is the mean over its points.
    """
    weight = next(model.parameters())
    positions = torch.as_tensor(surface.positions, dtype=weight.dtype, device=weight.device).requires_grad_()
    inputs = [positions]
    if features is not None:
        inputs.append(torch.as_tensor(features, dtype=weight.dtype, device=weight.device).requires_grad_())
    tree = replace(tree, positions=positions[tree.order])
    was_training = model.training
    model.eval()
    try:
        with torch.enable_grad(), _distance_gradients(sites):
            edges = bonds(model.forward, surface, weight.device)
            predicted = model(positions, features=inputs[1] if features is not None else None, tree=tree, **edges)
            if len(predicted) != len(positions):
                raise BsavizError(
                    f"this model predicts {len(predicted)} rows for {len(positions)} points, so no prediction belongs "
                    "to a query point; use a model with decode=True"
                )
            return torch.stack([_norm(predicted, inputs, members) for members in queries.members]).float().cpu().numpy()
    finally:
        model.train(was_training)


def _norm(predicted, inputs, members):
    """Norm of the Jacobian of the mean prediction over some points, by each point: (P,)."""
    mean = predicted[torch.as_tensor(members, device=predicted.device)].mean(0)
    square = 0
    for number in mean:
        for rows in torch.autograd.grad(number, inputs, retain_graph=True, allow_unused=True):
            square = square + (0 if rows is None else rows.double().square().sum(-1))
    return square.sqrt()


@contextmanager
def _distance_gradients(sites):
    """Let gradients reach positions through the distance bias too, which the kernels take as constant.

    Each attention with such a bias gets a term that is zero and has the missing gradient.
    """
    with ExitStack() as hooks:
        for attention in {id(site.attention): site.attention for site in sites}.values():
            if hasattr(attention, "distance_slope"):
                for remove in _add_term(attention):
                    hooks.callback(remove)
        yield


def _add_term(attention):
    record = {}
    handles = []
    for name in ("q", "k", "v", "gate"):
        if hasattr(attention, name):
            keep = lambda module, given, made, name=name: record.__setitem__(name, made)
            handles.append(getattr(attention, name).register_forward_hook(keep))
    ball_size = attention.trace_parameters()["ball_size"]
    place = attention.branches.index("ball")

    def add(module, inputs, output):
        _, positions, mask = inputs
        qkv = [record[name].detach() for name in ("q", "k", "v")]
        term = _DistanceTerm.apply(positions, *qkv, module.distance_slope.detach(), mask, ball_size)
        if "gate" in record:
            term = term * record["gate"][..., place, None].detach()
        return output + F.linear(term.transpose(1, 2).flatten(2), module.out_proj.weight)

    return [handle.remove for handle in (*handles, attention.register_forward_hook(add))]


class _DistanceTerm(torch.autograd.Function):
    r"""Zero, with the gradient that the ball branch has by the positions.

    With scores :math:`s_{ij} = q_i k_j / \sqrt d + \sigma |p_i - p_j|`, weights `w` and output `o`, the gradient of a
    score is :math:`w_{ij} (g_i v_j - g_i o_i)` for an incoming gradient `g`, and that of the distance
    :math:`\sigma` times it. Ball by ball, in chunks.
    """

    @staticmethod
    def forward(ctx, positions, q, k, v, slope, mask, ball_size):
        ctx.save_for_backward(positions, q, k, v, slope, mask)
        ctx.ball_size = ball_size
        return torch.zeros_like(v)

    @staticmethod
    def backward(ctx, grad):
        positions, q, k, v, slope, mask = ctx.saved_tensors
        balls = lambda x: x.unflatten(-2, (-1, ctx.ball_size))
        points = balls(positions.to(q.dtype))
        real = None if mask is None else mask.unflatten(-1, (-1, ctx.ball_size))
        moved = torch.zeros_like(points)
        heads = [balls(x) for x in (q, k, v, grad)]
        step = max(1, AT_ONCE // (q.shape[0] * q.shape[1] * ctx.ball_size**2))
        for start in range(0, points.shape[1], step):
            some = slice(start, start + step)
            keys = None if real is None else real[:, some]
            moved[:, some] = _moved(points[:, some], *(x[:, :, some] for x in heads), slope, keys)
        return moved.flatten(1, 2).to(positions.dtype), *[None] * 6


def _moved(points, q, k, v, grad, slope, real):
    """Gradient by the positions (B, balls, m, D) of some balls."""
    apart = points[:, :, :, None] - points[:, :, None]
    distance = apart.norm(dim=-1)
    scores = q @ k.mT * q.shape[-1] ** -0.5 + slope.to(q.dtype)[:, None, None, None] * distance[:, None]
    if real is not None:  # a ball of padding alone has any weights: nothing comes back from it
        scores = scores.masked_fill(~real[:, None, :, None], torch.finfo(scores.dtype).min)
        grad = grad * real[:, None, ..., None]
    weights = scores.softmax(-1)
    by_score = weights * (grad @ v.mT - (grad * (weights @ v)).sum(-1, keepdim=True))
    by_distance = torch.einsum("bhnij,h->bnij", by_score, slope.to(q.dtype))
    pull = by_distance / torch.where(distance > 0, distance, 1)
    pull = pull + pull.mT  # a distance moves with both of its ends
    return torch.einsum("bnij,bnijd->bnid", pull, apart)
