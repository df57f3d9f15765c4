"""Weights of the published Erwin code: their names, their shapes, and the small models around them."""

import re

import torch

from bsaviz._checks import BsavizError
from bsaviz.models.config import check_settings
from bsaviz.models.erwin_config import ErwinConfig
from bsaviz.models.upstream_config import PUBLISHED

# (upstream, ours); # is a number. The first that fits a place is taken.
_NAMES = (
    ("embed.embed_fn.", "embedding."),
    ("embed.mpnn.message_fns.#.0.", "mpnn.message.#."),
    ("embed.mpnn.message_fns.#.2.", "mpnn.message_norm.#."),
    ("embed.mpnn.update_fns.#.0.", "mpnn.update.#."),
    ("embed.mpnn.update_fns.#.1.", "mpnn.update_norm.#."),
    (".BMSA.sigma_att", ".attn.distance_slope"),
    (".BMSA.pe_proj.", ".attn.ball_position.proj."),
    (".BMSA.proj.", ".attn.out_proj."),
    (".BMSA.", ".attn."),
    (".swiglu.", ".mlp."),
    ("pos_enc.", "encoding."),
    ("pred_head.", "head."),
)


def is_erwin(weights):
    """Whether cleaned weights are those of a whole Erwin transformer."""
    return any(name.startswith(("bottleneck.", "embed.embed_fn.")) or ".BMSA." in name for name in weights)


def erwin_name(name):
    """Our name of an upstream parameter, after :func:`~bsaviz.models.upstream.from_ball_msa`."""
    name = name.replace(".BMSA.position_proj.", ".BMSA.pe_proj.").replace(".BMSA.out_proj.", ".BMSA.proj.")
    return _translated(name, _NAMES)


def erwin_upstream_name(name):
    """What upstream calls a parameter of ours."""
    return _translated(name, tuple((ours, theirs) for theirs, ours in _NAMES))


def unused_pooling(name, module):
    """Whether upstream makes this parameter and does not read it: the pooling of a level whose stride is 1."""
    found = re.match(r"encoder\.(\d+)\.pool\.", name)
    return bool(found) and int(found[1]) < len(module.encoder) and module.encoder[int(found[1])].pool is None


def infer_erwin(weights, **settings):
    """An :class:`ErwinConfig` from the shapes of cleaned upstream weights; `settings` win.

    Parameters
    ----------
    weights : dict of str to Tensor
    **settings
        Fields of the configuration. ``ball_sizes``, which no shape tells, must be among them.
    """
    check_settings(ErwinConfig, settings)
    if "ball_sizes" not in settings:
        raise BsavizError(
            "the weights of an Erwin transformer do not tell its balls: give ball_sizes, one number for each level, "
            "e.g. import_upstream(path, ball_sizes=(256, 256))"
        )
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    encoder, decoder = _stages(shapes, "encoder"), _stages(shapes, "decoder")
    levels = [f"encoder.{i}" for i in range(encoder)] + ["bottleneck"]
    # The decoder's first is its coarsest.
    back = [f"decoder.{i}" for i in reversed(range(decoder))]
    first = "bottleneck.blocks.0."
    dims = tuple(_shape(shapes, f"{name}.blocks.0.norm1.weight")[0] for name in levels)
    space = _shape(shapes, f"{first}BMSA.position_proj.weight")[1]
    width = _shape(shapes, "embed.embed_fn.weight")[1]
    fourier = 2 * shapes["pos_enc.linear.weight"][0] if "pos_enc.linear.weight" in shapes else 0
    found = dict(
        dims=dims,
        enc_depths=_depths(shapes, levels),
        enc_num_heads=_heads(shapes, levels),
        strides=settings.get("strides") or _strides(shapes, levels[:-1], dims, space),
        dec_depths=_depths(shapes, back) or (1,) * encoder,
        dec_num_heads=_heads(shapes, back) or (1,) * encoder,
        decode=decoder > 0 or encoder == 0,
        mp_steps=len({name.split(".")[3] for name in shapes if name.startswith("embed.mpnn.message_fns.")}),
        spatial_dims=space,
        fourier_features=fourier,
        in_features=width - fourier,
        out_features=_shape(shapes, "pred_head.2.weight")[0] if "pred_head.2.weight" in shapes else 0,
        mlp_ratio=_shape(shapes, f"{first}swiglu.w1.weight")[0] // dims[-1],
    )
    return ErwinConfig(**{**PUBLISHED, **found, **settings})


def golden_erwin_settings(config):
    """Settings for :func:`infer_erwin` from the ``config`` of a golden file (upstream's option names)."""
    names = {"ball_sizes", "strides", "enc_depths", "enc_num_heads", "dec_depths", "dec_num_heads", "decode"}
    settings = {name: config[name] for name in names if name in config}
    if "rotate" in config:
        settings["rotation_angle"] = float(config["rotate"]) or None
    return settings


def fold_embedding(weights):
    """Erwin's weights without the linear maps that upstream's cosmology and polymer models put before its embedding.

    Two linear maps are one. Of the cosmology model the positions themselves become the features; of the polymer model
    they are the flattened velocities, then the type of the particle as one-hot.

    Returns
    -------
    weights : dict of str to Tensor
    settings : dict
        What the folding settles of the configuration.
    """
    rename = {"dynamics_model.": "", "proj_model.": "pred_head."}
    weights = {_replaced(name, rename): value for name, value in weights.items()}
    by_position = "embedding_model.pos_embedding.weight" in weights
    if not by_position and "embedding_model.seq_embedding.weight" not in weights:
        return weights, {}
    inner = "embedding_model.pos_embedding." if by_position else "embedding_model.seq_embedding."
    before = weights.pop(f"{inner}weight").double()
    if "embedding_model.ptype_embedding.weight" in weights:
        before = torch.cat([before, weights.pop("embedding_model.ptype_embedding.weight").double().T], dim=1)
    outer = weights["embed.embed_fn.weight"].double()
    bias = outer @ weights.pop(f"{inner}bias").double() + weights["embed.embed_fn.bias"].double()
    kind = weights["embed.embed_fn.weight"].dtype
    weights |= {"embed.embed_fn.weight": (outer @ before).to(kind), "embed.embed_fn.bias": bias.to(kind)}
    return weights, {"coordinates": True, "in_features": 0} if by_position else {}


def _replaced(name, prefixes):
    for theirs, ours in prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def _translated(name, table):
    for old, new in table:
        pattern = re.escape(old).replace(r"\#", r"(\d+)")
        name, changed = re.subn(pattern if old[0] == "." else f"^{pattern}", new.replace("#", r"\1"), name)
        if changed:
            return name
    return name


def _stages(shapes, kind):
    return len({name.split(".")[1] for name in shapes if name.startswith(f"{kind}.")})


def _depths(shapes, stages):
    return tuple(
        len({name.split(".blocks.")[1].split(".")[0] for name in shapes if name.startswith(f"{stage}.blocks.")})
        for stage in stages
    )


def _heads(shapes, stages):
    return tuple(_shape(shapes, f"{stage}.blocks.0.BMSA.sigma_att")[1] for stage in stages)


def _strides(shapes, stages, dims, space):
    widths = [_shape(shapes, f"{stage}.pool.proj.weight")[1] for stage in stages]
    return tuple(width // (dim + space) for width, dim in zip(widths, dims))


def _shape(shapes, name):
    if name not in shapes:
        raise BsavizError(
            f"these weights of an Erwin transformer have no {erwin_upstream_name(erwin_name(name))}; "
            "save the whole model.state_dict()"
        )
    return shapes[name]
