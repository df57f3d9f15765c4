"""Native Sparse Attention over points: compression, selection and a sliding window, gated."""

from math import lcm

import torch

from bsa_kernels import compressed_attention, pool_mean, select_blocks, selected_attention
from bsaviz._checks import BsavizError
from bsaviz.attention.bsa import check_variant
from bsaviz.attention.gating import TokenGate
from bsaviz.attention.heads import Heads
from bsaviz.attention.linear import rounded
from bsaviz.attention.pooling import BlockMLP
from bsaviz.attention.probe_point import ProbePoint
from bsaviz.attention.window import sliding_window


class NativeSparseAttention(Heads):
    """Native Sparse Attention (arXiv 2502.11089) over the slots of any ordering of points, both ways.

    .. math::
        o_i = \\sum_{b} \\gamma_i^b\\, softmax(q_i K_b^T / \\sqrt d) V_b, \\quad
        b \\in \\{compression, selection, window\\}

    with the gates :math:`\\gamma = \\sigma(W x_i)` of every token (eq. 5); one coarse key and value for each block of l
    slots (eq. 7); the `top_k` blocks of highest coarse score, chosen by every query for itself (eq. 8-12); and the
    `window` slots around the query. It is where Ball Sparse Attention started from.

    Differences to the paper: no causal mask and no rotary positions, since points are no text; blocks do not overlap
    (stride l) and are those of the selection too; each head chooses its own blocks; none is chosen by rule; the
    branches share their keys and values, as in BSA. Compression and selection run in the kernels; the window is plain
    PyTorch.

    Probe points: ``q``, ``k``, ``v``, ``compression``, ``selection``, ``window`` (B, H, N, d; the branches before their
    gates), ``k_coarse``, ``v_coarse`` (B, H, N / l, d), ``gate`` (B, H, N, 3), ``indices`` (B, H, G, k; -1 is a missing
    slot), ``compression_lse``, ``selection_lse`` (B, H, N), ``out`` (B, N, C).

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    block_size : int
        Slots l of a block.
    top_k : int
        Blocks that a query selects.
    window : int
        Slots of the sliding window.
    group_size : int
        Queries that select together, by their mean; 1, as in the paper: every query for itself.
    pooling : {"mean", "mlp"}
        phi, that makes one coarse vector of a block; the paper's is a perceptron.
    backend : {"auto", "triton", "torch"}
        Kernels that run it; may be changed at any time.
    """

    branches = ("compression", "selection", "window")

    def __init__(
        self, dim, num_heads, block_size=8, top_k=4, window=256, *, group_size=1, pooling="mean", backend="auto"
    ):
        super().__init__(dim, num_heads)
        nested = lcm(block_size, group_size) if min(block_size, group_size) > 0 else 1
        check_variant(pooling, "token", nested, block_size, group_size, top_k)
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise BsavizError(f"window must be a positive integer of slots, got {window!r}")
        self.block_size, self.top_k, self.window_size, self.group_size = block_size, top_k, window, group_size
        self.backend = backend
        self.gating = TokenGate(dim, num_heads)
        head_dim = dim // num_heads
        self.k_pooling, self.v_pooling = None, None
        if pooling == "mlp":
            self.k_pooling, self.v_pooling = BlockMLP(block_size, head_dim), BlockMLP(block_size, head_dim)
        self.gate, self.k_coarse, self.v_coarse, self.indices = (ProbePoint() for _ in range(4))
        self.compression, self.selection, self.window = (ProbePoint() for _ in range(3))
        self.compression_lse, self.selection_lse = ProbePoint(), ProbePoint()

    def forward(self, x, positions=None, mask=None):
        """Tokens (B, N, C) to tokens, in leaf order; `mask` (B, N) is True for real points. Positions are not read."""
        self.check(x, positions, mask)
        self._check_slots(x.shape[1])
        x = rounded(x)
        q, k, v = self.split(x)
        k_coarse = self.k_coarse(self._pooled(k, mask, self.k_pooling))
        v_coarse = self.v_coarse(self._pooled(v, mask, self.v_pooling))
        branches = (
            self.compression(self._compression(q, k_coarse, v_coarse, mask)),
            self.selection(self._selection(q, k, v, k_coarse, mask)),
            self.window(sliding_window(q, k, v, mask, window=self.window_size)),
        )
        gates = self.gate(self.gating(x)).unbind(-1)
        return self.merge(sum(gate[..., None] * branch for gate, branch in zip(gates, branches)))

    def trace_parameters(self):
        """What decides who reads whom: block and group size, and the window."""
        return {
            "block_size": self.block_size,
            "group_size": self.group_size,
            "group_compression": False,
            "window": self.window_size,
        }

    def _pooled(self, x, mask, perceptron):
        return pool_mean(x, mask, self.block_size) if perceptron is None else perceptron(x, mask)

    def _compression(self, q, k_coarse, v_coarse, mask):
        out, lse = compressed_attention(
            q, k_coarse, v_coarse, _any_real(mask, self.block_size), backend=self.backend, return_lse=True
        )
        if mask is not None:
            out, lse = out.masked_fill(~mask[:, None, :, None], 0), lse.masked_fill(~mask[:, None], -torch.inf)
        self.compression_lse(lse)
        return out

    def _selection(self, q, k, v, k_coarse, mask):
        n, sizes = q.shape[2], dict(block_size=self.block_size, group_size=self.group_size)
        indices = select_blocks(
            pool_mean(q.detach(), mask, self.group_size), k_coarse, _any_real(mask, self.block_size),
            ball_size=self._ball_size(n), top_k=self.top_k, mask_own_ball=False, backend=self.backend, **sizes,
        )  # fmt: skip
        if mask is not None:
            indices = indices.masked_fill(~_any_real(mask, self.group_size)[:, None, :, None], -1)
        out, lse = selected_attention(
            q, k, v, self.indices(indices), mask, backend=self.backend, return_lse=True, **sizes
        )
        self.selection_lse(lse)
        return out

    def _ball_size(self, n):
        """There are no balls here; the operator wants a size, and its kernels one of at least 32."""
        size = lcm(self.block_size, self.group_size)
        while size < 32 and n % (2 * size) == 0:
            size *= 2
        return size

    def _check_slots(self, num_slots):
        if num_slots % lcm(self.block_size, self.group_size):
            raise BsavizError(
                f"the number of leaf slots must be a multiple of block_size={self.block_size} and of "
                f"group_size={self.group_size}, got {num_slots}; order and pad the points with bsaviz.trees"
            )
        if self.top_k > num_slots // self.block_size:
            raise BsavizError(
                f"top_k={self.top_k} blocks were asked for, but there are only {num_slots // self.block_size} blocks "
                f"of {self.block_size} points; lower top_k or block_size, or give more points"
            )


def _any_real(mask, size):
    """(B, N / size): whether a run of slots holds a real point."""
    return None if mask is None else mask.unflatten(1, (-1, size)).any(-1)
