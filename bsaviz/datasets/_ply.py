"""PLY and OFF files, with every count checked and the values at points kept."""

import numpy as np

from bsaviz._checks import BsavizError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
_CODINGS = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}
_INDICES = ("vertex_indices", "vertex_index")


def read_ply(path):
    """Points, triangles (polygons cut into fans; None for a cloud) and point fields of a PLY file."""
    positions, polygons, fields = read_polygons(path)
    return positions, None if polygons is None else fans(*polygons), fields


def read_polygons(path):
    """Points, polygons and point fields of a PLY file.

    Returns
    -------
    positions : array (P, 3)
    polygons : tuple of array or None
        Number of corners of each polygon (n,), and all corners one after the other.
    fields : dict of str to array
        Every other property of the points; ``nx, ny, nz`` become one field ``normals``.
    """
    header, body = _split_header(path)
    coding, elements = _parse_header(path, header)
    read = _ascii_element if coding is None else _binary_element
    found, place = {}, 0
    rows = [line for line in body.splitlines() if line.strip()] if coding is None else body
    for name, count, properties in elements:
        try:
            found[name], place = read(rows, place, count, properties, coding)
        except (ValueError, IndexError):
            raise BsavizError(
                f"{path} is truncated or damaged: it should hold {count} rows of {name!r}; copy or download it again"
            ) from None
    points = found.get("vertex", {})
    if not {"x", "y", "z"} <= set(points):
        raise BsavizError(f"{path} has no points: its header declares no 'vertex' element with x, y and z")
    polygons = next((found["face"][key] for key in _INDICES if key in found.get("face", {})), None)
    positions = np.stack([points.pop(axis) for axis in "xyz"], axis=1)
    if {"nx", "ny", "nz"} <= set(points):
        points["normals"] = np.stack([points.pop(axis) for axis in ("nx", "ny", "nz")], axis=1)
    fields = {name: value for name, value in points.items() if isinstance(value, np.ndarray)}
    if polygons is not None and not len(polygons[0]):
        polygons = None
    return positions, polygons, fields


def fans(sizes, indices):
    """Triangles (F, 3) of polygons given by their sizes (n,) and their indices one after the other."""
    sizes = np.asarray(sizes, dtype=np.int64)
    triangles = np.maximum(sizes - 2, 0)
    first = np.repeat(np.cumsum(sizes) - sizes, triangles)
    step = np.arange(triangles.sum()) - np.repeat(np.cumsum(triangles) - triangles, triangles)
    return np.asarray(indices, dtype=np.int64)[np.stack([first, first + step + 1, first + step + 2], axis=1)]


def _split_header(path):
    data = path.read_bytes()
    head, mark, body = data.partition(b"end_header")
    if not data.startswith(b"ply") or not mark:
        raise BsavizError(f"{path} is not a whole PLY file: it needs 'ply' first and a line 'end_header'")
    return head.decode("latin1").split("\n"), body.partition(b"\n")[2]


def _parse_header(path, lines):
    """Byte order (None for ASCII), and the elements as (name, count, properties)."""
    coding, elements = None, []
    for words in filter(None, (line.split() for line in lines[1:])):
        try:
            if words[0] == "format":
                coding = _CODINGS[words[1]]
            elif words[0] == "element":
                elements.append((words[1], int(words[2]), []))
            elif words[0] == "property":
                elements[-1][2].append((words[-1], *(_TYPES[word] for word in words[1:-1] if word != "list")))
        except (KeyError, IndexError, ValueError):
            raise BsavizError(f"{path}: the PLY header line {' '.join(words)!r} is not understood") from None
    return coding, elements


def _ascii_element(rows, place, count, properties, _):
    """Columns of `count` rows of text; a list property becomes (sizes, values)."""
    if len(rows) < place + count:
        raise ValueError
    table = [row.split() for row in rows[place : place + count]]
    if all(len(kinds) == 1 for _, *kinds in properties):
        values = np.array(table, dtype=np.float64).reshape(count, len(properties))
        return {name: values[:, i].astype(kind) for i, (name, kind) in enumerate(properties)}, place + count
    columns = {name: [] for name, *_ in properties}
    for row in table:
        at = 0
        for name, *kinds in properties:
            size = int(row[at]) if len(kinds) == 2 else 1
            at += len(kinds) - 1
            values = row[at : at + size]
            if len(values) < size:
                raise ValueError
            columns[name].append(values)
            at += size
    return _columns(columns, properties), place + count


def _binary_element(data, place, count, properties, order):
    """Columns of `count` binary rows; rows of one size are read at once."""
    if not count:
        return _columns({name: [] for name, *_ in properties}, properties), place
    sizes = _first_row_sizes(data, place, properties, order)
    row = np.dtype([field for (name, *kinds), size in zip(properties, sizes)
                    for field in _row_fields(name, kinds, size, order)])  # fmt: skip
    lists = [(name, size) for (name, *kinds), size in zip(properties, sizes) if len(kinds) == 2]
    if len(data) >= place + count * row.itemsize:
        table = np.frombuffer(data, row, count, place)
        if all((table[name + " size"] == size).all() for name, size in lists):
            columns = {name: table[name] for name, *_ in properties}
            for name, size in lists:
                columns[name] = (np.full(count, size), table[name].reshape(-1))
            return {name: _native(value) for name, value in columns.items()}, place + count * row.itemsize
    elif not lists:
        raise ValueError
    return _binary_rows(data, place, count, properties, order)


def _row_fields(name, kinds, size, order):
    if len(kinds) == 1:
        return [(name, order + kinds[0])]
    return [(name + " size", order + kinds[0]), (name, order + kinds[1], (size,))]


def _first_row_sizes(data, place, properties, order):
    sizes = []
    for _, *kinds in properties:
        size = 1
        if len(kinds) == 2:
            size = int(np.frombuffer(data, order + kinds[0], 1, place)[0])
            place += np.dtype(kinds[0]).itemsize
        place += size * np.dtype(kinds[-1]).itemsize
        sizes.append(size)
    return sizes


def _binary_rows(data, place, count, properties, order):
    columns = {name: [] for name, *_ in properties}
    for _ in range(count):
        sizes = _first_row_sizes(data, place, properties, order)
        for (name, *kinds), size in zip(properties, sizes):
            if len(kinds) == 2:
                place += np.dtype(kinds[0]).itemsize
            columns[name].append(np.frombuffer(data, order + kinds[-1], size, place))
            place += size * np.dtype(kinds[-1]).itemsize
    return _columns(columns, properties), place


def _columns(columns, properties):
    """Lists of rows as arrays; a list property as (sizes, values)."""
    arrays = {}
    for name, *kinds in properties:
        rows = columns[name]
        flat = np.concatenate([np.asarray(row).astype(kinds[-1]) for row in rows]) if rows else np.zeros(0, kinds[-1])
        arrays[name] = flat if len(kinds) == 1 else (np.array([len(row) for row in rows], np.int64), flat)
    return arrays


def _native(value):
    if isinstance(value, tuple):
        return value[0], _native(value[1])
    return value.astype(value.dtype.newbyteorder("="))


def read_off(path):
    """Points and triangles of an OFF file (also COFF, NOFF, ...: what follows x, y, z is left out)."""
    lines = [line.partition("#")[0].split() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    if not lines or not lines[0][0].upper().endswith("OFF"):
        raise BsavizError(f"{path} is not an OFF file: its first word must be OFF")
    lines[0] = lines[0][1:]
    lines = lines if lines[0] else lines[1:]
    try:
        points, polygons = int(lines[0][0]), int(lines[0][1])
        rows, corners = lines[1 : 1 + points], lines[1 + points : 1 + points + polygons]
        if len(rows) < points or len(corners) < polygons:
            raise ValueError
        positions = np.array([row[:3] for row in rows], dtype=np.float64).reshape(points, 3)
        sizes = [int(row[0]) for row in corners]
        indices = [int(word) for row, size in zip(corners, sizes) for word in row[1 : 1 + size]]
        if len(indices) < sum(sizes):
            raise ValueError
    except (ValueError, IndexError):
        raise BsavizError(
            f"{path} is truncated or damaged: it does not hold the points and faces its header counts; copy it again"
        ) from None
    return positions, fans(sizes, indices) if polygons else None, {}
