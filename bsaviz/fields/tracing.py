"""One forward pass, layer by layer: what each attention had before it."""

from contextlib import ExitStack
from dataclasses import dataclass, replace
from inspect import signature

import torch
from torch import nn
from tqdm.auto import tqdm

from bsaviz._checks import BsavizError
from bsaviz.fields.probing import probe

_BY_HEAD = ("gate", "q", "k", "q_coarse", "k_coarse", "indices", "distance_slope")
RECORDED = ("gate", "q", "k", "q_coarse", "k_coarse", "indices")


@dataclass(frozen=True)
class LayerTrace:
    """What one attention layer computed with, for one sample, in the slots of that layer's own order.

    P points, N slots, H heads of d channels, M blocks, G groups.

    Attributes
    ----------
    layer : int
        Place in ``model.attention_sites(tree)``.
    name : str
        Path of the attention in the model.
    attention : torch.nn.Module
    inputs : tuple
        What the attention was given, as a batch of one: tokens, positions, mask.
    branches : tuple of str
    slots : (P,) int64
        Slot of each input point; at a coarse level several points share one.
    order : (N,) int64 or None
        Input point in each slot; None at a coarse level.
    attended : (N,) bool
        Slots that are read: the real points, and with the published behaviour the padding too.
    level : int
        0 is the finest.
    positions : (N, D) float
        As the attention got them.
    gate : (H, N, branches)
        Ones where the attention has no gates.
    q, k : (H, N, d); q_coarse, k_coarse : (H, M, d)
    indices : (H, G, k) int64
    distance_slope : (H,)
    ball_size, block_size, group_size, window : int
        `group_size` is 1 where every query selects for itself.
    group_compression : bool
    heads : tuple of int, or None
        Heads of the attention that this is about; None for all of them.

    Those that a kind of attention does not have, or that were not asked for, are None.
    """

    layer: int
    name: str
    attention: nn.Module
    inputs: tuple
    branches: tuple
    slots: torch.Tensor
    order: torch.Tensor | None
    attended: torch.Tensor
    level: int
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
    window: int | None = None
    group_compression: bool = False
    heads: tuple | None = None

    @property
    def num_heads(self):
        return self.gate.shape[0]

    @property
    def num_slots(self):
        return len(self.attended)

    @property
    def num_points(self):
        return len(self.slots)

    @property
    def num_blocks(self):
        return self.num_slots // self.block_size

    def of_heads(self, heads):
        """The same trace of all heads with only these, in this order."""
        if heads == list(range(self.num_heads)):
            return self
        values = {name: getattr(self, name) for name in _BY_HEAD}
        chosen = {name: value[heads] for name, value in values.items() if value is not None}
        return replace(self, **chosen, heads=tuple(heads))

    def to_points(self, values):
        """What the points get of values (..., N) of the attended slots: (..., P).

        The points of a coarse slot share its value evenly. Padding that is read (the published behaviour) repeats a
        point; what it gets is that point's.
        """
        if self.order is None:
            sharing = torch.bincount(self.slots, minlength=self.num_slots)
            return (values / sharing.clamp(min=1).to(values.dtype))[..., self.slots]
        if int(self.attended.sum()) == self.num_points:
            return values[..., self.slots]
        points = values.new_zeros(*values.shape[:-1], self.num_points)
        return points.index_add_(-1, self.order[self.attended], values[..., self.attended])

    def points_of(self, chosen):
        """Points in the chosen slots: (..., N) bool to (..., P)."""
        if self.order is None or int(self.attended.sum()) == self.num_points:
            return chosen[..., self.slots]
        return self.to_points(chosen.int()) > 0


class _Enough(Exception):
    """The last layer asked for has been seen: the rest of the forward pass is not needed."""


def check_model(model):
    """Refuse what has no attention sites to look into."""
    if not isinstance(model, nn.Module) or not hasattr(model, "attention_sites"):
        raise BsavizError(
            f"model must be a model of bsaviz (bsaviz.models.build(...) or bsaviz.load_model(...)), "
            f"got {type(model).__name__}"
        )


def tree_of(model, surface):
    """The tree that the model reads a surface with, on the model's device."""
    positions = torch.as_tensor(surface.positions, device=next(model.parameters()).device)
    return model.tree(positions, **bonds(model.tree, surface, positions.device))


def bonds(takes, surface, device):
    """The edges of a sample that has some, for a function that takes ``edges``: an empty dict where there are none."""
    edges = getattr(surface, "edges", None)
    if edges is None or "edges" not in signature(takes).parameters:
        return {}
    return {"edges": torch.as_tensor(edges, device=device)}


def walk(model, surface, tree, sites, layers, needs, visit, *, features=None, progress=False):
    """Run the model on a car and show `visit` the `LayerTrace` of each layer asked for.

    Nothing of a layer is kept here, and the pass ends after the last layer asked for, so that memory does not grow
    with the number of layers unless `visit` keeps what it is shown.

    Parameters
    ----------
    model : torch.nn.Module
        With ``attention_sites``.
    surface : Car or Cloud
    tree : BallTree
        Of the surface's points, as `tree_of` makes it.
    sites : list of AttentionSite
        Of the model on that tree.
    layers : sequence of int
    needs : sequence of str
        Which of `RECORDED` to record (those that the attention has).
    visit : callable
        Called with each `LayerTrace`, in the order of the layers.
    features : array (P, F), optional
    progress : bool
        Show a bar with one step a layer.
    """
    weight = next(model.parameters())
    positions = torch.as_tensor(surface.positions, device=weight.device)
    features = None if features is None else torch.as_tensor(features, dtype=weight.dtype, device=weight.device)
    last = max(layers)
    names = [f"{sites[i].name}.{need}" for i in layers for need in needs if hasattr(sites[i].attention, need)]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), ExitStack() as hooks:
            bar = hooks.enter_context(tqdm(total=len(layers), desc="layers", disable=not progress))
            record = hooks.enter_context(probe(model, names)) if names else {}
            visiting = []

            def seen(i, inputs):
                if visiting:  # what is shown may run the attention again
                    return
                visiting.append(i)
                visit(_trace(i, sites[i], inputs, record))
                visiting.clear()
                record.clear()
                bar.update()
                if i == last:
                    raise _Enough

            for i in layers:
                hook = lambda attention, inputs, output, i=i: seen(i, inputs)
                hooks.callback(sites[i].attention.register_forward_hook(hook).remove)
            model(positions, features=features, tree=tree, **bonds(model.forward, surface, weight.device))
    except _Enough:
        pass
    finally:
        model.train(was_training)


def _trace(i, site, inputs, record):
    """The trace of layer `i`, which has just run on `inputs` = (x, positions, mask)."""
    recorded = {name.rpartition(".")[2]: value[0] for name, value in record.items()}
    if "gate" not in recorded:
        ones = (site.attention.num_heads, len(site.attended), len(site.attention.branches))
        recorded["gate"] = inputs[0].new_ones(ones)
    return LayerTrace(
        layer=i,
        name=site.name,
        attention=site.attention,
        inputs=inputs,
        branches=tuple(site.attention.branches),
        slots=site.slots,
        order=site.order,
        attended=site.attended,
        level=site.level,
        positions=inputs[1][0],
        **recorded,
        **site.attention.trace_parameters(),
    )
