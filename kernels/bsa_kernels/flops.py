"""FLOP formulas for :class:`torch.utils.flop_counter.FlopCounterMode`.

A multiply-add is two, exponentials are not counted. A forward is two matrix products over the scores, a backward five
(it rebuilds the scores). Torch counts its own fused attention in the same way, but not the one it runs on a CPU, which
would count as nothing: that is added here.
"""

import torch
from torch.utils.flop_counter import flop_registry, register_flop_formula

from bsa_kernels import ops  # noqa: F401  (registers the operators that the formulas are for)

_ops = torch.ops.bsa_kernels


def _products(q_shape, keys_per_query, count):
    batch, heads, n, head_dim = q_shape
    return count * 2 * batch * heads * n * keys_per_query * head_dim


@register_flop_formula(_ops.ball_attention)
def _ball(q, k, v, positions, distance_slope, point_mask, ball_size, backend, *, out_shape=None, **_):
    return _products(q, ball_size, 2)


@register_flop_formula(_ops.ball_attention_backward)
def _ball_backward(
    grad, q, k, v, positions, distance_slope, point_mask, out, lse, ball_size, backend, *, out_shape=None, **_
):
    return _products(q, ball_size, 5)


@register_flop_formula(_ops.compressed_attention)
def _compressed(q, k_coarse, *_args, out_shape=None, **_):
    return _products(q, k_coarse[2], 2)


@register_flop_formula(_ops.compressed_attention_backward)
def _compressed_backward(grad, q, k_coarse, *_args, out_shape=None, **_):
    return _products(q, k_coarse[2], 5)


@register_flop_formula(_ops.select_blocks)
def _select(score_q, k_coarse, *_args, out_shape=None, **_):
    return _products(score_q, k_coarse[2], 1)


@register_flop_formula(_ops.selected_attention)
def _selected(q, k, v, indices, point_mask, block_size, *_args, out_shape=None, **_):
    return _products(q, indices[3] * block_size, 2)


@register_flop_formula(_ops.selected_attention_backward)
def _selected_backward(grad, q, k, v, indices, point_mask, out, lse, block_size, *_args, out_shape=None, **_):
    return _products(q, indices[3] * block_size, 5)


def _dense(q, k, v, *_args, out_shape=None, **_):
    return _products(q, k[2], 2)


def _dense_backward(grad, q, k, v, *_args, out_shape=None, **_):
    return _products(q, k[2], 5)


for _op, _formula in (
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu, _dense),
    (torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward, _dense_backward),
):
    if _op not in flop_registry:  # a later torch may count it itself
        register_flop_formula(_op)(_formula)
