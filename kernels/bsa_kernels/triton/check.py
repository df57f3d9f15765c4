"""How far the kernels are from the float64 reference, next to plain PyTorch in the kernels' own precision.

Near ties between blocks are decided by rounding, so every side attends to the blocks that the kernels chose, and the
choice itself is checked on its own: against the best scores there are.
"""

import torch

from bsa_kernels import reference

from . import fused

OUTPUTS = ("out", "dq", "dk", "dv", "dgate", "dslope", "dq_coarse", "dk_coarse", "dv_coarse")
DEFAULTS = dict(ball_size=256, block_size=8, group_size=8, top_k=4, group_compression=False, coarse_scores=False,
                group_selection=True, mask_own_ball=True)  # fmt: skip


def inputs(n, heads, head_dim, dtype, *, batch=1, masked=False, biased=True, given=False, block_size=8, device="cuda",
           scale=1.0, seed=0):  # fmt: skip
    """Random arguments of the fused operator, in its order, and a gradient of its output."""
    source = torch.Generator(device).manual_seed(seed)
    normal = lambda *shape: torch.randn(*shape, generator=source, device=device) * scale
    q, k, v, dout = (normal(batch, heads, n, head_dim).to(dtype) for _ in range(4))
    gate = torch.rand(batch, heads, n, 3, generator=source, device=device).to(dtype)
    positions = torch.rand(batch, n, 3, generator=source, device=device) if biased else None
    slope = -torch.rand(heads, generator=source, device=device) - 0.5 if biased else None
    mask = None
    if masked:
        mask = torch.rand(batch, n, generator=source, device=device) > 0.3
        mask[:, 8 : 8 + 4 * block_size] = False  # whole blocks without a real point
    shape = batch, heads, n // block_size, head_dim
    coarse = [normal(*shape).to(dtype) if given else None for _ in range(3)]
    return (q, k, v, gate, positions, slope, mask, *coarse), dout


def composite(q, k, v, gate, positions, slope, mask, q_coarse, k_coarse, v_coarse, indices, *, ball_size, block_size,
              group_size, group_compression, group_selection, **_):  # fmt: skip
    """The reference with a given choice of blocks."""
    pool = lambda x, own: reference.pool_mean(x, mask, block_size).to(x.dtype) if own is None else own
    k_coarse, v_coarse = pool(k, k_coarse), pool(v, v_coarse)
    queries = pool(q, q_coarse) if group_compression else q
    block_mask = None if mask is None else mask.unflatten(1, (-1, block_size)).any(-1)
    ball, _ = reference.ball_attention(q, k, v, positions, slope, mask, ball_size=ball_size)
    compression, _ = reference.compressed_attention(queries, k_coarse, v_coarse, block_mask)
    if group_compression:
        compression = compression.repeat_interleave(block_size, 2)
    if mask is not None:
        compression = compression * mask[:, None, :, None]
    group = group_size if group_selection else 1
    selection, _ = reference.selected_attention(q, k, v, indices, mask, block_size=block_size, group_size=group)
    return gate[..., :1] * ball + gate[..., 1:2] * compression + gate[..., 2:] * selection


def relative(x, exact):
    """|x - exact| / |exact|; NaN anywhere gives NaN."""
    return ((x.double() - exact.double()).norm() / exact.double().norm().clamp_min(1e-300)).item()


def differentiate(function, arguments, dout, dtype=None):
    """Output and gradients of all floating arguments but the positions, converted to dtype first."""
    cast = lambda x: x if dtype is None or x is None or not x.is_floating_point() else x.to(dtype)
    arguments = [cast(x) for x in arguments]
    wanted = [i for i in (0, 1, 2, 3, 5, 7, 8, 9) if arguments[i] is not None]
    for i in wanted:
        arguments[i] = arguments[i].detach().clone().requires_grad_()
    out = function(*arguments)
    grads = torch.autograd.grad(out, [arguments[i] for i in wanted], cast(dout), allow_unused=True)
    names = [OUTPUTS[{0: 1, 1: 2, 2: 3, 3: 4, 5: 5, 7: 6, 8: 7, 9: 8}[i]] for i in wanted]
    return {"out": out.detach(), **{name: grad for name, grad in zip(names, grads) if grad is not None}}


def chosen(arguments, **options):
    """(B, H, G, k): the blocks that the kernels choose."""
    with torch.no_grad():
        return fused.chosen_blocks(arguments, DEFAULTS | options).long()


def errors(arguments, dout, *, indices=None, **options):
    """{output: (error of the kernels, error of plain PyTorch in the same precision)}, both against float64.

    `indices` are those of `chosen`, where they are known already.
    """
    options = DEFAULTS | options
    run = lambda *x: fused.ball_sparse_attention(*x, **options)
    indices = chosen(arguments, **options) if indices is None else indices
    plain = lambda *x: composite(*x, indices, **options)
    kernels = differentiate(run, arguments, dout)
    rounded = differentiate(plain, arguments, dout, arguments[0].dtype)
    exact = differentiate(plain, arguments, dout, torch.float64)
    return {name: (relative(kernels[name], exact[name]), relative(rounded[name], exact[name])) for name in exact}


def regret(arguments, *, indices=None, **options):
    """By how much the chosen blocks' scores fall short of the best ones, slot by slot, relative to the largest score.

    Zero but for the rounding of the means when the choice is right. Counts a missing slot where a block was to be had
    as infinite.
    """
    options = DEFAULTS | options
    q, k, mask, q_coarse, k_coarse = (arguments[i] for i in (0, 1, 6, 7, 8))
    indices = chosen(arguments, **options) if indices is None else indices
    with torch.no_grad():
        group = options["group_size"] if options["group_selection"] else 1
        pool = lambda x, size: reference.pool_mean(x.float(), mask, size).to(x.dtype).double()
        keys = pool(k, options["block_size"]) if k_coarse is None else k_coarse.double()
        queries = pool(q, group) if not options["coarse_scores"] or q_coarse is None else q_coarse.double()
        block_mask = None if mask is None else mask.unflatten(1, (-1, options["block_size"])).any(-1)
        best = reference.select_blocks(queries, keys, block_mask, ball_size=options["ball_size"],
                                       block_size=options["block_size"], group_size=group, top_k=options["top_k"],
                                       mask_own_ball=options["mask_own_ball"])  # fmt: skip
        scores = queries @ keys.mT
        take = lambda index: scores.gather(-1, index.clamp(min=0)).masked_fill(index < 0, -torch.inf)
        short = (take(best) - take(indices)).nan_to_num(nan=0.0, posinf=torch.inf)  # both missing: no loss
        return (short.abs().max() / scores.abs().max()).item()


def limits(dtype):
    """How large an error may be: times plain PyTorch's, forward and backward, and the regret."""
    return 2, 3, torch.finfo(dtype).eps / 4
