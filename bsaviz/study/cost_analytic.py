"""Operations and traffic of every part of a model in closed form, from its configuration and the number of points.

With N slots (points and padding), C channels in H heads, balls of m, blocks of l, groups of g, k* blocks selected, D
dimensions, a multiply-add being two operations (forward; B clouds multiply all):

==============  ==============================================================================================
projections     2 N C (3C) + 2 N C C
ball            2 x 2 N m C
compression     2 x 2 N (N/l) C, with coarse queries 2 x 2 (N/l) (N/l) C
scores          2 (N/g) (N/l) C
selection       2 x 2 N (k* l) C
window          2 x 2 C sum_i |window of i|
full            2 x 2 N N C
mlp             3 x 2 N C (r C) for a SwiGLU of ratio r
pooling         nothing for a mean; for a perceptron 2 (N/l) H (l d) (2 l d) + 2 (N/l) H (2 l d) d for each of q, k, v
==============  ==============================================================================================

A training step adds, for a linear layer, twice its forward (once where no gradient of its input is wanted), and for an
attention five products over the scores to the two of its forward, since kernels make the scores again. What a layer
makes again to save memory is not in it: the modules here make the hidden vectors of the SwiGLU again, for one, which is
two products more, and counted.

Traffic is the least that can be: every input of a part is read once and every output written once, at the size of a
number that the part computes in. Parts are taken alone: a kernel that computes several branches at once reads the
queries once for all.
"""

from collections import defaultdict

import numpy as np

from bsaviz.models import Erwin, ErwinNSA, Transformer
from bsaviz.study.cost_parts import PARTS
from bsaviz.trees.layout import Layout

MIB = 2**20
FLOAT, INT = 4, 8  # bytes of a log-sum-exp and of a block's index


class Tally:
    """Sums by part: ``flops`` and ``bytes``, each of a forward and of the backward that a training step adds.

    Parameters
    ----------
    itemsize : int
        Bytes of a number.
    """

    def __init__(self, itemsize):
        self.itemsize = itemsize
        self.flops, self.bytes = (defaultdict(lambda: np.zeros(2)) for _ in range(2))

    def linear(self, part, rows, inputs, outputs, times=1, *, input_grad=True, trained=True):
        """A linear layer on `rows` vectors, `times` over."""
        product, weights = 2 * rows * inputs * outputs, inputs * outputs
        read, written = rows * inputs, rows * outputs
        back = product * (trained + input_grad)
        moved_back = trained * (written + read + weights) + input_grad * (read + weights)
        self.add(part, product, back, read + weights + written, moved_back, times)

    def attend(self, part, queries, keys, channels, heads, sources, times=1, *, written=None):
        """softmax(q k^T) v: `queries` in all that read `keys` each, of `sources` in all."""
        score, q, kv = 2 * queries * keys * channels, queries * channels, 2 * sources * channels
        out = q if written is None else written * channels
        lse = queries * heads * FLOAT / self.itemsize
        # backward: gradient and output, q, k, v and lse read; gradients of q, k, v written
        self.add(part, 2 * score, 5 * score, q + kv + out + lse, 2 * out + 2 * (q + kv) + lse, times)

    def traffic(self, part, forward, backward, times=1):
        """Numbers read and written by a part without matrix products."""
        self.add(part, 0, 0, forward, backward, times)

    def add(self, part, flops, back_flops, numbers, back_numbers, times=1):
        self.flops[part] += times * np.array([flops, back_flops], float)
        self.bytes[part] += times * self.itemsize * np.array([numbers, back_numbers], float)


def analytic_parts(model, num_points, *, batch=1, itemsize=4):
    """GFLOP and MiB read and written by every part of a model, in closed form.

    Parameters
    ----------
    model : PointModel
        Only its configuration is read.
    num_points, batch : int
        Points of a cloud, and clouds.
    itemsize : int
        Bytes of a number: 4, or 2 under autocast.

    Returns
    -------
    dict
        ``"gflop"`` and ``"mib"``: each a dict of ``"forward"`` and ``"training"`` (forward with backward) to a dict of
        part to number, NaN for what is not modelled; ``"not_modelled"``: a dict of part to the reason.
    """
    config, why = model.config, {}
    tally = Tally(itemsize)
    if type(model) is Transformer:
        _transformer(tally, config, num_points, batch)
    elif type(model) is ErwinNSA:
        _erwin_nsa(tally, config, num_points, batch, why)
    elif type(model) is Erwin:
        _erwin(tally, config, num_points, batch, why)
    else:
        why = {part: f"there is no closed form for a {type(model).__name__}" for part in PARTS}
    found = {"not_modelled": why}
    for kind, values, unit in (("gflop", tally.flops, 1e9), ("mib", tally.bytes, MIB)):
        forward = {part: np.nan if part in why else values[part][0] / unit for part in PARTS}
        both = {part: np.nan if part in why else values[part].sum() / unit for part in PARTS}
        found[kind] = {"forward": forward, "training": both}
    return found


def slots_of(num_points, ball_size, block_size=1, published=False):
    """Slots of a cloud's tree, padding included."""
    rule = "power_of_two" if published else "multiple"
    return Layout.of(np.array([num_points]), ball_size, block_size, rule).width


def _transformer(tally, config, num_points, batch):
    padded = config.as_published("padding")
    one = config.attention == "full" and not padded
    n = num_points if one else slots_of(num_points, config.ball_size, config.block_size, padded)
    _embedding(tally, config, batch * n, config.dim)
    if config.attention == "full":
        _projections(tally, batch * n, config.dim, config.depth)
        tally.attend("full", batch * n, n, config.dim, config.num_heads, batch * n, config.depth)
    elif config.attention == "ball":
        _ball(tally, config, batch * n, config.dim, config.num_heads, config.ball_size, config.depth)
    elif config.attention == "nsa":
        _nsa(tally, config, n, batch, config.depth)
    else:
        group = config.group_size if config.group_selection else 1
        _bsa(tally, config, n, batch, config.depth, group, config.branches)
    _mlp(tally, config, batch * n, config.dim, config.depth)
    _head(tally, config, batch * n, config.dim)


def _erwin_nsa(tally, config, num_points, batch, why):
    points, n = batch * num_points, slots_of(num_points, config.ball_size, config.block_size)
    _embedding(tally, config, points, config.embed_dim)
    _messages(tally, config, num_points, batch, config.embed_dim, why)
    if config.embed_dim != config.dim:
        tally.linear("embedding", points, config.embed_dim, config.dim)
    branches = ("ball", "compression", "selection")
    _bsa(tally, config, n, batch, config.depth, config.group_size, branches)
    _mlp(tally, config, batch * n, config.dim, config.depth)
    _head(tally, config, batch * n, config.dim)


def _erwin(tally, config, num_points, batch, why):
    dims, strides, space = config.dims, config.strides, config.spatial_dims
    published = bool(config.published)
    slots = batch * slots_of(num_points, config.slot_multiple, config.ball_size, published)
    at = [slots // total for total in config.totals]
    _embedding(tally, config, batch * num_points, dims[0])
    _messages(tally, config, num_points, batch, dims[0], why)
    stages = list(zip(range(len(dims)), config.enc_depths, config.enc_num_heads))
    if config.decode:
        stages += list(zip(range(len(strides)), config.dec_depths, config.dec_num_heads))
    for level, depth, heads in stages:
        _ball(tally, config, at[level], dims[level], heads, config.ball_sizes[level], depth)
        _mlp(tally, config, at[level], dims[level], depth)
    for i, stride in enumerate(strides):
        if stride > 1:
            tally.linear("levels", at[i + 1], stride * (dims[i] + space), dims[i + 1])
        if config.decode:
            tally.linear("levels", at[i + 1], dims[i + 1] + stride * space, stride * dims[i])
    last = 0 if config.decode else -1
    _head(tally, config, at[last], dims[last])


def _embedding(tally, config, rows, dim):
    encoded = config.fourier_features
    if encoded:
        tally.linear("embedding", rows, config.spatial_dims, encoded // 2, input_grad=False)
    tally.linear("embedding", rows, config.inputs, dim, input_grad=bool(encoded))


def _head(tally, config, rows, dim):
    if config.out_features:
        tally.linear("head", rows, dim, dim)
        tally.linear("head", rows, dim, config.out_features)


def _messages(tally, config, num_points, batch, dim, why):
    if not config.mp_steps:
        return
    if config.radius is not None:
        why["messages"] = "how many neighbours lie within a radius is up to the points"
        return
    points, edges = batch * num_points, batch * num_points * min(config.neighbours, num_points)
    tally.linear("messages", points, dim, dim, 2 * config.mp_steps)
    tally.linear("messages", edges, config.spatial_dims, dim, config.mp_steps, input_grad=False)
    tally.traffic("messages", 3 * edges * dim, 5 * edges * dim, config.mp_steps)  # gathered, normalised, summed
    tally.linear("messages", points, 2 * dim, dim, config.mp_steps)


def _projections(tally, rows, dim, times):
    tally.linear("projections", rows, dim, 3 * dim, times)
    tally.linear("projections", rows, dim, dim, times)


def _mlp(tally, config, rows, dim, times):
    hidden = config.mlp_ratio * dim
    tally.linear("mlp", rows, dim, hidden, 2 * times)
    tally.traffic("mlp", 3 * rows * hidden, 5 * rows * hidden, times)  # the product of the two, with its silu
    tally.linear("mlp", rows, hidden, dim, times)
    tally.traffic("norms", 2 * rows * dim, 3 * rows * dim, 2 * times)


def _ball(tally, config, rows, dim, heads, ball_size, times):
    tally.linear("positions", rows, config.spatial_dims, dim, times, input_grad=False)
    _projections(tally, rows, dim, times)
    tally.attend("ball", rows, ball_size, dim, heads, rows, times)


def _bsa(tally, config, n, batch, times, group, branches):
    """The attention of BSA and of Erwin-NSA, on `batch` clouds of `n` slots."""
    dim, heads, block, rows = config.dim, config.num_heads, config.block_size, batch * n
    coarse = n // block
    grouped, scored = (getattr(config, name, False) for name in ("group_compression", "coarse_scores"))
    tally.linear("positions", rows, config.spatial_dims, dim, times, input_grad=False)
    _projections(tally, rows, dim, times)
    if getattr(config, "gate", "token") == "token":
        tally.linear("gates", rows, dim, len(branches) * heads, times)
    pooled = {"q": grouped and "compression" in branches} if grouped or scored else {}
    pooled |= dict.fromkeys("kv", "compression" in branches)  # the choice of blocks carries no gradient
    needed = len(pooled) if "compression" in branches else "selection" in branches
    _pooling(tally, config, rows, pooled, needed, times)
    if "ball" in branches:
        tally.attend("ball", rows, config.ball_size, dim, heads, rows, times)
    if "compression" in branches:
        queries = batch * coarse if grouped else rows
        tally.attend("compression", queries, coarse, dim, heads, batch * coarse, times, written=rows)
    if "selection" in branches:
        choice = getattr(config, "selection", "scores")
        width = {"scores": dim, "nearest": config.spatial_dims + 1, "random": 0}[choice]
        averaged = rows * dim if group > 1 and not scored and width == dim else 0
        _selection(tally, config, n, batch, times, group, width, averaged)


def _nsa(tally, config, n, batch, times):
    dim, heads, rows, coarse = config.dim, config.num_heads, batch * n, n // config.block_size
    group = config.group_size if config.group_selection else 1
    _projections(tally, rows, dim, times)
    tally.linear("gates", rows, dim, 3 * heads, times)
    _pooling(tally, config, rows, dict.fromkeys("kv", True), 2, times)
    tally.attend("compression", rows, coarse, dim, heads, batch * coarse, times)
    _selection(tally, config, n, batch, times, group, dim, rows * dim if group > 1 else 0)
    before, after = min(config.window // 2, n - 1), min((config.window - 1) // 2, n - 1)
    missing = (before * (before + 1) + after * (after + 1)) / 2  # past the first slot, and past the last
    tally.attend("window", rows, before + after + 1 - missing / n, dim, heads, rows, times)


def _selection(tally, config, n, batch, times, group, width, averaged):
    """Scores of vectors of `width` numbers, and attention to the blocks of highest score."""
    dim, block, groups, coarse = config.dim, config.block_size, batch * n // group, n // config.block_size
    keys = config.top_k * block
    chosen = groups * config.num_heads * config.top_k * INT / tally.itemsize
    read = averaged + (groups + batch * coarse) * width
    tally.add("scores", 2 * groups * coarse * width, 0, read + chosen, 0, times)
    sources = min(batch * n, groups * keys)
    tally.attend("selection", batch * n, keys, dim, config.num_heads, sources, times)


def _pooling(tally, config, rows, pooled, needed, times):
    """Coarse vectors: `pooled` says which, and whether a gradient flows; a mean only makes those that are needed."""
    block, width = config.block_size, config.dim // config.num_heads
    if config.pooling == "mean":
        moved = rows * config.dim * (1 + 1 / block)
        tally.traffic("pooling", needed * moved, sum(pooled.values()) * moved, times)
        return
    blocks = rows // block * config.num_heads
    for trained in pooled.values():
        of = dict(input_grad=trained, trained=trained)
        tally.linear("pooling", blocks, block * width, 2 * block * width, times, **of)
        tally.linear("pooling", blocks, 2 * block * width, width, times, **of)
