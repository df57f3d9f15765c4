"""Sliding-window attention over slots: every query reads the slots around its own."""

import torch
from torch.nn import functional as F


def sliding_window(q, k, v, mask=None, *, window):
    """softmax(q_i k_j^T / sqrt(d)) v_j over the slots j around i (NSA, arXiv 2502.11089, section 3.3.3).

    Query i reads the `window` slots from ``i - window // 2`` on, those of them that exist and are real. Unlike in
    text, they lie on both sides.

    Queries are taken in runs of half a window, each with the keys of one and a half windows that it needs, so that
    memory grows with N times the window and nothing quadratic is made. It is plain PyTorch on every device: the ball
    kernel reads whole balls, and a window crosses the border of two.

    Parameters
    ----------
    q, k, v : Tensor (B, H, N, d)
    mask : Tensor (B, N) bool, optional
        True for real points. A masked point is never read, and its output is zero.
    window : int
        Slots that a query reads, its own included.

    Returns
    -------
    Tensor (B, H, N, d)
    """
    n = q.shape[2]
    run = min(max(window // 2, 1), n)
    runs = -(-n // run)
    before, after = min(window // 2, n - 1), min((window - 1) // 2, n - 1)
    width = run + before + after
    pad = lambda x, left, total, value=0: F.pad(x, (0, 0, left, total - left - x.shape[2]), value=value)
    queries = pad(q, 0, runs * run).unflatten(2, (runs, run)).transpose(1, 2)
    padded = before + runs * run + after
    keys, values = (pad(x, before, padded).unfold(2, width, run)[:, :, :runs].permute(0, 2, 1, 4, 3) for x in (k, v))
    # key c of a run is slot c - before of the run's first: a query at r reads c from r to r + before + after
    offset = torch.arange(width, device=q.device) - torch.arange(run, device=q.device)[:, None]
    near = (offset >= 0) & (offset <= before + after)
    real = q.new_ones(1, n, dtype=torch.bool) if mask is None else mask
    readable = F.pad(real, (before, padded - before - n)).unfold(1, width, run)[:, :runs]
    allowed = near & readable[:, :, None, None]
    allowed = allowed | ~allowed.any(-1, keepdim=True)  # padding reads anything, so that no row is empty
    shape = (-1, *queries.shape[2:])
    allowed = allowed.expand(q.shape[0], *allowed.shape[1:]).flatten(0, 1)
    out = F.scaled_dot_product_attention(
        queries.reshape(shape), keys.flatten(0, 1), values.flatten(0, 1), attn_mask=allowed
    )
    out = out.unflatten(0, (q.shape[0], runs)).transpose(1, 2).flatten(2, 3)[:, :, :n]
    return out if mask is None else out.masked_fill(~mask[:, None, :, None], 0)
