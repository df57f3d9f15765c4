"""Tensors in a safetensors file beside a JSON that says what they are, written and checked as a pair.

Nothing here can run code when a file is opened.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import safetensors.torch
import torch

from bsaviz import __version__
from bsaviz._checks import BsavizError
from bsaviz._files import whole_file


def pair_names(path):
    """``x.safetensors`` and ``x.json`` for ``"x"``, ``"x.safetensors"`` or ``"x.json"``."""
    path = Path(path)
    stem = path.name.removesuffix(".safetensors").removesuffix(".json")
    if not stem:
        raise BsavizError(f"checkpoint path {str(path)!r} has no file name; give one such as 'runs/car'")
    return path.with_name(stem + ".safetensors"), path.with_name(stem + ".json")


def write_pair(path, kind, version, info, tensors):
    """Write both files, or neither.

    Parameters
    ----------
    path : str or Path
    kind, version : str, int
        Of the format; :func:`read_pair` must ask for the same.
    info : dict
        Goes into the JSON, after the format and the versions of bsaviz and torch, before the checksum of the tensors.
    tensors : dict of str to Tensor

    Returns
    -------
    Path
        The safetensors file.
    """
    weights, description = pair_names(path)
    content = safetensors.torch.save({name: value.detach().cpu().clone() for name, value in tensors.items()})
    head = {"format": kind, "format_version": version, "bsaviz": __version__, "torch": torch.__version__}
    try:
        text = json.dumps({**head, **info, "sha256": hashlib.sha256(content).hexdigest()}, indent=1)
    except TypeError as error:
        raise BsavizError(
            f"cannot write {description}: {error}; meta must hold numbers, text, lists and dicts only"
        ) from error
    # Both are complete before the first is renamed; should the machine die between the renames, the checksum tells.
    with whole_file(weights) as new_weights:
        new_weights.write_bytes(content)
        with whole_file(description) as new_description:
            new_description.write_text(text + "\n")
    return weights


def read_info(path, kind, version):
    """The JSON of a pair.

    Raises
    ------
    BsavizError
        When a file is missing, the JSON cannot be read, or it is of another format or version.
    """
    weights, description = pair_names(path)
    if not weights.is_file():
        raise BsavizError(
            f"there is no {weights}; check the path, or train a model: bsaviz train --out {weights.with_suffix('')}"
        )
    if not description.is_file():
        raise BsavizError(
            f"{description}, which says what {weights.name} holds, is missing; copy it from where {weights.name} came "
            "(weights of the published code are read with bsaviz.models.import_upstream)"
        )
    try:
        info = json.loads(description.read_text())
    except (ValueError, OSError) as error:
        raise BsavizError(f"{description} is no readable JSON ({error}); copy it again from where it came") from error
    came = info.get("format") if isinstance(info, dict) else None
    if came != kind:
        raise BsavizError(f"{description} is not of format {kind!r} (it says {came!r}); give the path of another file")
    if info.get("format_version") != version:
        raise BsavizError(
            f"{description} has format version {info.get('format_version')}, bsaviz {__version__} reads {version}; "
            f"it was written by bsaviz {info.get('bsaviz')}: install that version or train anew"
        )
    return info


def read_pair(path, kind, version):
    """The JSON and the tensors, on the CPU. Follow with :func:`fill` and :func:`check_sum`."""
    info = read_info(path, kind, version)
    weights = pair_names(path)[0]
    try:
        return info, safetensors.torch.load(weights.read_bytes())
    except (safetensors.SafetensorError, OSError) as error:
        raise BsavizError(
            f"{weights} is truncated, corrupt or no safetensors file ({error}); "
            "copy it again from where it came, or train anew"
        ) from error


def fill(targets, tensors, source, owner):
    """Copy `tensors` into the tensors of `targets`, which must have the same names and shapes.

    Parameters
    ----------
    targets, tensors : dict of str to Tensor
    source : str or Path
        Where `tensors` came from, for the message.
    owner : str
        What asks for the shapes of `targets`, for the message.
    """
    shape = lambda held, name: tuple(held[name].shape) if name in held else "absent"
    names = [*targets, *sorted(set(tensors) - set(targets))]
    wrong = [name for name in names if shape(targets, name) != shape(tensors, name)]
    if wrong:
        differs = lambda name: f"{name} is {shape(tensors, name)} in the file and should be {shape(targets, name)}"
        raise BsavizError(
            f"{source} does not fit {owner}: {len(wrong)} of {len(names)} tensors differ, the first: "
            f"{'; '.join(map(differs, wrong[:3]))}. Use the model and the configuration it was trained with "
            "(load_model takes them from the JSON), or train anew"
        )
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(tensors[name])


def check_sum(path, info):
    """Refuse tensors that are not the ones their JSON was written with."""
    weights, description = pair_names(path)
    if hashlib.sha256(weights.read_bytes()).hexdigest() != info.get("sha256"):
        raise BsavizError(
            f"{weights} does not belong to {description.name}: its sha256 is another than the one there. "
            "A copy or a save was interrupted, or one file was replaced: copy both again, or write them with save_model"
        )


def check_writable(path):
    """Find out before a long run, rather than after it, that nothing can be written at `path`."""
    folder = pair_names(path)[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BsavizError(f"cannot write a checkpoint in {folder}: {error.strerror}; choose another folder") from error
