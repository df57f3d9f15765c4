"""TFRecord files of tensors, read and written without TensorFlow (with the `tfrecord` package's message types)."""

import struct

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz._files import whole_file

_FRAME = struct.Struct("<QI")  # length and its checksum; after the record comes its own checksum
_FLOAT = 1  # tensorflow's number for 32-bit floats


def record_places(path):
    """Start and length of every record of a file, (n, 2) int64; only the frames are read.

    Raises
    ------
    BsavizError
        When the file ends inside a record, or its frames are damaged.
    """
    checksum = require("tfrecord", "sets").writer.TFRecordWriter.masked_crc
    places, size = [], path.stat().st_size
    with open(path, "rb") as file:
        at = 0
        while at < size:
            head = file.read(_FRAME.size)
            if len(head) < _FRAME.size or checksum(head[:8]) != head[8:]:
                raise _broken(path, f"no record starts at byte {at}")
            length = _FRAME.unpack(head)[0]
            places.append((at + _FRAME.size, length))
            at += _FRAME.size + length + 4
            if at > size:
                raise _broken(path, f"record {len(places) - 1} should end at byte {at}, the file ends at {size}")
            file.seek(at)
    return np.array(places, np.int64).reshape(-1, 2)


def read_record(path, start, length, names, optional=()):
    """The tensors `names` of the record at `start`, and those of `optional` that it has, as float32 arrays.

    Raises
    ------
    BsavizError
        For a record with another checksum than it was written with, and one that lacks a name (lists those it has).
    """
    tfrecord = require("tfrecord", "sets")
    with open(path, "rb") as file:
        file.seek(start)
        content, checksum = file.read(length), file.read(4)
    if tfrecord.writer.TFRecordWriter.masked_crc(content) != checksum:
        raise _broken(path, f"the record at byte {start} has another checksum than it was written with")
    features = tfrecord.example_pb2.Example.FromString(content).features.feature
    missing = [name for name in names if name not in features]
    if missing:
        there = ", ".join(sorted(features)) or "nothing"
        raise BsavizError(f"{path}: a record has no {', '.join(missing)}; it has {there}")
    wanted = [*names, *(name for name in optional if name in features)]
    return {name: _tensor(path, name, features[name].bytes_list.value) for name in wanted}


def write_records(path, records):
    """Write dicts of arrays as the set's files hold them: each array a serialised float32 tensor under its name."""
    tfrecord = require("tfrecord", "sets")
    with whole_file(path) as temporary:
        writer = tfrecord.TFRecordWriter(str(temporary))
        for record in records:
            writer.write({name: (_message(np.asarray(values, "<f4")), "byte") for name, values in record.items()})
        writer.close()


def _broken(path, what):
    return BsavizError(f"{path} is truncated or damaged: {what}; copy or download the whole file again")


def _message(array):
    """TensorProto: dtype (field 1), shape (field 2) and content (field 4)."""
    sizes = b"".join(_field(2, _field(1, size)) for size in array.shape)
    return _field(1, _FLOAT) + _field(2, sizes) + _field(4, array.tobytes())


def _field(number, value):
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _tensor(path, name, values):
    """The array of a serialised TensorProto of 32-bit floats."""
    damaged = _broken(path, f"{name!r} holds no tensor of 32-bit floats")
    if len(values) != 1:
        raise damaged
    try:
        fields = _fields(values[0])
        shape = [_fields(size).get(1, [0])[0] for size in _fields(fields.get(2, [b""])[0]).get(2, [])]
        content = b"".join(fields[4] if 4 in fields else fields[5])  # all bytes, or a packed list of floats
        if fields[1] != [_FLOAT]:
            raise damaged
        return np.frombuffer(content, "<f4").reshape(shape).copy()
    except (IndexError, KeyError, TypeError, ValueError, struct.error) as error:
        raise damaged from error


def _fields(message):
    """The fields of a protocol-buffer message: number to list of ints and bytes."""
    fields, at = {}, 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            value, at = _read_varint(message, at)
        elif key & 7 == 5:
            value, at = message[at : at + 4], at + 4
        elif key & 7 == 2:
            length, at = _read_varint(message, at)
            value, at = message[at : at + length], at + length
        else:
            raise ValueError("a field of an unknown kind")
        if at > len(message):
            raise ValueError("the message ends inside a field")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _read_varint(message, at):
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
