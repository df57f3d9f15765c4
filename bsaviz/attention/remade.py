"""Tensors that are made again in the backward pass instead of being kept for it."""

import torch


def made_again(make, tensors):
    """A context in which autograd does not keep these tensors, wherever they are saved.

    They still have their gradients, of any order. What `make` needs has to outlive them; a layer's input does, since
    the layer's own gradient needs it.

    Parameters
    ----------
    make : callable
        Gives the tensors again, with the same values, in the same order. Called once for all that one operator saved.
    tensors : sequence of Tensor
    """
    places = {x.data_ptr(): (i, x.shape, x.dtype) for i, x in enumerate(tensors)}
    saved, taken, made = [], [], {}

    def pack(x):
        i, *kind = places.get(x.data_ptr(), (None,))
        if i is None or kind != [x.shape, x.dtype] or not x.is_contiguous():
            return x
        saved.append(i)
        return i

    def unpack(kept):
        if isinstance(kept, torch.Tensor):
            return kept
        if not made:
            with torch.no_grad():
                made.update(enumerate(make()))
        x = made[kept]
        taken.append(kept)
        if len(taken) == len(saved):
            taken.clear()
            made.clear()
        return x

    return torch.autograd.graph.saved_tensors_hooks(pack, unpack)
