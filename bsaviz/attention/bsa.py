"""Ball Sparse Attention: ball, compression and selection, gated."""

from copy import deepcopy

from torch import nn

from bsa_kernels import ball_sparse_attention, pool_mean, select_blocks
from bsaviz._checks import BsavizError
from bsaviz.attention.chosen import chosen_attention
from bsaviz.attention.gating import StaticGate, TokenGate
from bsaviz.attention.heads import Heads
from bsaviz.attention.linear import rounded
from bsaviz.attention.pooling import BlockMLP
from bsaviz.attention.position import BallPosition
from bsaviz.attention.probe_point import ProbePoint
from bsaviz.attention.selection import SELECTIONS, fill_from_own_ball, nearest_blocks, random_blocks
from bsaviz.attention.slope import distance_slope

COARSE = ("q_coarse", "k_coarse", "v_coarse")
ALL = ("ball", "compression", "selection")
BRANCHES = (*ALL, "indices", "ball_lse", "compression_lse", "selection_lse")


class BallSparseAttention(Heads):
    """Ball Sparse Attention (arXiv 2506.12541).

    Probe points: ``q``, ``k``, ``v``, ``ball``, ``compression``, ``selection`` (B, H, N, d; the branches before their
    gates), ``k_coarse``, ``v_coarse`` and, where coarse queries are used, ``q_coarse`` (B, H, N / l, d), ``gate``
    (B, H, N, 3), ``indices`` (B, H, G, k; -1 is a missing slot), ``ball_lse``, ``compression_lse``, ``selection_lse``
    (B, H, N), ``out`` (B, N, C).

    Parameters
    ----------
    dim : int
        Channels C of a token; a multiple of `num_heads`.
    num_heads : int
    ball_size, block_size, group_size : int
        Points in a ball (m), compression block (l) and selection group (g); `ball_size` is a multiple of the others.
    top_k : int
        Blocks a group selects (k*).
    pooling : {"mean", "mlp"}
        phi, that makes one coarse vector of a block. "mlp" has one perceptron for each of k and v, and for q where
        coarse queries are used, starting as copies of each other.
    group_compression : bool
        The compression branch is computed once for each block, from coarse queries.
    coarse_scores : bool
        Groups choose their blocks with coarse queries (eq. 13-14) instead of their mean query (eq. 12); needs
        `group_size` == `block_size`.
    group_selection : bool
        False: every query chooses for itself.
    mask_own_ball : bool
        Selection leaves out the blocks of the group's own ball.
    own_ball_leaks : bool
        Where fewer than `top_k` other blocks are left, the rest is taken from the own ball, as in the published code;
        else these slots stay empty (-1).
    gate : {"token", "static"}
        Branch weights of every token, or two learnt numbers per head (of all branches only).
    branches : sequence of {"ball", "compression", "selection"}
        Those that are on, one at least. The others are neither computed nor gated: an ablation.
    selection : {"scores", "random", "nearest"}
        How a group chooses: by its scores; at random, once for all (:func:`~bsaviz.attention.selection.random_blocks`);
        or the blocks nearest to it (:func:`~bsaviz.attention.selection.nearest_blocks`). The latter two learn nothing:
        they are what the learnt choice is measured against.
    seed : int
        Of the random choice.
    spatial_dims : int
        2 or 3.
    train_slope : bool
        Whether the slope sigma_h of the distance bias is trained; the published code does not.
    keep_heads : bool
        Keep q, k, v for the backward pass; False: make them again there, by one product more.
    backend : {"auto", "triton", "torch"}
        Kernels that run it; may be changed at any time.
    """

    branches = ALL

    def __init__(
        self, dim, num_heads, ball_size=256, block_size=8, group_size=8, top_k=4, *,
        pooling="mean", group_compression=False, coarse_scores=False, group_selection=True, mask_own_ball=True,
        own_ball_leaks=False, gate="token", branches=ALL, selection="scores", seed=0, spatial_dims=3, train_slope=True,
        keep_heads=True, backend="auto",
    ):  # fmt: skip
        super().__init__(dim, num_heads, keep_heads)
        check_variant(pooling, gate, ball_size, block_size, group_size, top_k)
        check_selection(selection, seed, coarse_scores)
        self.branches = checked_branches(branches, gate)
        self.own_ball_leaks = own_ball_leaks
        self.options = dict(
            ball_size=ball_size, block_size=block_size, group_size=group_size, top_k=top_k,
            group_compression=group_compression, coarse_scores=coarse_scores,
            group_selection=group_selection, mask_own_ball=mask_own_ball,
        )  # fmt: skip
        self.backend = backend
        self.choice, self.seed = selection, seed
        self.ball_position = BallPosition(dim, ball_size, spatial_dims)
        self.distance_slope = distance_slope(num_heads, train_slope)
        self.gating = TokenGate(dim, num_heads, len(self.branches)) if gate == "token" else StaticGate(num_heads)
        self.gate = ProbePoint()
        self.pooled = COARSE if group_compression or coarse_scores else COARSE[1:]
        self.pooling = self._perceptrons(dim // num_heads) if pooling == "mlp" else None
        for name in (*self.pooled, *BRANCHES):
            setattr(self, name, ProbePoint())

    def forward(self, x, positions, mask=None):
        """Tokens (B, N, C) to tokens, in leaf order; positions (B, N, D), `mask` (B, N) True for real points."""
        self.check(x, positions, mask)
        self._check_blocks(x.shape[1])
        x = rounded(self.ball_position(x, positions, mask))
        q, k, v = self.split(x)
        gate = self.gate(self.gating(x))
        with self.kept(x, q, k, v):
            out, branches = self._attend(q, k, v, gate, positions, mask)
        for name in BRANCHES:
            if (found := getattr(branches, name, None)) is not None:
                getattr(self, name)(found)
        return self.merge(out)

    def _attend(self, q, k, v, gate, positions, mask):
        """Gated sum of the branches, and the branches themselves, or None where nobody looks at them."""
        arguments = (q, k, v, gate, positions, self.distance_slope, mask)
        options = dict(**self.options, **self._coarse(q, k, v, mask), backend=self.backend)
        if self.choice != "scores" or self.branches != ALL or self._may_leak(q.shape[2], mask):
            indices = self._chosen(q, k, positions, mask, options) if "selection" in self.branches else None
            return chosen_attention(*arguments, indices, **options, branches=self.branches)
        if any(getattr(self, name).observed for name in BRANCHES):
            return ball_sparse_attention(*arguments, **options, return_aux=True)
        return ball_sparse_attention(*arguments, **options), None

    def trace_parameters(self):
        """What decides who reads whom: ball, block and group size, group compression and the slope (H,)."""
        return {
            "ball_size": self.options["ball_size"],
            "block_size": self.options["block_size"],
            "group_size": self.options["group_size"] if self.options["group_selection"] else 1,
            "group_compression": self.options["group_compression"],
            "distance_slope": self.distance_slope.detach(),
        }

    def _may_leak(self, num_slots, mask):
        """Whether a group may find fewer blocks than it wants, and the own ball is to fill in."""
        elsewhere = (num_slots - self.options["ball_size"]) // self.options["block_size"]
        short = mask is not None or self.options["top_k"] > elsewhere
        return self.own_ball_leaks and self.options["mask_own_ball"] and short

    def _chosen(self, q, k, positions, mask, options):
        """Blocks of every group, where they are not chosen inside the operator."""
        names = ("ball_size", "block_size", "top_k", "mask_own_ball")
        sizes = {name: self.options[name] for name in names}
        sizes["group_size"] = group = self.options["group_size"] if self.options["group_selection"] else 1
        if self.choice == "random":
            indices = random_blocks(q, mask, seed=self.seed, **sizes)
        elif self.choice == "nearest":
            indices = nearest_blocks(q, positions, mask, backend=self.backend, **sizes)
        else:
            block = self.options["block_size"]
            query = options.get("q_coarse") if self.options["coarse_scores"] else None
            query = pool_mean(q, mask, group) if query is None else query
            key = options["k_coarse"] if "k_coarse" in options else pool_mean(k, mask, block)
            run = dict(backend=self.backend, **sizes)
            indices = select_blocks(query.detach(), key.detach(), _real(mask, block), **run)
            if mask is not None:
                indices = indices.masked_fill(~_real(mask, group)[:, None, :, None], -1)
        if self.own_ball_leaks and self.options["mask_own_ball"]:
            shape = dict(ball_size=sizes["ball_size"], block_size=sizes["block_size"], group_size=group)
            indices = fill_from_own_ball(indices, **shape)
        return indices

    def _check_blocks(self, num_slots):
        blocks, top_k = num_slots // self.options["block_size"], self.options["top_k"]
        if top_k > blocks:
            raise BsavizError(
                f"top_k={top_k} blocks were asked for, but there are only {blocks} blocks of "
                f"{self.options['block_size']} points; lower top_k or block_size, or give more points"
            )

    def _perceptrons(self, head_dim):
        first = BlockMLP(self.options["block_size"], head_dim)
        return nn.ModuleDict({name[0]: deepcopy(first) for name in self.pooled})

    def _coarse(self, q, k, v, mask):
        """Coarse queries, keys and values; means are left to the operator unless someone looks at them."""
        heads = {"q_coarse": q, "k_coarse": k, "v_coarse": v}
        if self.pooling is not None:
            return {name: getattr(self, name)(self.pooling[name[0]](heads[name], mask)) for name in self.pooled}
        size = self.options["block_size"]
        observed = [name for name in self.pooled if getattr(self, name).observed]
        return {name: getattr(self, name)(pool_mean(heads[name], mask, size)) for name in observed}


def _real(mask, size):
    """(B, N / size): whether a run of slots holds a real point; None where all do."""
    return None if mask is None else mask.unflatten(1, (-1, size)).any(-1)


def checked_branches(branches, gate):
    """The branches that are on, in their usual order."""
    given = (branches,) if isinstance(branches, str) else tuple(branches)
    if not given or set(given) - set(ALL) or len(set(given)) < len(given):
        raise BsavizError(f"branches must be one or more of {', '.join(map(repr, ALL))}, each once, got {branches!r}")
    if gate == "static" and len(given) < len(ALL):
        raise BsavizError(f"gate='static' weighs all three branches, but branches={given}; use gate='token'")
    return tuple(name for name in ALL if name in given)


def check_selection(selection, seed, coarse_scores):
    """Refuse a way to choose blocks that does not exist."""
    if selection not in SELECTIONS:
        raise BsavizError(f"selection must be one of {', '.join(map(repr, SELECTIONS))}, got {selection!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BsavizError(f"seed must be an integer of at least 0, got {seed!r}")
    if coarse_scores and selection != "scores":
        raise BsavizError(f"coarse_scores is a way to score blocks, but selection={selection!r}; leave it False")


def check_variant(pooling, gate, ball_size, block_size, group_size, top_k):
    """Refuse a variant of BSA that does not exist; the operator checks what depends on the points."""
    for name, value, known in (("pooling", pooling, ("mean", "mlp")), ("gate", gate, ("token", "static"))):
        if value not in known:
            raise BsavizError(f"{name} must be {' or '.join(map(repr, known))}, got {value!r}")
    sizes = {"ball_size": ball_size, "block_size": block_size, "group_size": group_size, "top_k": top_k}
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise BsavizError(f"{name} must be a positive integer, got {size!r}")
    for name in ("block_size", "group_size"):
        if ball_size % sizes[name]:
            raise BsavizError(
                f"ball_size must be a multiple of {name}, got {ball_size} and {sizes[name]}; let them nest"
            )
