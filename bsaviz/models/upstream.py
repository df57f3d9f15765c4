"""Weights of the published implementation, read into our modules."""

import pickle
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch

from bsaviz._checks import BsavizError
from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention
from bsaviz.models.config import TransformerConfig, check_settings, with_article
from bsaviz.models.erwin import Erwin
from bsaviz.models.erwin_config import ErwinConfig
from bsaviz.models.layer import attention
from bsaviz.models.transformer import Transformer
from bsaviz.models.upstream_config import infer_config
from bsaviz.models.upstream_erwin import (
    erwin_name,
    erwin_upstream_name,
    fold_embedding,
    infer_erwin,
    is_erwin,
    unused_pooling,
)

PRESSURE_MEAN, PRESSURE_STD = -36.3099, 48.5743  # Pa; the published normalisation of ShapeNet-Car
_UNREADABLE = (
    "{path} cannot be read as plain tensors ({reason}); copy it again if it is damaged, and if it holds other "
    "objects too, which could run code when opened, save its state_dict() alone"
)
_WRAPPERS = ("model_state_dict", "state_dict", "model")

# Upstream name -> ours, inside an attention.
_ATTENTION_NAMES = {
    "sigma_att": "distance_slope",
    "position_proj": "ball_position.proj",
    "gated_attention.to_strategy.0": "gating.proj",
    "gated_attention.gates": "gating.weight",
    "q_compress_mlp": "pooling.q",
    "k_compress_mlp": "pooling.k",
    "v_compress_mlp": "pooling.v",
}
_STACK_NAMES = {"embed": "embedding", "pos_enc.linear": "encoding.linear", "pred_head": "head"}


def import_upstream(source, config=None, **settings):
    """Weights of the published BSA or Erwin code as one of our modules that reproduces its behaviour.

    Parameters
    ----------
    source : dict, str or Path
        A state dict; or a file: ``.safetensors``, ``.pt`` / ``.pth`` / ``.ckpt`` / ``.tar`` (read with
        ``weights_only=True``, so that opening it runs no code) or ``.npz`` with arrays ``param/*``. State dicts may lie
        inside ``model_state_dict`` or ``state_dict``, and names may carry ``module.`` and ``_orig_mod.``.
    config : TransformerConfig or ErwinConfig, optional
        The whole configuration. By default it is read off the weights' shapes and completed by `settings`.
    **settings
        Fields of the configuration that the weights do not tell. Of a :class:`TransformerConfig`: ``num_heads`` (of
        full attention), ``ball_size``, ``block_size`` (with mean pooling), ``group_size``, ``top_k``,
        ``residual_every``, ``rotation_angle``, ``group_compression``, ``coarse_scores``, ``group_selection``,
        ``mask_own_ball``; unless given they are the published ones. Of an :class:`ErwinConfig`: ``ball_sizes``, which
        must be given, ``rotation_angle`` (45 unless given), ``neighbours`` and ``radius``.

    Returns
    -------
    Transformer, Erwin, BallSparseAttention, BallAttention or FullAttention
        In eval mode: a whole model, or a single attention where the weights are those of one. The ShapeNet-Car models
        also get the published normalisation of the pressure (Pa). Erwin's cosmology and polymer models are read too:
        see :func:`~bsaviz.models.upstream_erwin.fold_embedding` for their features.

    Raises
    ------
    BsavizError
        When the file cannot be read, or the weights do not fit: names the missing, the unexpected and those of another
        shape.
    """
    weights, folded = fold_embedding(from_ball_msa(clean_weights(read_weights(source))))
    single, erwin = "qkv.weight" in weights, is_erwin(weights)
    if config is not None:
        config = _overridden(config, settings, ErwinConfig if erwin else TransformerConfig)
    else:
        config = infer_erwin(weights, **folded, **settings) if erwin else infer_config(weights, **settings)
    if single:
        module, names = attention(config), Names(_attention_name, _upstream_name, _unused)
    elif erwin:
        module, names = Erwin(config), Names(erwin_name, erwin_upstream_name, unused_pooling)
    else:
        module, names = Transformer(config), Names(_stack_name, _upstream_name, _unused)
    load_weights(module, weights, names)
    if not single and config.out_features == 1 and config.fourier_features:  # the ShapeNet-Car models
        module.output_mean.fill_(PRESSURE_MEAN)
        module.output_std.fill_(PRESSURE_STD)
    return module.eval()


def read_weights(source):
    """A state dict from whatever holds one."""
    if not isinstance(source, str | Path):
        return source
    path = Path(source)
    if path.suffix == ".npz":
        return golden_weights(read_npz(path))
    if not path.is_file():
        raise BsavizError(f"there is no weights file {path}; check the path")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # whose own text advises to open the file all the same
        raise BsavizError(_UNREADABLE.format(path=path, reason="it holds more than tensors, or is damaged")) from error
    except Exception as error:  # a broken pickle can raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BsavizError(_UNREADABLE.format(path=path, reason=reason)) from error


def read_npz(path):
    """All arrays of an ``.npz`` file, by name."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ValueError("it holds a single array")
        with file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError as error:
        raise BsavizError(f"there is no file {path}; check the path") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BsavizError(f"{path} is no readable .npz file ({error}); copy it again") from error


def golden_weights(arrays):
    """The upstream state dict in the arrays of a golden file, under ``param/``."""
    names = [name for name in arrays if name.startswith("param/")]
    return {name.removeprefix("param/"): torch.from_numpy(arrays[name]) for name in names}


def clean_weights(weights):
    """Unwrap a checkpoint and strip what compiling, wrapping and the ShapeNet-Car model put before the names."""
    for key in _WRAPPERS:
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not weights or not all(isinstance(x, torch.Tensor) for x in weights.values()):
        raise BsavizError(
            "no state dict found: expected a dict of names and tensors, or one inside "
            f"{' or '.join(map(repr, _WRAPPERS))}; save model.state_dict()"
        )
    clean = {}
    for name, value in weights.items():
        name = re.sub(r"(^|\.)(module|_orig_mod)(?=\.)", "", name).lstrip(".")
        clean[name.removeprefix("main_model.")] = value
    return clean


def from_ball_msa(weights):
    """Erwin's ball attention, known by its ``pe_proj``, as BSA's: other names, and qkv rows (H, d, 3) as (3, H, d)."""
    renamed = dict(weights)
    for prefix in [name.removesuffix("pe_proj.weight") for name in weights if name.endswith("pe_proj.weight")]:
        linear = [f"{name}.{kind}" for name in ("qkv", "proj", "pe_proj") for kind in ("weight", "bias")]
        if any(f"{prefix}{name}" not in weights for name in ("sigma_att", *linear)):
            continue  # what is missing is named when the weights are loaded
        heads = weights[f"{prefix}sigma_att"].shape[1]
        for kind in ("weight", "bias"):
            renamed[f"{prefix}position_proj.{kind}"] = renamed.pop(f"{prefix}pe_proj.{kind}")
            renamed[f"{prefix}out_proj.{kind}"] = renamed.pop(f"{prefix}proj.{kind}")
            rows = weights[f"{prefix}qkv.{kind}"].unflatten(0, (heads, -1, 3))
            renamed[f"{prefix}qkv.{kind}"] = rows.movedim(2, 0).flatten(0, 2)
    return renamed


class Names(NamedTuple):
    """How the parameters of one kind of module are called.

    Attributes
    ----------
    ours, theirs : callable
        Our name from upstream's, and upstream's from ours.
    unused : callable
        Whether upstream has, but does not read, the parameter of a name in our module.
    """

    ours: Callable
    theirs: Callable
    unused: Callable


def load_weights(module, weights, names):
    """Copy cleaned upstream weights into our module, or say what does not fit.

    Parameters
    ----------
    module : nn.Module
    weights : dict of str to Tensor
    names : Names
    """
    ours = module.state_dict()
    kept = {name: value for name, value in ours.items() if name in ("output_mean", "output_std")}
    converted, origin = dict(kept), {}
    for name, value in weights.items():
        new = names.ours(name)
        if new in ours or not names.unused(name, module):
            converted[new] = _converted(name, value, ours.get(new))
            origin[new] = name
    wrong = [
        f"{origin[name]} is {tuple(value.shape)}, expected {tuple(ours[name].shape)}"
        for name, value in converted.items()
        if name in ours and value.shape != ours[name].shape
    ]
    missing = sorted(names.theirs(name) for name in set(ours) - set(converted))
    unexpected = sorted(origin[n] for n in set(converted) - set(ours))
    problems = [
        f"{len(found)} {what}: {', '.join(found[:4])}{', ...' if len(found) > 4 else ''}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
        if found
    ]
    if problems:
        kind = with_article(type(module).__name__)
        raise BsavizError(
            f"the weights do not fit {kind} of this configuration; {'; '.join(problems)}. "
            "Give the configuration they were trained with"
        )
    module.load_state_dict(converted)


def _attention_name(name):
    for theirs, ours in _ATTENTION_NAMES.items():
        if name == theirs or name.startswith(theirs + "."):
            return ours + name[len(theirs) :]
    return name


def _stack_name(name):
    layer = re.fullmatch(r"(layers\.\d+\.attn\.)(.+)", name)
    if layer:
        return layer[1] + _attention_name(layer[2])
    for theirs, ours in _STACK_NAMES.items():
        if name.startswith(theirs + "."):
            return ours + name[len(theirs) :]
    return name


def _upstream_name(name):
    """What upstream calls a parameter of ours."""
    prefix, _, inside = name.rpartition("attn.")
    tables = {ours: theirs for theirs, ours in (_STACK_NAMES | _ATTENTION_NAMES).items()}
    for ours, theirs in tables.items():
        if inside == ours or inside.startswith(ours + "."):
            return f"{prefix}attn.{theirs}{inside[len(ours) :]}" if prefix else theirs + inside[len(ours) :]
    return name


def _converted(name, value, target):
    """Upstream keeps one-number-per-head parameters broadcastable, e.g. (1, H, 1, 1)."""
    per_head = name.endswith(("sigma_att", "gated_attention.gates"))
    return value.reshape(target.shape) if per_head and target is not None and value.numel() == target.numel() else value


def _unused(name, module):
    """Parameters that upstream makes but does not read: positions of full attention, the query pooling."""
    attentions = [m for m in module.modules() if isinstance(m, FullAttention | BallAttention | BallSparseAttention)]
    if "position_proj." in name:
        return isinstance(attentions[0], FullAttention)
    return "q_compress_mlp." in name and "q_coarse" not in getattr(attentions[0], "pooled", ("q_coarse",))


def _overridden(config, settings, kind):
    if not isinstance(config, kind):
        wanted, came = with_article(kind.__name__), type(config).__name__
        raise BsavizError(f"config must be {wanted}, got {came}; give settings by name")
    check_settings(kind, settings)
    return replace(config, **settings)
