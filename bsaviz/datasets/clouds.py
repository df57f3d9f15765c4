"""Point clouds from text and numpy files: xyz, txt, csv, npy, npz."""

import numpy as np

from bsaviz._checks import BsavizError

_COLUMNS = (("x", "y", "z"), ("points:0", "points:1", "points:2"), ("points_0", "points_1", "points_2"))
_POSITIONS = ("positions", "position", "points", "pos", "xyz", "vertices", "coords")
_FACES = ("faces", "triangles", "cells")


def read_array(path):
    """Points of a ``.npy`` (P, 3 + k) or ``.npz`` file (positions under a usual name, faces, and fields of P rows).

    Returns
    -------
    positions : array (P, 3)
    faces : array (F, 3) or None
    fields : dict of str to array
    """
    arrays = load_numpy(path)
    if isinstance(arrays, np.ndarray):
        if arrays.ndim != 2 or arrays.shape[1] < 3:
            raise BsavizError(f"{path} holds an array of shape {arrays.shape}; a cloud needs (points, 3 or more)")
        return arrays[:, :3], None, _extra_columns(arrays)
    names = {name.lower(): name for name in arrays}
    found = [names[name] for name in _POSITIONS if name in names]
    if not found:
        raise BsavizError(
            f"{path} has no positions: its arrays are {sorted(arrays)}, expected one of {', '.join(_POSITIONS)}"
        )
    positions = arrays[found[0]]
    faces = next((arrays[names[name]] for name in _FACES if name in names), None)
    others = {name: value for name, value in arrays.items() if name != found[0] and name.lower() not in _FACES}
    fields = {name: value for name, value in others.items() if value.ndim in (1, 2) and value.dtype.kind in "fiub"}
    return positions, faces, fields


def load_numpy(path):
    """The array of a ``.npy`` file, or the dict of a ``.npz``; never unpickles."""
    try:
        loaded = np.load(path, allow_pickle=False)
        return loaded if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # numpy raises ValueError, EOFError, zip and zlib errors for damaged files
        raise BsavizError(f"cannot read {path} as a numpy file ({error}); is it truncated? copy it again") from error


def read_text(path):
    """Points of a text file with x, y, z in the columns so named, or in the first three.

    Columns are separated by commas, semicolons or blanks; a header line names them; lines that start with ``#`` or
    ``//`` are comments, of which the last may be the header; a first line that is one number (a count) is skipped.

    Returns
    -------
    positions : array (P, 3)
    None
    fields : dict of str to array (P,)
    """
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines()]
    remark = [line.lstrip("#/ ") for line in lines if line.startswith(("#", "//"))]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    if not lines:
        raise BsavizError(f"{path} is empty: it has no points")
    separator = next((mark for mark in (",", ";") if mark in lines[-1]), None)
    split = lambda line: [word.strip(' "') for word in line.rstrip(",; ").split(separator)]
    header = None
    if not _numeric(split(lines[0])):
        header = split(lines.pop(0))
    elif len(split(lines[0])) == 1 and len(lines) > 1:
        lines.pop(0)
    table = _table(path, [split(line) for line in lines])
    if header is None and remark and len(split(remark[-1])) == table.shape[1]:
        header = split(remark[-1])
    return _columns(path, table, header)


def _numeric(words):
    try:
        [float(word) for word in words]
    except ValueError:
        return False
    return True


def _table(path, rows):
    if not rows:
        raise BsavizError(f"{path} is empty: it has no points")
    for number, row in enumerate(rows):
        if len(row) != len(rows[0]) or not _numeric(row):
            raise BsavizError(
                f"{path} is truncated or damaged: row {number} of its numbers is {' '.join(row)[:60]!r}, "
                f"expected {len(rows[0])} numbers"
            )
    if len(rows[0]) < 3:
        raise BsavizError(f"{path} has {len(rows[0])} columns; a cloud needs at least x, y and z")
    return np.array(rows, dtype=np.float64)


def _columns(path, table, header):
    if header is None:
        return table[:, :3], None, _extra_columns(table)
    if len(header) != table.shape[1]:
        raise BsavizError(f"{path}: the header names {len(header)} columns, the rows hold {table.shape[1]}")
    lower = [name.lower() for name in header]
    where = next(([lower.index(name) for name in names] for names in _COLUMNS if set(names) <= set(lower)), [0, 1, 2])
    fields = {name: table[:, column] for column, name in enumerate(header) if column not in where}
    return table[:, where], None, fields


def _extra_columns(table):
    return {f"column_{column + 1}": table[:, column] for column in range(3, table.shape[1])}
