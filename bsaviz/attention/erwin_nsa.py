"""The attention of Erwin-NSA: compression over balls, selection of balls, local ball attention."""

from bsaviz.attention.bsa import BallSparseAttention


class ErwinNSAAttention(BallSparseAttention):
    """Native Sparse Attention over a ball tree (Erwin-NSA, arXiv 2508.10758, section 3).

    .. math::
        o_i = \\gamma_i^{ball}\\, a_{ball}(i) + \\gamma_i^{cmp}\\, a_{cmp}(i) + \\gamma_i^{slc}\\, a_{slc}(i)

    with the gates :math:`\\gamma = \\sigma(W x_i)` of every token. The ball branch stands in the place of NSA's sliding
    window and is Erwin's: softmax(q k^T / sqrt(d) + sigma_h \\|p_i - p_j\\|) v over a large ball. Compression reads one
    mean key and value of each small ball (`block_size` slots: a lower level of the same tree). Selection reads the
    points of the `top_k` small balls of highest compressed score, chosen by every query for itself; its own ball counts
    among them.

    It is :class:`BallSparseAttention` without groups, with larger blocks and more of them, and with its own ball
    readable by the selection.

    Differences to the published code: each head chooses its balls (the kernels that one builds on, fla-org's for
    language models, let 16 heads choose together), padding is masked, the slopes sigma_h are trained, and batches of
    several samples are allowed (its open question 4). Neither scores nor probabilities are kept: the kernels, and the
    plain path tile by tile, make them again in the backward pass; so are q, k and v, and with kernels the choice where
    every query makes its own (its open question 3).

    Probe points: those of :class:`BallSparseAttention`, without ``q_coarse``.

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    ball_size : int
        Points of a ball of the local attention.
    block_size : int
        Points of a small ball, that is compressed and selected; `ball_size` is a multiple.
    top_k : int
        Small balls that a query selects.
    group_size : int
        Queries that select together; 1, as published: every query for itself.
    pooling, spatial_dims, train_slope, keep_heads, backend
        As in :class:`BallSparseAttention`.
    """

    def __init__(
        self, dim, num_heads, ball_size=512, block_size=32, top_k=16, *,
        group_size=1, pooling="mean", spatial_dims=3, train_slope=True, keep_heads=False, backend="auto",
    ):  # fmt: skip
        super().__init__(
            dim, num_heads, ball_size, block_size, group_size, top_k, pooling=pooling, group_selection=group_size != 1,
            mask_own_ball=False, spatial_dims=spatial_dims, train_slope=train_slope, keep_heads=keep_heads,
            backend=backend,
        )  # fmt: skip
