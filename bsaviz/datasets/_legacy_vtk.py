"""Legacy VTK files, read with every count checked.

VTK's own reader fills what a truncated file lacks with leftovers and only prints a warning, or nothing at all. This one
walks the sections, counts what each must hold, and raises where the file ends too early. It gives the arrays of
unstructured grids and surfaces; for other kinds it serves as the check before VTK reads them.
"""

import numpy as np

from bsaviz._checks import BsavizError

_TYPES = {  # numbers in a binary file are big-endian
    "unsigned_char": ">u1", "char": ">i1", "unsigned_short": ">u2", "short": ">i2", "unsigned_int": ">u4", "int": ">i4",
    "unsigned_long": ">u8", "long": ">i8", "float": ">f4", "double": ">f8", "vtkidtype": ">i4", "vtktypeint64": ">i8",
    "vtktypeuint64": ">u8", "vtktypeint32": ">i4", "vtktypeuint32": ">u4", "vtktypeint8": ">i1", "vtktypeuint8": ">u1",
}  # fmt: skip
_CELL_SECTIONS = ("CELLS", "VERTICES", "LINES", "POLYGONS", "TRIANGLE_STRIPS")
_REQUIRED = {
    "UNSTRUCTURED_GRID": ("POINTS", "CELLS", "CELL_TYPES"),
    "POLYDATA": ("POINTS",),
    "STRUCTURED_GRID": ("DIMENSIONS", "POINTS"),
}


def read_legacy_vtk(path):
    """Sections of a legacy VTK file.

    Parameters
    ----------
    path : Path

    Returns
    -------
    dict
        ``"DATASET"`` (str), ``"POINTS"`` (n, 3), ``"CELLS"``, ``"POLYGONS"`` ... as pairs (offsets, connectivity),
        ``"CELL_TYPES"`` (n,), and ``"POINT_DATA"``, ``"CELL_DATA"`` (dicts of arrays); those that the file has.

    Raises
    ------
    BsavizError
        When the file is truncated, damaged, or not a legacy VTK file.
    """
    file = _File(path)
    sections = {"POINT_DATA": {}, "CELL_DATA": {}}
    target, tuples = {}, 0  # where the arrays being read belong
    while words := file.words():
        key = words[0].upper()
        if key in ("POINT_DATA", "CELL_DATA"):
            target, tuples = sections[key], file.count(words, 1)
        elif key == "DATASET":
            sections[key] = file.word(words, 1).upper()
        elif key == "METADATA":
            file.skip_to_blank()
        elif key == "POINTS":
            sections[key] = file.numbers(3 * file.count(words, 1), file.word(words, 2), key).reshape(-1, 3)
        elif key in _CELL_SECTIONS:
            sections[key] = _cells(file, words)
        elif key == "CELL_TYPES":
            sections[key] = file.numbers(file.count(words, 1), "int", key)
        elif key in ("X_COORDINATES", "Y_COORDINATES", "Z_COORDINATES"):
            sections[key] = file.numbers(file.count(words, 1), file.word(words, 2), key)
        elif key in ("DIMENSIONS", "ORIGIN", "SPACING", "ASPECT_RATIO"):
            sections[key] = words[1:]
        elif key == "FIELD":
            _field_arrays(file, file.count(words, 2), target)
        else:
            _attribute(file, key, words, tuples, target)
    for key in ("DATASET", *_REQUIRED.get(sections.get("DATASET"), ())):
        if key not in sections:
            raise file.broken(f"it ends before its section {key}")
    return sections


def _cells(file, words):
    """Offsets (n + 1,) and connectivity of n cells; files before version 5 write the size before each cell's points."""
    if file.version >= 5:
        parts = []
        for index in (1, 2):
            header = file.words()
            parts.append(file.numbers(file.count(words, index), file.word(header, 1), words[0]))
        return tuple(parts)
    count, size = file.count(words, 1), file.count(words, 2)
    raw = file.numbers(size, "int", words[0]).astype(np.int64)
    starts = np.zeros(count + 1, np.int64)
    for cell in range(count):
        if starts[cell] >= size:
            raise file.broken(f"section {words[0]} should hold {count} cells, {cell} are there")
        starts[cell + 1] = starts[cell] + 1 + raw[starts[cell]]
    if starts[-1] != size:
        raise file.broken(f"the cells of section {words[0]} do not add up to its {size} numbers")
    return starts - np.arange(count + 1), np.delete(raw, starts[:-1])


def _field_arrays(file, count, target):
    """The arrays of a FIELD block: each a line 'name components tuples type' and its numbers."""
    for index in range(count):
        words = file.words()
        while words and words[0].upper() == "METADATA":
            file.skip_to_blank()
            words = file.words()
        if not words:
            raise file.broken(f"a FIELD should hold {count} arrays, {index} are there")
        components, tuples = file.count(words, 1), file.count(words, 2)
        values = file.numbers(components * tuples, file.word(words, 3), words[0])
        target[words[0]] = values.reshape(tuples, components) if components != 1 else values


def _attribute(file, key, words, tuples, target):
    """One array of point or cell data under its own keyword."""
    name = file.word(words, 1)
    if key == "SCALARS":
        components = file.count(words, 3) if len(words) > 3 else 1
        if file.peek("LOOKUP_TABLE"):
            file.words()
        kind = file.word(words, 2)
    elif key in ("VECTORS", "NORMALS", "TENSORS", "GLOBAL_IDS", "PEDIGREE_IDS"):
        components = {"VECTORS": 3, "NORMALS": 3, "TENSORS": 9}.get(key, 1)
        kind = file.word(words, 2)
    elif key == "TEXTURE_COORDINATES":
        components, kind = file.count(words, 2), file.word(words, 3)
    elif key == "COLOR_SCALARS":
        components, kind = file.count(words, 2), "unsigned_char" if file.binary else "float"
    elif key == "LOOKUP_TABLE":
        file.numbers(4 * file.count(words, 2), "unsigned_char" if file.binary else "float", key)
        return
    else:
        raise file.broken(f"{' '.join(words)[:40]!r} is not a section of the format")
    values = file.numbers(components * tuples, kind, f"{key} {name}")
    target[name] = values.reshape(tuples, components) if components != 1 else values


class _File:
    """Place in the bytes of a legacy VTK file, ASCII or binary."""

    def __init__(self, path):
        self.path = path
        self.rest = path.read_bytes()
        first = self._line()
        if not first.lower().startswith("# vtk datafile version"):
            raise BsavizError(
                f"{path} is not a legacy VTK file: it starts with {first[:40]!r}, expected '# vtk DataFile Version ...'"
            )
        self.version = float(first.split()[-1])
        self._line()  # the title: any text
        coding = "".join(self.words()).upper()
        if coding not in ("ASCII", "BINARY"):
            raise self.broken("its third line must say ASCII or BINARY")
        self.binary = coding == "BINARY"

    def broken(self, what):
        return BsavizError(f"{self.path} is truncated or damaged: {what}; copy or download the whole file again")

    def _line(self):
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode("latin1").strip()

    def words(self):
        """Words of the next line that is not blank; none at the end of the file."""
        while self.rest:
            if words := self._line().split():
                return words
        return []

    def peek(self, word):
        return self.rest.lstrip()[: len(word)].upper() == word.encode()

    def skip_to_blank(self):
        while self._line():
            if not self.rest:
                raise self.broken("it ends inside a METADATA block")

    def word(self, words, index):
        if len(words) <= index:
            raise self.broken(f"the line {' '.join(words)[:60]!r} is too short")
        return words[index]

    def count(self, words, index):
        word = self.word(words, index)
        if not word.isdigit():
            raise self.broken(f"the line {' '.join(words)[:60]!r} should hold a count")
        return int(word)

    def numbers(self, count, kind, section):
        """The next `count` numbers of VTK type `kind`."""
        if kind.lower() not in _TYPES:
            raise BsavizError(f"{self.path}: section {section} holds values of type {kind!r}, which is not read; "
                              "save the file as .vtp or .vtu, or without them")  # fmt: skip
        dtype = np.dtype(_TYPES[kind.lower()])
        if self.binary:
            found = min(count, len(self.rest) // dtype.itemsize)
            values = np.frombuffer(self.rest, dtype, found)
            self.rest = self.rest[found * dtype.itemsize :]
        else:
            tokens = self.rest.split(None, count)
            self.rest = tokens.pop() if len(tokens) > count else b""
            found = len(tokens)
            try:
                values = np.array(tokens, dtype="S").astype(np.float64)
            except ValueError:
                raise self.broken(f"section {section} should hold {count} numbers, other text comes first") from None
            values = values.astype(dtype.newbyteorder("="))
        if found < count:
            raise self.broken(f"section {section} should hold {count} numbers, {found} are there")
        return values
