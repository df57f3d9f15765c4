"""The operators registered with torch, so that autograd, torch.compile, meta tensors and FLOP counters know them.

The boundary a backend fills in (every argument is positional, in this order; all tensors of one device):

======================================  ==============================================================================
``ball_attention``                      q, k, v, positions, distance_slope, point_mask, ball_size -> out, lse
``ball_attention_backward``             grad_out, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size
                                        -> grad_q, grad_k, grad_v, grad_slope ((0,) without a slope)
``compressed_attention``                q, k_coarse, v_coarse, block_mask -> out, lse
``compressed_attention_backward``       grad_out, q, k_coarse, v_coarse, block_mask, out, lse
                                        -> grad_q, grad_k_coarse, grad_v_coarse
``select_blocks``                       score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k,
                                        mask_own_ball -> indices
``selected_attention``                  q, k, v, indices, point_mask, block_size, group_size -> out, lse
``selected_attention_backward``         grad_out, q, k, v, indices, point_mask, out, lse, block_size, group_size
                                        -> grad_q, grad_k, grad_v
======================================  ==============================================================================

Shapes: q, k, v, out, grad_out (B, H, N, d); k_coarse, v_coarse (B, H, M, d); score_q (B, H, G, d); lse (B, H, N), the
natural log-sum-exp of the scaled and biased scores in float32, or float64 for float64 inputs, -inf where a query reads
nothing; positions (B, N, D) any float dtype; distance_slope (H,) any float dtype; point_mask (B, N) and block_mask
(B, M) bool, True for real, or None; indices (B, H, G, k) int64, -1 for a missing slot. Inputs may have any strides;
outputs are contiguous, never alias an input, and have the dtype of their counterpart. Where ``out`` is defined to be
zero (masked queries, nothing to read), its gradient does not flow. ``lse`` and ``indices`` carry no gradient, and
positions are constants. N, M, G and the sizes fit each other: :mod:`bsa_kernels.api` has checked them.

A backend may also offer ``ball_sparse_attention(q, k, v, gate, positions, distance_slope, point_mask, q_coarse,
k_coarse, v_coarse, **sizes and switches of the public function) -> out``, differentiable and traceable, which then
replaces the composition of the operators when nobody asked for the branches.
"""

import torch
from torch import Tensor

from bsa_kernels import backends
from bsa_kernels.register import operator


def _run(name, backend, args, q, **config):
    """Run one backend function in the precision it was given: autocast, still active here, must not touch it."""
    module = backends.choose(backend, name.removesuffix("_backward"), q, **config)
    with torch.autocast(q.device.type, enabled=False):
        return getattr(module, name)(*args)


def _lse_like(q):
    dtype = torch.float32 if q.dtype in (torch.float16, torch.bfloat16) else q.dtype
    return q.new_empty(q.shape[:3], dtype=dtype)


def _dims(positions):
    return 0 if positions is None else positions.shape[2]


def _empty(x):
    return x.new_empty(x.shape)


# Ball attention.


@operator("bsa_kernels::ball_attention")
def ball_attention(
    q: Tensor, k: Tensor, v: Tensor, positions: Tensor | None, distance_slope: Tensor | None, point_mask: Tensor | None,
    ball_size: int, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    args = q, k, v, positions, distance_slope, point_mask, ball_size
    return _run("ball_attention", backend, args, q, ball_size=ball_size, spatial_dims=_dims(positions))


@torch.library.register_fake("bsa_kernels::ball_attention")
def _(q, k, v, positions, distance_slope, point_mask, ball_size, backend):
    return _empty(q), _lse_like(q)


@operator("bsa_kernels::ball_attention_backward")
def ball_attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor,
    positions: Tensor | None, distance_slope: Tensor | None, point_mask: Tensor | None,
    out: Tensor, lse: Tensor, ball_size: int, backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    args = grad_out, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size
    return _run("ball_attention_backward", backend, args, q, ball_size=ball_size, spatial_dims=_dims(positions))


@torch.library.register_fake("bsa_kernels::ball_attention_backward")
def _(grad_out, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size, backend):
    slope = q.new_empty(0) if distance_slope is None else _empty(distance_slope)
    return _empty(q), _empty(k), _empty(v), slope


def _ball_setup(ctx, inputs, output):
    q, k, v, positions, distance_slope, point_mask, ctx.ball_size, ctx.backend = inputs
    ctx.save_for_backward(q, k, v, positions, distance_slope, point_mask, *output)
    ctx.mark_non_differentiable(output[1])


def _ball_backward(ctx, grad_out, _grad_lse):
    *inputs, out, lse = ctx.saved_tensors
    *grads, slope = ball_attention_backward(grad_out, *inputs, out, lse, ctx.ball_size, ctx.backend)
    return *grads, None, None if inputs[4] is None else slope, None, None, None


torch.library.register_autograd("bsa_kernels::ball_attention", _ball_backward, setup_context=_ball_setup)


# Attention to coarse keys.


@operator("bsa_kernels::compressed_attention")
def compressed_attention(
    q: Tensor, k_coarse: Tensor, v_coarse: Tensor, block_mask: Tensor | None, backend: str
) -> tuple[Tensor, Tensor]:
    return _run("compressed_attention", backend, (q, k_coarse, v_coarse, block_mask), q)


@torch.library.register_fake("bsa_kernels::compressed_attention")
def _(q, k_coarse, v_coarse, block_mask, backend):
    return _empty(q), _lse_like(q)


@operator("bsa_kernels::compressed_attention_backward")
def compressed_attention_backward(
    grad_out: Tensor, q: Tensor, k_coarse: Tensor, v_coarse: Tensor, block_mask: Tensor | None,
    out: Tensor, lse: Tensor, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    args = grad_out, q, k_coarse, v_coarse, block_mask, out, lse
    return _run("compressed_attention_backward", backend, args, q)


@torch.library.register_fake("bsa_kernels::compressed_attention_backward")
def _(grad_out, q, k_coarse, v_coarse, block_mask, out, lse, backend):
    return _empty(q), _empty(k_coarse), _empty(v_coarse)


def _compressed_setup(ctx, inputs, output):
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _compressed_backward(ctx, grad_out, _grad_lse):
    return *compressed_attention_backward(grad_out, *ctx.saved_tensors, ctx.backend), None, None


torch.library.register_autograd(
    "bsa_kernels::compressed_attention", _compressed_backward, setup_context=_compressed_setup
)


# Choice of blocks. No gradient: an index has none.


@operator("bsa_kernels::select_blocks")
def select_blocks(
    score_q: Tensor, k_coarse: Tensor, block_mask: Tensor | None,
    ball_size: int, block_size: int, group_size: int, top_k: int, mask_own_ball: bool, backend: str,
) -> Tensor:  # fmt: skip
    sizes = dict(ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k)
    args = score_q, k_coarse, block_mask, *sizes.values(), mask_own_ball
    return _run("select_blocks", backend, args, score_q, **sizes, mask_own_ball=mask_own_ball)


@torch.library.register_fake("bsa_kernels::select_blocks")
def _(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball, backend):
    return score_q.new_empty((*score_q.shape[:3], top_k), dtype=torch.int64)


# Attention to the chosen blocks.


@operator("bsa_kernels::selected_attention")
def selected_attention(
    q: Tensor, k: Tensor, v: Tensor, indices: Tensor, point_mask: Tensor | None,
    block_size: int, group_size: int, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    args = q, k, v, indices, point_mask, block_size, group_size
    sizes = dict(block_size=block_size, group_size=group_size, top_k=indices.shape[3])
    return _run("selected_attention", backend, args, q, **sizes)


@torch.library.register_fake("bsa_kernels::selected_attention")
def _(q, k, v, indices, point_mask, block_size, group_size, backend):
    return _empty(q), _lse_like(q)


@operator("bsa_kernels::selected_attention_backward")
def selected_attention_backward(
    grad_out: Tensor, q: Tensor, k: Tensor, v: Tensor, indices: Tensor, point_mask: Tensor | None,
    out: Tensor, lse: Tensor, block_size: int, group_size: int, backend: str,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    args = grad_out, q, k, v, indices, point_mask, out, lse, block_size, group_size
    sizes = dict(block_size=block_size, group_size=group_size, top_k=indices.shape[3])
    return _run("selected_attention_backward", backend, args, q, **sizes)


@torch.library.register_fake("bsa_kernels::selected_attention_backward")
def _(grad_out, q, k, v, indices, point_mask, out, lse, block_size, group_size, backend):
    return _empty(q), _empty(k), _empty(v)


def _selected_setup(ctx, inputs, output):
    *tensors, ctx.block_size, ctx.group_size, ctx.backend = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _selected_backward(ctx, grad_out, _grad_lse):
    grads = selected_attention_backward(grad_out, *ctx.saved_tensors, ctx.block_size, ctx.group_size, ctx.backend)
    return *grads, None, None, None, None, None


torch.library.register_autograd("bsa_kernels::selected_attention", _selected_backward, setup_context=_selected_setup)
