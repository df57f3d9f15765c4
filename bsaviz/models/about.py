"""What each named model computes: its equation, the symbols in it, its paper, and where we differ from that."""

from typing import NamedTuple

from bsaviz._checks import BsavizError
from bsaviz.models.registry import VARIANTS


class About(NamedTuple):
    """What is said of a model.

    Attributes
    ----------
    title, equation, paper, differences : str
    symbols : dict of str to str
    """

    title: str
    equation: str
    symbols: dict
    paper: str
    differences: str

    def __str__(self):
        width = max(map(len, self.symbols))
        symbols = "\n".join(f"  {symbol:{width}}  {meaning}" for symbol, meaning in self.symbols.items())
        parts = (self.title, f"  {self.equation}", symbols, f"Paper: {self.paper}", f"Differences: {self.differences}")
        return "\n".join(parts)


BSA_PAPER = "Ball Sparse Attention, arXiv 2506.12541"
ERWIN_PAPER = "Erwin, Zhdanov et al., arXiv 2502.17019"
NSA_PAPER = "Native Sparse Attention, Yuan et al., arXiv 2502.11089"

_POINTS = {
    "q_i, k_j, v_j": "query, key and value of points i and j in one head, of d channels",
    "p_i": "position of point i",
    "sigma": "slope of the distance bias, one a head, learnt, near -1 at first",
}
_BRANCHES = _POINTS | {
    "ball(i)": "the m points of the ball of point i (ball_size)",
    "K, V": "mean key and value of every block of l points (block_size); phi, with pooling='mlp' a perceptron",
    "top(i)": "the k* blocks (top_k) of highest q K among those outside ball(i), chosen by the g queries (group_size) "
    "of a group together, by their mean query",
    "a, b, c": "gates of token i, sigmoid(W x_i), one a head and branch",
}
_BSA = (
    "o_i = a softmax_{j in ball(i)}(q_i k_j / sqrt(d) + sigma |p_i - p_j|) v_j + b softmax(q_i K / sqrt(d)) V "
    "+ c softmax_{j in top(i)}(q_i k_j / sqrt(d)) v_j"
)
_BETTER = (
    "unless published=True: rotated trees are split down to the block, not only to the ball; sigma is trained; padding "
    "is masked; N is padded to whole balls, not to a power of two; no block of the own ball fills a missing slot"
)


def _instead(title, change, differences, **symbols):
    """A variant of BSA that changes one thing."""
    return About(title, f"{_BSA}, {change}", _BRANCHES | symbols, BSA_PAPER, differences)


ABOUT = {
    "full": About(
        "Full attention: every point reads every point",
        "o_i = softmax_j(q_i k_j / sqrt(d)) v_j over all j",
        {"q_i, k_j, v_j": _POINTS["q_i, k_j, v_j"]},
        "Attention Is All You Need, arXiv 1706.03762; as the baseline of arXiv 2506.12541",
        "none in the attention; padding is masked unless published=True",
    ),
    "ball": About(
        "Ball tree attention: every point reads its ball",
        "o_i = softmax_{j in ball(i)}(q_i k_j / sqrt(d) + sigma |p_i - p_j|) v_j",
        _POINTS | {"ball(i)": _BRANCHES["ball(i)"]},
        f"{ERWIN_PAPER}, eq. 8-10; without its U-Net and messages",
        _BETTER,
    ),
    "bsa": About("Ball Sparse Attention: ball, compression and selection, gated", _BSA, _BRANCHES, BSA_PAPER, _BETTER),
    "bsa-group-compression": _instead(
        "Ball Sparse Attention with group compression",
        "where the second term is computed once for each block, from its mean query Q, and repeated for its points; "
        "top(i) is chosen by Q too (eq. 13-14)",
        _BETTER,
        Q="mean query of every block",
    ),
    "bsa-no-group-selection": _instead(
        "Ball Sparse Attention in which every query selects for itself",
        "where g = 1",
        _BETTER,
    ),
    "bsa-random": _instead(
        "Ball Sparse Attention with random blocks (as in BigBird, arXiv 2007.14062)",
        "where top(i) is drawn at random, once for all, by head, layer and group",
        "a baseline of ours: the same numbers of everything as in BSA, but nothing is learnt about what to read; "
        + _BETTER,
    ),
    "bsa-nearest": _instead(
        "Ball Sparse Attention with the nearest blocks",
        "where top(i) are the blocks whose mean positions are nearest to the group's",
        "a baseline of ours: what the learnt choice is worth beside mere nearness; " + _BETTER,
    ),
    "bsa-morton": _instead(
        "Ball Sparse Attention along the Morton curve",
        "where ball(i) and the blocks are runs of the points in order along the Morton (Z) curve",
        "a baseline of ours, after the serialisation of Point Transformer V3 (arXiv 2312.10035): what does the ball "
        "tree buy? Odd layers read the curve with its first two axes swapped; " + _BETTER,
    ),
    "bsa-hilbert": _instead(
        "Ball Sparse Attention along the Hilbert curve",
        "where ball(i) and the blocks are runs of the points in order along the Hilbert curve",
        "a baseline of ours, after the serialisation of Point Transformer V3 (arXiv 2312.10035): what does the ball "
        "tree buy? Odd layers read the curve with its first two axes swapped; " + _BETTER,
    ),
    "bsa-kmeans": _instead(
        "Ball Sparse Attention over clusters",
        "where ball(i) and the blocks are clusters of balanced bisecting k-means",
        "a baseline of ours; odd layers read clusters whose first cut is across the second principal direction; "
        + _BETTER,
    ),
    "bsa-graph": _instead(
        "Ball Sparse Attention over the parts of a graph",
        "where ball(i) and the blocks are cut along the bonds of a graph, which `tree(..., edges=...)` is given",
        "a baseline of ours, for open question 2 of Erwin-NSA (arXiv 2508.10758); odd layers read the same order moved "
        "on by half a ball; " + _BETTER,
    ),
    "nsa": About(
        "Native Sparse Attention over points: compression, selection, sliding window",
        "o_i = a softmax(q_i K / sqrt(d)) V + b softmax_{j in top(i)}(q_i k_j / sqrt(d)) v_j "
        "+ c softmax_{j in window(i)}(q_i k_j / sqrt(d)) v_j",
        {
            "q_i, k_j, v_j": _POINTS["q_i, k_j, v_j"],
            "K, V": _BRANCHES["K, V"],
            "top(i)": "the k* blocks (top_k) of highest q_i K, chosen by every query for itself",
            "window(i)": "the slots around i (window), in the order of the ball tree or another",
            "a, b, c": _BRANCHES["a, b, c"],
        },
        NSA_PAPER,
        "no causal mask and no rotary positions, since points are no text; blocks do not overlap and are those of the "
        "selection too; each head chooses its own blocks; none is chosen by rule; branches share keys and values",
    ),
    "erwin": About(
        "Erwin: ball attention in a U-Net over the levels of the ball tree, after message passing",
        "o_i = softmax_{j in ball(i)}(q_i k_j / sqrt(d) + sigma |p_i - p_j|) v_j at every level; "
        "pool: x = BN(W [x_1, ..., x_s, r_1, ..., r_s]); unpool: x_i = BN(x_i + (W' [x, r_1, ..., r_s])_i)",
        _POINTS | {
            "ball(i)": "the slots of the ball of slot i at its level (ball_sizes)",
            "s, r": "slots pooled into one (strides), and their places relative to its own",
        },
        f"{ERWIN_PAPER}, eq. 8-13",
        "unless published=True: padding is masked at every level, N is padded to whole balls of every level, sigma is "
        "trained. In both, a pooled place is the mean of real slots, and a radius graph has all neighbours",
    ),
    "erwin-nsa": About(
        "Erwin-NSA: local ball, compressed balls, selected balls, after message passing, without a U-Net",
        _BSA,
        _BRANCHES | {
            "top(i)": "the k small balls (top_k) of highest q_i K, the own one among them, chosen by every query for "
            "itself (group_size=1)",
        },
        "Erwin-NSA, Lapautre et al., arXiv 2508.10758",
        "each head chooses its balls, where the published kernel lets 16 heads share keys and choice; padding is "
        "masked; sigma is trained; N is padded to whole balls; batches of several samples",
    ),
}  # fmt: skip


def about(name):
    """What a named model computes; print it.

    Parameters
    ----------
    name : str
        Of :func:`bsaviz.models.build`.

    Returns
    -------
    About
        Its ``title``, ``equation``, ``symbols``, ``paper`` and ``differences``.

    Raises
    ------
    BsavizError
        For an unknown name.

    Examples
    --------
    >>> print(about("full").equation)
    o_i = softmax_j(q_i k_j / sqrt(d)) v_j over all j
    """
    if name not in ABOUT:
        raise BsavizError(f"unknown model {name!r}; there are {', '.join(VARIANTS)}")
    return ABOUT[name]
