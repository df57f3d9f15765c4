"""How much of each branch a model takes, followed while it trains."""

from contextlib import ExitStack

import torch

from bsaviz.attention import ProbePoint
from bsaviz.training.batches import extra_inputs


@torch.no_grad()
def mean_gates(model, sample):
    """Mean gate of each layer, head and branch over the points of one sample.

    Parameters
    ----------
    model : Transformer
    sample : Sample
        With its tree.

    Returns
    -------
    Tensor (L, H, branches) or None
        Branches in the order of `gated_branches`; None for a model without gates.
    """
    if not gated_branches(model):
        return None
    points = [layer.attn.gate for layer in model.layers]
    seen = []
    with ExitStack() as hooks:
        for point in points:
            hooks.callback(point.register_forward_hook(lambda module, inputs, gate: seen.append(gate)).remove)
        model(sample.positions, sample.features, tree=sample.tree, **extra_inputs(model, sample))
    trees = [sample.tree, sample.tree.rotated if model.config.rotates else sample.tree]
    masks = [trees[layer % 2].mask[0] for layer in range(len(seen))]  # odd layers see the rotated order
    return torch.stack([gate[0][:, mask].mean(dim=1) for gate, mask in zip(seen, masks)])


def gated_branches(model):
    """Names of the branches that the gates of a model weigh; none for a model without gates."""
    layers = getattr(model, "layers", ())
    points = [getattr(layer.attn, "gate", None) for layer in layers]
    gated = bool(points) and all(isinstance(point, ProbePoint) for point in points)
    return layers[0].attn.branches if gated else ()
