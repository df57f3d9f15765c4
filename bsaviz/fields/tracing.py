"""One forward pass, layer by layer: what each attention had before it, handed on and let go."""

from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError
from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention
from bsaviz.fields.probing import probe
from bsaviz.models import Transformer

BRANCHES = {
    BallSparseAttention: ("ball", "compression", "selection"),
    BallAttention: ("ball",),
    FullAttention: ("full",),
}
_BY_HEAD = ("gate", "q", "k", "q_coarse", "k_coarse", "indices", "distance_slope")


@dataclass(frozen=True)
class LayerTrace:
    """What one attention layer computed with, for one sample, in the leaf order of that layer's own tree.

    Attributes
    ----------
    layer : int
    branches : tuple of str
    order : (N,) int64
        Input point in each slot.
    slots : (P,) int64
        Slot of each input point.
    attended : (N,) bool
        Slots that are read: the real points, and with the published behaviour the padding too.
    positions : (N, D) float
        As the attention got them.
    q, k : (H, N, d); q_coarse, k_coarse : (H, M, d)
    gate : (H, N, branches)
        Ones where the attention has no gates.
    indices : (H, G, k) int64
    distance_slope : (H,)
    ball_size, block_size, group_size : int
        `group_size` is 1 where every query selects for itself.
    group_compression : bool

    Those that a kind of attention does not have, or that were not asked for, are None.
    """

    layer: int
    branches: tuple
    order: torch.Tensor
    slots: torch.Tensor
    attended: torch.Tensor
    positions: torch.Tensor
    gate: torch.Tensor
    q: torch.Tensor | None = None
    k: torch.Tensor | None = None
    q_coarse: torch.Tensor | None = None
    k_coarse: torch.Tensor | None = None
    indices: torch.Tensor | None = None
    distance_slope: torch.Tensor | None = None
    ball_size: int | None = None
    block_size: int | None = None
    group_size: int | None = None
    group_compression: bool = False

    @property
    def num_heads(self):
        return self.gate.shape[0]

    @property
    def num_slots(self):
        return len(self.order)

    @property
    def num_blocks(self):
        return self.num_slots // self.block_size

    def of_heads(self, heads):
        """The same trace with only these heads, in this order."""
        if heads == list(range(self.num_heads)):
            return self
        values = {name: getattr(self, name) for name in _BY_HEAD}
        return replace(self, **{name: value[heads] for name, value in values.items() if value is not None})

    def to_points(self, values):
        """Sum (..., N) over the attended slots that hold each point: (..., P).

        Padding that is read (the published behaviour) repeats a point; what it gets is that point's.
        """
        points = values.new_zeros(*values.shape[:-1], len(self.slots))
        return points.index_add_(-1, self.order[self.attended], values[..., self.attended])


class _Enough(Exception):
    """The last layer asked for has been seen: the rest of the forward pass is not needed."""


def branches_of(model):
    """Names of the branches of a model's attention."""
    return BRANCHES[type(model.layers[0].attn)]


def check_model(model):
    """Refuse what is no Transformer of this package."""
    if not isinstance(model, Transformer):
        raise BsavizError(
            f"model must be a bsaviz Transformer (bsaviz.models.build(...) or bsaviz.load_model(...)), "
            f"got {type(model).__name__}"
        )


def walk(model, surface, layers, needs, visit, *, features=None, progress=False):
    """Run the model on a car and show `visit` the `LayerTrace` of each layer asked for.

    A layer's tensors are let go before the next layer runs, and the pass ends after the last layer asked for, so that
    memory does not grow with the number of layers.

    Parameters
    ----------
    model : Transformer
    surface : Car or Cloud
    layers : sequence of int
    needs : sequence of str
        Which of q, k, q_coarse, k_coarse, gate and indices to record (those that the attention has).
    visit : callable
        Called with each `LayerTrace`, in the order of the layers.
    features : array (P, F), optional
    progress : bool
        Show a bar with one step a layer.

    Returns
    -------
    BallTree
        The main tree.
    """
    weight = next(model.parameters())
    positions = torch.as_tensor(surface.positions, device=weight.device)
    features = None if features is None else torch.as_tensor(features, dtype=weight.dtype, device=weight.device)
    tree = model.tree(positions)
    last = max(layers)
    names = [f"layers.{i}.attn.{need}" for i in layers for need in needs if hasattr(model.layers[i].attn, need)]
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), ExitStack() as hooks:
            bar = hooks.enter_context(tqdm(total=len(layers), desc="layers", disable=not progress))
            record = hooks.enter_context(probe(model, names))

            def seen(i, attention, inputs):
                visit(_trace(model, tree, i, attention, inputs, record))
                record.clear()
                bar.update()
                if i == last:
                    raise _Enough

            for i in layers:
                hook = lambda attention, inputs, output, i=i: seen(i, attention, inputs)
                hooks.callback(model.layers[i].attn.register_forward_hook(hook).remove)
            model(positions, features=features, tree=tree)
    except _Enough:
        pass
    finally:
        model.train(was_training)
    return tree


def _trace(model, tree, i, attention, inputs, record):
    """The trace of layer `i`, which has just run on `inputs` = (x, positions, mask)."""
    _, positions, mask = inputs
    own = tree.rotated if model.config.rotates and i % 2 else tree
    attended = torch.ones_like(own.mask[0]) if mask is None else mask[0]
    branches = BRANCHES[type(attention)]
    recorded = {name.rpartition(".")[2]: value[0] for name, value in record.items()}
    if "gate" not in recorded:
        recorded["gate"] = positions.new_ones(attention.num_heads, positions.shape[1], len(branches))
    return LayerTrace(
        layer=i,
        branches=branches,
        order=own.order[0],
        slots=own.inverse,
        attended=attended,
        positions=positions[0],
        **recorded,
        **_parameters(attention),
    )


def _parameters(attention):
    if isinstance(attention, FullAttention):
        return {}
    if isinstance(attention, BallAttention):
        return {"ball_size": attention.ball_size, "distance_slope": attention.distance_slope.detach()}
    options = attention.options
    return {
        "ball_size": options["ball_size"],
        "block_size": options["block_size"],
        "group_size": options["group_size"] if options["group_selection"] else 1,
        "group_compression": options["group_compression"],
        "distance_slope": attention.distance_slope.detach(),
    }
