"""How much the plain backend holds at its height: a tile, not what grows with the number of queries."""

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bsa_kernels import eager


class Live(TorchDispatchMode):
    """Bytes of the tensors made while it is on, those that are alive at a time, at their height."""

    def __init__(self):
        super().__init__()
        self.bytes, self.height = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage()._cdata not in self.bytes:
                storage = tensor.untyped_storage()
                self.bytes[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.bytes.pop, storage._cdata, None)
        self.height = max(self.height, sum(self.bytes.values()))
        return result


@pytest.mark.parametrize("group_size", [1, 8])
def test_selected_attention_holds_one_tile(group_size, monkeypatch):
    tile = 1 << 20
    monkeypatch.setattr(eager, "tile_bytes", lambda device: tile)
    q, k, v, grad = torch.randn(4, 1, 4, 1024, 4)
    indices = torch.randint(32, (1, 4, 1024 // group_size, 16))
    with Live() as live:
        out, lse = eager.selected_attention(q, k, v, indices, None, 32, group_size)
        results = sum(live.bytes.values())
        assert live.height < results + 1.5 * tile
        live.height = 0
        eager.selected_attention_backward(grad, q, k, v, indices, None, out, lse, 32, group_size)
    inputs_again = 8 * q.nbytes  # the results, three gradients, keys and values row by row
    assert live.height < results + inputs_again + 1.5 * tile
    everything = 2 * indices.numel() * 32 * 4 * 4  # the gathered keys and values of all groups
    assert group_size > 1 or everything > 10 * tile
