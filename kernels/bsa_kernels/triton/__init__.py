"""The Triton backend: what :mod:`bsa_kernels.ops` asks of a backend, on top of the kernels in this package.

What it runs; anything else is for backend="torch", to which "auto" turns by itself:

====================  ================================================================================================
device                CUDA (compute capability 8.0 on; tile sizes are those that were fastest on 9.0)
dtype                 bfloat16, float16, float32 (in full precision unless PyTorch's own switch allows TF32)
head dimension        4 to 128
ball_size             a power of two from 32 to 1024
block_size            a power of two from 4 to 64
group_size            a power of two from 4 to 64, or every query for itself
top_k                 1 to 32
positions             in 2 or 3 dimensions; constants
coarse q, k, v        mean-pooled here, or given; all gradients
N                     any multiple of ball_size, N * d < 2**31; batches with B * H < 2**16
====================  ================================================================================================
"""

import os

import torch

from . import attend, attend_backward, inverse, per_query, select, selection, selection_backward
from .fused import ball_sparse_attention

__all__ = [
    "ball_attention", "ball_attention_backward", "ball_sparse_attention", "compressed_attention",
    "compressed_attention_backward", "select_blocks", "selected_attention", "selected_attention_backward",
    "unsupported",
]  # fmt: skip

DTYPES = (torch.bfloat16, torch.float16, torch.float32)
SIZES = dict(ball_size=(32, 1024), block_size=(4, 64), group_size=(4, 64))


def unsupported(operator, q, *, top_k=1, spatial_dims=0, group_selection=True, **sizes):
    """Why the kernels cannot run `operator` on `q`, or None."""
    batch, heads, n, d = q.shape
    if not q.is_cuda and q.device.type != "meta" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"the kernels run on CUDA devices, and q is on {q.device}"
    if q.dtype not in DTYPES:
        return f"the kernels take bfloat16, float16 and float32, not {q.dtype}"
    if not 4 <= d <= 128:
        return f"the kernels take head dimensions 4 to 128, not {d}"
    for name, (low, high) in SIZES.items():
        size = sizes.get(name)
        single = name == "group_size" and (size == 1 or not group_selection)
        if size is not None and not single and not (low <= size <= high and size & (size - 1) == 0):
            return f"the kernels take {name} a power of two from {low} to {high}, not {size}"
    if not 1 <= top_k <= 32:
        return f"the kernels take top_k from 1 to 32, not {top_k}"
    if spatial_dims not in (0, 2, 3):
        return f"the kernels take positions in 2 or 3 dimensions, not {spatial_dims}"
    slots = batch * heads * n * top_k // (sizes.get("group_size", 1) if group_selection else 1)
    if n * d >= 2**31 or batch * heads >= 2**16 or slots >= 2**31:
        return (
            "the kernels take N * d and the number of slots B * H * G * k below 2**31, and B * H below 2**16, "
            f"not {n} * {d}, {slots} and {batch * heads}"
        )
    return None


def _contiguous(*tensors):
    return [None if x is None else x.contiguous() for x in tensors]


def ball_attention(q, k, v, positions, distance_slope, point_mask, ball_size):
    """Forward of ball attention: ``(out, lse)``."""
    positions = None if positions is None else positions.float()
    return attend.forward(*_contiguous(q, k, v, point_mask, positions), distance_slope, ball=ball_size)


def ball_attention_backward(grad_out, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size):
    """Backward of ball attention: ``(grad_q, grad_k, grad_v, grad_slope)``; an empty grad_slope without a slope."""
    positions = None if positions is None else positions.float()
    grad_out, q, k, v, lse, point_mask, positions = _contiguous(grad_out, q, k, v, lse, point_mask, positions)
    *grads, slope = attend_backward.backward(
        grad_out, q, k, v, None, lse, point_mask, positions, distance_slope, ball=ball_size)
    return *grads, q.new_empty(0) if slope is None else slope


def compressed_attention(q, k_coarse, v_coarse, block_mask):
    """Forward of attention to the coarse keys: ``(out, lse)``."""
    return attend.forward(*_contiguous(q, k_coarse, v_coarse, block_mask))


def compressed_attention_backward(grad_out, q, k_coarse, v_coarse, block_mask, out, lse):
    """Backward of attention to the coarse keys: ``(grad_q, grad_k_coarse, grad_v_coarse)``."""
    return tuple(attend_backward.backward(*_contiguous(grad_out, q, k_coarse, v_coarse, out, lse, block_mask))[:3])


def select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball):
    """Indices of the best blocks of every group, best first, ties to the lowest, -1 for a missing slot."""
    module = per_query if per_query.picks(k_coarse.shape[2], group_size, top_k) else select
    return module.select_blocks(score_q, k_coarse, block_mask, ball_size, block_size, group_size, top_k, mask_own_ball)


def selected_attention(q, k, v, indices, point_mask, block_size, group_size):
    """Forward of attention to the selected blocks: ``(out, lse)``."""
    if group_size == 1:
        return per_query.forward(*_contiguous(q, k, v, indices, point_mask), block_size)
    return selection.forward(*_contiguous(q, k, v, indices, point_mask), block_size, group_size)


def selected_attention_backward(grad_out, q, k, v, indices, point_mask, out, lse, block_size, group_size):
    """Backward of attention to the selected blocks: ``(grad_q, grad_k, grad_v)``."""
    grad_out, q, k, v, indices, point_mask, lse = _contiguous(grad_out, q, k, v, indices, point_mask, lse)
    chosen_by = inverse.inverse_index(indices, k.shape[2] // block_size)
    arguments = grad_out, q, k, v, indices, point_mask, lse, block_size
    if group_size == 1:
        grad_q, *rest = per_query.backward_q(*arguments)
    else:
        grad_q, *rest = selection_backward.backward_q(*arguments, group_size)
    return grad_q, *selection_backward.backward_kv(
        grad_out, q, k, v, chosen_by, indices.shape[3], point_mask, lse, *rest, block_size, group_size)
