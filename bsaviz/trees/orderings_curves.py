"""Space-filling curves: the place of a point along a Morton (z-order) or Hilbert curve, as one integer.

Points are put on a cubic grid over their sample's bounding box. Both curves, and their transposed variants with the
first two axes swapped, are those by which Point Transformer V3 (arXiv 2312.10035, section 4.1) serialises a cloud.
"""

import torch

BITS = {2: 30, 3: 20}  # of each axis: the code of a point fits 60 bits


def grid_cells(positions, samples, num_samples, bits):
    """Cells (P, D) int64 of a grid with 2**bits cells along the longest side of each sample's bounding box.

    Parameters
    ----------
    positions : (P, D)
    samples : (P,) int64
        Sample of each point.
    num_samples, bits : int
    """
    points = positions.detach().double()
    index = samples[:, None].expand_as(points)
    empty = points.new_zeros(num_samples, points.shape[1])
    low = empty.scatter_reduce(0, index, points, "amin", include_self=False)
    high = empty.scatter_reduce(0, index, points, "amax", include_self=False)
    side = (high - low).amax(dim=1)
    side = torch.where(side > 0, side, torch.ones_like(side))
    cells = ((points - low[samples]) / side[samples, None] * 2**bits).long()
    return cells.clamp_(0, 2**bits - 1)


def morton_code(cells, bits):
    """Place of each cell (P, D) along the Morton curve, (P,) int64: the bits of its coordinates, interleaved.

    Of the bits of one level the first axis gives the highest.
    """
    code = torch.zeros_like(cells[:, 0])
    for bit in reversed(range(bits)):
        for axis in range(cells.shape[1]):
            code = (code << 1) | ((cells[:, axis] >> bit) & 1)
    return code


def hilbert_code(cells, bits):
    """Place of each cell (P, D) along the Hilbert curve, (P,) int64; cells that follow each other share a face.

    By the transform of J. Skilling, "Programming the Hilbert curve", AIP Conference Proceedings 707 (2004): from the
    highest bit down, each axis turns or mirrors what lies below, and the result is read as a Gray code.
    """
    axes = list(cells.unbind(1))
    for bit in reversed(range(1, bits)):
        below = (1 << bit) - 1
        for axis in range(len(axes)):
            mirrored = (axes[axis] >> bit) & 1 == 1
            # a set bit mirrors the first axis below it, a clear one swaps the first axis with this one
            swapped = torch.where(mirrored, 0, (axes[0] ^ axes[axis]) & below)
            axes[0] = axes[0] ^ swapped ^ torch.where(mirrored, below, 0)
            if axis:
                axes[axis] = axes[axis] ^ swapped
    for axis in range(1, len(axes)):
        axes[axis] = axes[axis] ^ axes[axis - 1]
    flips = torch.zeros_like(axes[0])
    for bit in reversed(range(1, bits)):
        flips = flips ^ torch.where((axes[-1] >> bit) & 1 == 1, (1 << bit) - 1, 0)
    return morton_code(torch.stack([axis ^ flips for axis in axes], dim=1), bits)


CODES = {"morton": morton_code, "hilbert": hilbert_code}


def along_curve(name, positions, samples, num_samples, transposed=False):
    """Points sample by sample in the order of a curve, (P,) int64; equal cells keep their order.

    Parameters
    ----------
    name : {"morton", "hilbert"}
    positions : (P, D)
    samples : (P,) int64
    num_samples : int
    transposed : bool
        The curve with the first two axes swapped.
    """
    dim = positions.shape[1]
    cells = grid_cells(positions, samples, num_samples, BITS[dim])
    if transposed:
        cells = cells[:, [1, 0, *range(2, dim)]]
    order = CODES[name](cells, BITS[dim]).sort(stable=True).indices
    return order[samples[order].sort(stable=True).indices]
