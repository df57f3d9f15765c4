"""The sizes, the cloud and the weights that tests of attention modules share."""

import torch

N, DIM, HEADS = 64, 24, 3
SIZES = dict(ball_size=16, block_size=4, group_size=4, top_k=2)


def cloud_with_padding():
    """Tokens, positions and a mask of two samples, the second with an empty ball."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, N, DIM, generator=generator)
    positions = torch.randn(2, N, 3, generator=generator)
    mask = torch.rand(2, N, generator=generator) > 0.2
    mask[1, 48:] = False
    return x, positions, mask


def with_large_weights(make_module):
    """A module whose start is seeded and far from the small published one, which would hide mistakes."""
    torch.manual_seed(0)
    module = make_module()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() == 2:
                parameter.mul_(15)
    return module
