"""The whole of Ball Sparse Attention as one operator: branches, gates and pooling share kernels, forward and backward.

Beside the inputs, the forward keeps one tensor of the input's size (ungrouped, the compression branch),
the coarse tensors, the log-sum-exps and the indices. No gated branch and no branch's gradient is ever stored.
"""

from math import prod

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from . import attend, attend_backward, coarse, pool, selection, selection_backward
from .select import select_blocks

NAMES = ("ball_size", "block_size", "group_size", "top_k", "group_compression", "coarse_scores", "group_selection",
          "mask_own_ball")  # fmt: skip


def _block_mask(point_mask, block_size):
    return None if point_mask is None else point_mask.unflatten(1, (-1, block_size)).any(-1)


def _contiguous(*tensors):
    return (None if x is None else x.contiguous() for x in tensors)


def _pooled(q, k, v, point_mask, q_coarse, k_coarse, v_coarse, group, block, needs_q):
    """Coarse tensors and score queries, with as few launches as the sizes allow."""
    score_q = q_coarse if needs_q == "scores" else None
    want = {}
    if k_coarse is None:
        want["k"] = k
    if v_coarse is None:
        want["v"] = v
    if q_coarse is None and (needs_q or group == block):
        want["q"] = q
    made = dict(zip(want, pool.pool(list(want.values()), point_mask, block))) if want else {}
    q_coarse = made.get("q", q_coarse)
    if needs_q == "scores":
        score_q = q_coarse
    elif group == block and "q" in made:
        score_q = made["q"]
    elif group == 1:
        score_q = q
    else:
        (score_q,) = pool.pool([q], point_mask, group)
    return score_q, q_coarse, made.get("k", k_coarse), made.get("v", v_coarse)


def forward(
    q: Tensor, k: Tensor, v: Tensor, gate: Tensor, positions: Tensor | None, distance_slope: Tensor | None,
    point_mask: Tensor | None, q_coarse: Tensor | None, k_coarse: Tensor | None, v_coarse: Tensor | None,
    ball_size: int, block_size: int, group_size: int, top_k: int, group_compression: bool, coarse_scores: bool,
    group_selection: bool, mask_own_ball: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """out, compression, three log-sum-exps, indices, and the coarse q, k, v made here ((0,) where given)."""
    group = group_size if group_selection else 1
    given = q_coarse, k_coarse, v_coarse
    q, k, v, gate, positions, q_coarse, k_coarse, v_coarse = _contiguous(
        q, k, v, gate, None if positions is None else positions.float(), q_coarse, k_coarse, v_coarse)
    needs_q = "scores" if coarse_scores else "compression" if group_compression else ""
    score_q, q_coarse, k_coarse, v_coarse = _pooled(q, k, v, point_mask, q_coarse, k_coarse, v_coarse, group,
                                                    block_size, needs_q)
    block_mask = _block_mask(point_mask, block_size)
    tiles = None
    if group_compression and score_q is q_coarse and coarse.can_scan(q_coarse, top_k):
        compression, compression_lse, tiles = coarse.attend_and_scan(
            q_coarse, k_coarse, v_coarse, block_mask, ball_size, block_size, mask_own_ball)
    else:
        queries = q_coarse if group_compression else q
        compression, compression_lse = attend.forward(queries, k_coarse, v_coarse, block_mask)
    indices = select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group, top_k, mask_own_ball,
                            tiles=tiles, dtype=torch.int32)
    ball, ball_lse = attend.forward(q, k, v, point_mask, positions, distance_slope, ball=ball_size)
    out, selection_lse = selection.forward(q, k, v, indices, point_mask, block_size, group, gate, ball, compression,
                                           block_size if group_compression else 1)
    if not group_compression:  # it only scored, and has no gradient
        q_coarse = None
    pooled = zip(given, (q_coarse, k_coarse, v_coarse))
    made = (x if own is None and x is not None else q.new_empty(0) for own, x in pooled)
    return out, compression, ball_lse, compression_lse, selection_lse, indices, *made


def _fake_forward(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, ball_size,
                  block_size, group_size, top_k, group_compression, coarse_scores, group_selection, mask_own_ball):
    batch, heads, n, d = q.shape
    blocks = n // block_size
    group = group_size if group_selection else 1
    pooled = (batch, heads, blocks, d)
    lse = lambda rows: q.new_empty((batch, heads, rows), dtype=torch.float32)
    like = lambda x, shape: x.new_empty(shape)
    rows = blocks if group_compression else n
    pools_q = q_coarse is None and group_compression
    return (like(q, q.shape), like(q, (batch, heads, rows, d)), lse(n), lse(rows), lse(n),
            q.new_empty((batch, heads, n // group, top_k), dtype=torch.int32), like(q, pooled if pools_q else (0,)),
            like(q, pooled if k_coarse is None else (0,)), like(q, pooled if v_coarse is None else (0,)))


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, positions: Tensor | None,
    distance_slope: Tensor | None, point_mask: Tensor | None, q_coarse: Tensor, k_coarse: Tensor, v_coarse: Tensor,
    compression: Tensor, ball_lse: Tensor, compression_lse: Tensor, selection_lse: Tensor,
    indices: Tensor, block_size: int, group_size: int, ball_size: int, group_compression: bool,
    q_given: bool, k_given: bool, v_given: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, gate, slope, and of the coarse q, k, v; (0,) for those that have none."""
    # First, while none of the gradients takes memory yet: sorting does.
    inverse = selection_backward.inverse_index(indices, q.shape[2] // block_size)
    none = lambda: q.new_empty(0)  # one each: outputs may not share memory
    q, k, v, gate, dout, positions = _contiguous(
        q, k, v, gate, dout, None if positions is None else positions.float())
    q_coarse, k_coarse, v_coarse = _contiguous(q_coarse, k_coarse, v_coarse)
    if point_mask is not None:
        dout = dout.masked_fill(~point_mask[:, None, :, None], 0)
    block_mask = _block_mask(point_mask, block_size)
    dgate = torch.empty_like(gate)
    dq_coarse = None
    if group_compression:
        dcompression = pool.coarse_gradient(dout, gate, compression, dgate, block_size)
        dq_coarse, dk_coarse, dv_coarse, _ = attend_backward.backward(
            dcompression, q_coarse, k_coarse, v_coarse, compression, compression_lse, block_mask)
        dq = None
    else:
        dq, dk_coarse, dv_coarse, _ = attend_backward.backward(
            dout, q, k_coarse, v_coarse, compression, compression_lse, block_mask, gate=gate, branch=1, dgate=dgate)
    dq, dk, dv, dslope = attend_backward.backward(
        dout, q, k, v, None, ball_lse, point_mask, positions, distance_slope, gate, 0, ball=ball_size, dq=dq,
        dgate=dgate)
    dq, delta = selection.backward_q(
        dout, q, k, v, indices, point_mask, selection_lse, block_size, group_size, gate, 2, dq, dgate,
        None if q_given else dq_coarse, block_size)
    if k_given != v_given:  # one pooled, one given: the kernel takes both or neither
        (dk if v_given else dv).add_(spread(dk_coarse if v_given else dv_coarse, point_mask, block_size))
    both = not (k_given or v_given)
    dk, dv = selection_backward.backward_kv(
        dout, q, k, v, inverse, indices.shape[3], point_mask, selection_lse, delta, block_size, group_size, gate, 2,
        dk, dv, dk_coarse if both else None, dv_coarse if both else None)
    return (dq, dk, dv, dgate, none() if dslope is None else dslope,
            dq_coarse if q_given and dq_coarse is not None else none(),
            dk_coarse if k_given else none(), dv_coarse if v_given else none())


def spread(grad, point_mask, size):
    """Gradient of a masked mean over runs of `size` points."""
    fine = grad.repeat_interleave(size, 2)
    if point_mask is None:
        return fine / size
    real = point_mask.unflatten(1, (-1, size))
    share = (real / real.sum(-1, keepdim=True).clamp(min=1)).flatten(1)
    return fine * share[:, None, :, None].to(fine.dtype)


def _fake_backward(dout, q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse,
                   compression, ball_lse, compression_lse, selection_lse, indices, block_size, group_size, ball_size,
                   group_compression, q_given, k_given, v_given):
    like = lambda x: x.new_empty(x.shape)
    none = lambda: q.new_empty(0)  # one each: outputs may not share memory
    return (like(q), like(k), like(v), like(gate), none() if distance_slope is None else like(distance_slope),
            like(q_coarse) if q_given and group_compression else none(), like(k_coarse) if k_given else none(),
            like(v_coarse) if v_given else none())


def _setup(ctx, inputs, output):
    given, options = inputs[:10], dict(zip(NAMES, inputs[10:]))
    out, compression, ball_lse, compression_lse, selection_lse, indices, *made = output
    pooled = [x if x is not None else own for x, own in zip(given[7:], made)]
    ctx.save_for_backward(*given[:7], *pooled, compression, ball_lse, compression_lse, selection_lse, indices)
    ctx.given = [x is not None for x in given[7:]]
    ctx.options = options
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx, dout, *_):
    options = ctx.options
    if dout is None:
        return (None,) * 18
    group = options["group_size"] if options["group_selection"] else 1
    saved = ctx.saved_tensors  # once: under checkpointing a second access is an error
    grads = fused_backward(dout, *saved, options["block_size"], group, options["ball_size"],
                           options["group_compression"], *ctx.given)
    dq, dk, dv, dgate, dslope, *dcoarse = grads
    has_slope = saved[5] is not None
    uses = (ctx.given[0] and options["group_compression"], *ctx.given[1:])
    dcoarse = (x if use else None for use, x in zip(uses, dcoarse))
    return dq, dk, dv, dgate, None, dslope if has_slope else None, None, *dcoarse, *(None,) * 8


def _register(name, function, fake):
    """What `torch.library.custom_op` does, without the checks that it makes at every call."""
    torch.library.define(name, torch.library.infer_schema(function, mutates_args=()))
    torch.library.impl(name, ("cuda", "cpu"), function)
    torch.library.register_fake(name, fake)
    return getattr(torch.ops.bsa_kernels, name.split("::")[1]).default


fused = _register("bsa_kernels::fused_triton", forward, _fake_forward)
fused_backward = _register("bsa_kernels::fused_triton_backward", backward, _fake_backward)
torch.library.register_autograd("bsa_kernels::fused_triton", _backward, setup_context=_setup)


def ball_sparse_attention(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse,
                          **options):
    """Gated sum of the three branches, (B,H,N,d); differentiable and traceable."""
    with torch.autocast(q.device.type, enabled=False):
        return fused(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse,
                     *(options[name] for name in NAMES))[0]


def _flops(q, args, products):
    sizes = dict(zip(NAMES, args))
    n, blocks = q[2], q[2] // sizes["block_size"]
    queries = blocks if sizes["group_compression"] else n
    pairs = n * (sizes["ball_size"] + sizes["top_k"] * sizes["block_size"]) + queries * blocks
    return products * 2 * prod(q[:2]) * pairs * q[3]


@register_flop_formula(torch.ops.bsa_kernels.fused_triton)
def _forward_flops(q, k, v, gate, positions, slope, mask, q_coarse, k_coarse, v_coarse, *args, out_shape=None, **_):
    sizes = dict(zip(NAMES, args))
    groups = q[2] // (sizes["group_size"] if sizes["group_selection"] else 1)
    return _flops(q, args, 2) + 2 * prod(q[:2]) * groups * (q[2] // sizes["block_size"]) * q[3]


@register_flop_formula(torch.ops.bsa_kernels.fused_triton_backward)
def _backward_flops(dout, q, k, v, gate, positions, slope, mask, q_coarse, k_coarse, v_coarse, compression,
                    ball_lse, compression_lse, selection_lse, indices, block_size, group_size, ball_size, *_args,
                    out_shape=None, **_):
    pairs = q[2] * (ball_size + indices[3] * block_size) + compression[2] * (q[2] // block_size)
    return 5 * 2 * prod(q[:2]) * pairs * q[3]
