"""One allocation for many tensors, as the launches hand them to each other."""

import pytest
import torch

pytest.importorskip("triton", reason="triton is not installed")

from bsa_kernels.triton.launch import ALIGN, Room, addressable

PARTS = {"a": ((3, 5), torch.bfloat16), "b": ((7,), torch.int32), "c": ((2, 1, 4), torch.float32)}


def test_views_are_apart_and_aligned():
    room = Room(PARTS)
    memory = room.allocate("cpu")
    views = room.views(memory)
    assert memory.numel() == room.bytes
    for value, (name, view) in enumerate(views.items(), 1):
        shape, dtype = PARTS[name]
        assert (view.shape, view.dtype) == (shape, dtype)
        view.fill_(value)
    assert [view.unique().tolist() for view in views.values()] == [[1], [2], [3]]
    for name, address in room.addresses(memory):
        assert address == views[name].data_ptr()
        assert (address - memory.data_ptr()) % ALIGN == 0


def test_only_tensors_that_begin_at_16_bytes_are_addressable():
    memory = torch.zeros(64, dtype=torch.uint8)
    start = -memory.data_ptr() % 16
    assert addressable(memory[start:], None)
    assert not addressable(memory[start:], memory[start + 2 :])
