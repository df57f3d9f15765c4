"""Our weights under the published names, for files like those of the published code."""

import json

import numpy as np
import torch

NAMES = (
    ("distance_slope", "sigma_att"),
    ("ball_position.proj", "position_proj"),
    ("gating.proj", "gated_attention.to_strategy.0"),
    ("gating.weight", "gated_attention.gates"),
    ("pooling.q", "q_compress_mlp"),
    ("pooling.k", "k_compress_mlp"),
    ("pooling.v", "v_compress_mlp"),
    ("embedding.", "embed."),
    ("encoding.linear", "pos_enc.linear"),
    ("head.", "pred_head."),
)


def upstream_weights(module):
    """The state dict of one of our modules, named and shaped as upstream's."""
    weights = {}
    for name, value in module.state_dict().items():
        if name.startswith("output_"):
            continue
        for ours, theirs in NAMES:
            name = name.replace(ours, theirs)
        if name.endswith("sigma_att"):
            value = value.view(1, -1, 1, 1)
        if name.endswith("gates"):
            value = value.view(1, -1, 2, 1, 1)
        weights[name] = value.clone()
    return weights


def write_golden(path, module, config, **arrays):
    """A golden file whose weights are those of `module`."""
    arrays = {name: x.detach().numpy() if isinstance(x, torch.Tensor) else x for name, x in arrays.items()}
    weights = {f"param/{name}": value.float().numpy() for name, value in upstream_weights(module).items()}
    np.savez(path, config=json.dumps(config), **weights, **arrays)
    return path
