"""The configuration of published weights: what their shapes tell, and what their files say."""

import re

from bsaviz._checks import BsavizError
from bsaviz.models.config import TransformerConfig, check_settings

# The published code's behaviour, where the configuration has a choice.
PUBLISHED = dict(published=True, position_scaling="none")
_ATTENTION_OF = {"sparse": "bsa", "bsa": "bsa", "global": "full", "full": "full", "ball": "ball"}


def infer_config(weights, **settings):
    """A :class:`TransformerConfig` from the shapes of cleaned upstream weights; `settings` win.

    Parameters
    ----------
    weights : dict of str to Tensor
        Of a stack, or of a single attention.
    **settings
        Fields of the configuration.
    """
    check_settings(TransformerConfig, settings)
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    if "qkv.weight" in shapes:
        return TransformerConfig(**{**PUBLISHED, **_attention_shapes(shapes, settings), **settings})
    if "embed.weight" not in shapes or "layers.0.attn.qkv.weight" not in shapes:
        raise BsavizError(
            "these are not weights of a published BSA transformer or attention: expected names like 'qkv.weight', or "
            f"'embed.weight' and 'layers.0.attn.qkv.weight', got {', '.join(list(shapes)[:3])}, ..."
        )
    first = {name.removeprefix("layers.0.attn."): s for name, s in shapes.items() if name.startswith("layers.0.attn.")}
    found = {**_stack_shapes(shapes), **_attention_shapes(first, settings)}
    return TransformerConfig(**{**PUBLISHED, **found, **settings})


def golden_settings(config):
    """Settings for :func:`infer_config` from the ``config`` of a golden file (upstream's option names)."""
    names = {
        "dim": "dim", "depth": "depth", "num_heads": "num_heads", "ball_size": "ball_size", "block_size": "block_size",
        "group_size": "group_size", "top_k": "top_k", "residual_every": "residual_every", "mlp_ratio": "mlp_ratio",
        "use_group_selection": "group_selection", "should_mask_blocks_in_ball": "mask_own_ball",
        "use_coarse_q_attn": "group_compression", "use_coarse_q_importance": "coarse_scores",
    }  # fmt: skip
    settings = dict(block_size=8, group_size=8, top_k=4)  # upstream's defaults
    settings.update({ours: config[theirs] for theirs, ours in names.items() if theirs in config})
    # Upstream scores with coarse queries whenever it compresses with them.
    settings["coarse_scores"] = bool(settings.get("coarse_scores") or settings.get("group_compression"))
    if "attention" in config:
        if config["attention"] not in _ATTENTION_OF:
            known = ", ".join(map(repr, _ATTENTION_OF))
            raise BsavizError(f"unknown attention {config['attention']!r} in the file's config; known are {known}")
        settings["attention"] = _ATTENTION_OF[config["attention"]]
    if "rotate" in config:
        settings["rotation_angle"] = 45.0 if config["rotate"] else None
    return settings


def _stack_shapes(shapes):
    """What embedding, layers and head tell."""
    dim, width = shapes["embed.weight"]
    fourier = 2 * shapes["pos_enc.linear.weight"][0] if "pos_enc.linear.weight" in shapes else 0
    layers = {int(found[1]) for name in shapes if (found := re.match(r"layers\.(\d+)\.", name))}
    found = dict(depth=max(layers) + 1, fourier_features=fourier, in_features=width - fourier, out_features=0)
    if "layers.0.mlp.w1.weight" in shapes:
        found["mlp_ratio"] = shapes["layers.0.mlp.w1.weight"][0] // dim
    if "pred_head.2.weight" in shapes:
        found["out_features"] = shapes["pred_head.2.weight"][0]
    return found


def _attention_shapes(shapes, settings):
    """What the parameters of one attention tell: its kind, heads, pooling and gate."""
    dim = shapes["qkv.weight"][1]
    found = dict(dim=dim)
    if "position_proj.weight" in shapes:
        found["spatial_dims"] = shapes["position_proj.weight"][1]
    if "sigma_att" not in shapes:
        return {**found, "attention": "full"}
    heads = shapes["sigma_att"][1]
    gated = any(name.startswith("gated_attention.") for name in shapes)
    found.update(num_heads=heads, attention="bsa" if gated else "ball")
    if "gated_attention.gates" in shapes:
        found["gate"] = "static"
    if "k_compress_mlp.0.weight" in shapes:
        found["pooling"] = "mlp"
        found["block_size"] = shapes["k_compress_mlp.0.weight"][1] * heads // dim
        # Coarse queries need groups that are blocks.
        found["group_size"] = settings.get("group_size", found["block_size"])
    return found
