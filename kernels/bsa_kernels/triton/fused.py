"""The whole of Ball Sparse Attention as one operator: branches, gates and pooling share kernels, forward and backward.

Beside the inputs, the forward keeps one tensor of the input's size (ungrouped, the compression branch), the coarse
tensors, the log-sum-exps and the indices, all in one allocation. No gated branch and no branch's gradient is stored.

Eager calls go straight to the kernels through one autograd function; the registered operators serve those who look:
torch.compile, fake and meta tensors, FLOP counters, function transforms.
"""

from math import prod

import torch
from torch import Tensor
from torch.utils._python_dispatch import _get_current_dispatch_mode
from torch.utils.flop_counter import register_flop_formula

from bsa_kernels.register import operator

from . import inverse, per_query
from .fused_backward import backward_plan
from .fused_forward import Spec, forward_plan, room_of, saved_room
from .launch import addressable
from .tiles import as_bytes

NAMES = ("ball_size", "block_size", "group_size", "top_k", "group_compression", "coarse_scores", "group_selection",
         "mask_own_ball")  # fmt: skip
INPUTS = "q", "k", "v", "gate", "positions", "slope", "mask", "qc", "kc", "vc"
OPTIONAL = "do_coarse", "negative", "ball_factor", "factor", "chosen_factor"  # None where the room has none
_plans = {}


def _ready(q, k, v, gate, positions, slope, mask, q_coarse, k_coarse, v_coarse):
    """The inputs as kernels take them: contiguous, positions in float32, the mask in bytes."""
    if positions is not None:
        positions = positions.float().contiguous()
    tensors = [x if x is None else x.contiguous() for x in (q, k, v, gate)]
    coarse = [x if x is None else x.contiguous() for x in (q_coarse, k_coarse, v_coarse)]
    return *tensors, positions, slope, as_bytes(mask), *coarse


def _spec(inputs, options):
    q, k, v, gate, positions, slope, mask, *coarse = inputs
    ball, block, group, top_k, group_compression, coarse_scores, group_selection, mask_own_ball = options
    return Spec(*q.shape, q.dtype, q.device, 0 if slope is None else positions.shape[2],
                None if slope is None else slope.dtype, mask is not None, tuple(x is not None for x in coarse),
                ball, block, group if group_selection else 1, top_k, group_compression, coarse_scores, mask_own_ball,
                torch.backends.cuda.matmul.allow_tf32, q.device.type == "meta" or addressable(*inputs))


def _plan(make, spec):
    """A plan made once; one whose tensors are not aligned is made anew, since it goes through Triton's own launcher."""
    plan = _plans.get((make, spec))
    if plan is None:
        plan = make(spec)
        if spec.aligned:
            _plans[make, spec] = plan
    return plan


def forward(
    q: Tensor, k: Tensor, v: Tensor, gate: Tensor, positions: Tensor | None, distance_slope: Tensor | None,
    point_mask: Tensor | None, q_coarse: Tensor | None, k_coarse: Tensor | None, v_coarse: Tensor | None,
    ball_size: int, block_size: int, group_size: int, top_k: int, group_compression: bool, coarse_scores: bool,
    group_selection: bool, mask_own_ball: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """out, and the bytes that the backward needs (see `fused_forward.saved_room`)."""
    options = (ball_size, block_size, group_size, top_k, group_compression, coarse_scores, group_selection,
               mask_own_ball)
    inputs = _ready(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse)
    return _forward(inputs, _spec(inputs, options))


def _forward(inputs, spec):
    plan = _plan(forward_plan, spec)
    out = torch.empty_like(inputs[0])
    memories = {name: room.allocate(spec.device) for name, room in plan.rooms.items()}
    plan(dict(zip(INPUTS, inputs), out=out) | _absent(inputs), memories)
    return out, memories["saved"]


def _absent(inputs):
    """Names that no room holds and that the kernels are then told are not there."""
    return {} if inputs[6] is not None else {"block_mask": None}


def _fake_forward(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, ball_size,
                  block_size, group_size, top_k, group_compression, coarse_scores, group_selection, mask_own_ball):
    given = tuple(x is not None for x in (q_coarse, k_coarse, v_coarse))
    room = saved_room(*q.shape, q.dtype, point_mask is not None, given, block_size,
                      group_size if group_selection else 1, top_k, group_compression)
    return q.new_empty(q.shape), q.new_empty(room.bytes, dtype=torch.uint8)


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, positions: Tensor | None,
    distance_slope: Tensor | None, point_mask: Tensor | None, q_coarse: Tensor | None, k_coarse: Tensor | None,
    v_coarse: Tensor | None, saved: Tensor,
    ball_size: int, block_size: int, group_size: int, top_k: int, group_compression: bool, coarse_scores: bool,
    group_selection: bool, mask_own_ball: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of q, k, v, gate, slope, and of the coarse q, k, v; (0,) for those that have none."""
    options = (ball_size, block_size, group_size, top_k, group_compression, coarse_scores, group_selection,
               mask_own_ball)
    inputs = _ready(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse)
    grads = _backward(dout, inputs, saved, _spec(inputs, options))
    return tuple(q.new_empty(0) if grad is None else grad for grad in grads)


def _backward(dout, inputs, saved, spec):
    q, k, v, gate, _, slope, _, q_coarse, k_coarse, v_coarse = inputs
    dout = dout.contiguous()
    if not addressable(dout):
        spec = spec._replace(aligned=False)
    plan = _plan(backward_plan, spec)
    tensors = dict(zip(INPUTS, inputs), dout=dout) | _absent(inputs)
    waits = inverse.waits(spec.groups, spec.top_k, spec.blocks)
    if waits or per_query.forgets(spec.blocks, spec.group, spec.top_k):
        tensors["indices"] = indices = _choice(inputs, saved, spec)
    if waits:  # ahead of the gradients' memory: sorting takes some
        tensors["order"], tensors["bounds"] = inverse.inverse_index(indices, spec.blocks)
    like = lambda x: None if x is None else torch.empty_like(x)
    grads = dict(dq=like(q), dk=like(k), dv=like(v), dgate=like(gate), dslope=like(slope),
                 dqc=like(q_coarse) if spec.group_compression else None, dkc=like(k_coarse), dvc=like(v_coarse))
    tensors |= dict.fromkeys(OPTIONAL) | grads
    plan(tensors, {"saved": saved, "scratch": plan.rooms["scratch"].allocate(q.device)})
    return tuple(grads.values())


def _choice(inputs, saved, spec):
    """The blocks that the forward chose: as it kept them, or chosen again."""
    kept = room_of(spec).views(saved)
    if "indices" in kept:
        return kept["indices"]
    k_coarse = kept["kc"] if inputs[8] is None else inputs[8]
    return per_query.select_blocks(inputs[0], k_coarse, kept.get("block_mask"), spec.ball, spec.block, spec.group,
                                   spec.top_k, spec.mask_own_ball, torch.int16)


def _fake_backward(dout, q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse, saved,
                   ball_size, block_size, group_size, top_k, group_compression, *_):
    like = lambda x: q.new_empty(0) if x is None else x.new_empty(x.shape)
    return (like(q), like(k), like(v), like(gate), like(distance_slope), like(q_coarse if group_compression else None),
            like(k_coarse), like(v_coarse))


def _setup(ctx, inputs, output):
    ctx.save_for_backward(*inputs[:10], output[1])
    ctx.options = inputs[10:]
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, dout, *_):
    if dout is None:
        return (None,) * 18
    saved = ctx.saved_tensors  # once: under checkpointing a second access is an error
    *grads, dslope, dqc, dkc, dvc = fused_backward(dout, *saved, *ctx.options)
    absent = lambda x, grad: None if x is None else grad
    coarse = absent(saved[7] if ctx.options[4] else None, dqc), absent(saved[8], dkc), absent(saved[9], dvc)
    return *grads, None, absent(saved[5], dslope), None, *coarse, *(None,) * 8


fused = operator("bsa_kernels::fused_triton")(forward)
fused_backward = operator("bsa_kernels::fused_triton_backward")(backward)
torch.library.register_fake("bsa_kernels::fused_triton", _fake_forward)
torch.library.register_fake("bsa_kernels::fused_triton_backward", _fake_backward)
torch.library.register_autograd("bsa_kernels::fused_triton", _differentiate, setup_context=_setup)


class _Fused(torch.autograd.Function):
    """The registered operator, without the dispatcher."""

    @staticmethod
    def forward(ctx, options, *inputs):
        inputs = _ready(*inputs)
        ctx.spec = _spec(inputs, options)
        out, saved = _forward(inputs, ctx.spec)
        ctx.save_for_backward(*inputs, saved)
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    def backward(ctx, dout):
        if dout is None:
            return (None,) * 11
        if torch.is_grad_enabled():  # asked to differentiate the gradient too
            return _once(ctx, dout)
        return _gradients(ctx, dout)


def _gradients(ctx, dout):
    *inputs, saved = ctx.saved_tensors
    dq, dk, dv, dgate, dslope, *coarse = _backward(dout, inputs, saved, ctx.spec)
    return None, dq, dk, dv, dgate, None, dslope, None, *coarse


_once = torch.autograd.function.once_differentiable(_gradients)


def _watched(tensors):
    """Whether somebody looks at the operators on the way: a compiler, a mode, a transform, a tensor of its own kind."""
    return (
        torch.compiler.is_compiling()
        or _get_current_dispatch_mode() is not None
        or torch._C._functorch.peek_interpreter_stack() is not None
        or any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors if x is not None)
        or tensors[0].device.type == "meta"
    )


def ball_sparse_attention(q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse,
                          **options):
    """Gated sum of the three branches, (B,H,N,d); differentiable and traceable."""
    inputs = q, k, v, gate, positions, distance_slope, point_mask, q_coarse, k_coarse, v_coarse
    options = tuple(options[name] for name in NAMES)
    if _watched(inputs):
        with torch.autocast(q.device.type, enabled=False):
            return fused(*inputs, *options)[0]
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return _Fused.apply(options, *inputs)
    inputs = _ready(*inputs)
    return _forward(inputs, _spec(inputs, options))[0]


def chosen_blocks(arguments, options):
    """Indices (B,H,G,k) that the forward chooses for these arguments and sizes."""
    inputs = _ready(*arguments)
    spec = _spec(inputs, tuple(options[name] for name in NAMES))
    return _choice(inputs, _forward(inputs, spec)[1], spec)


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
def _backward_flops(dout, q, k, v, gate, positions, slope, mask, q_coarse, k_coarse, v_coarse, saved, *args,
                    out_shape=None, **_):
    return _flops(q, args, 5)
