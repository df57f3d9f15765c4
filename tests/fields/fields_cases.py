"""Small random models and clouds that the tests of fields share."""

import numpy as np
import torch

from bsaviz.models import build

SMALL = dict(dim=16, depth=2, num_heads=2, ball_size=16, block_size=4, group_size=4, top_k=2, fourier_features=8)

ERWIN = dict(
    dims=(8, 16), ball_sizes=(8, 4), strides=(2,), enc_depths=(2, 2), enc_num_heads=(2, 4), dec_depths=(2,),
    dec_num_heads=(2,), mp_steps=1, neighbours=3, fourier_features=8,
)  # fmt: skip


def random_model(name="bsa", seed=0, scale=0.4, **overrides):
    """A small model with every parameter drawn at random, so that no gate or coarse query is special."""
    generator = torch.Generator().manual_seed(seed)
    small = ERWIN if name == "erwin" else SMALL
    model = build(name, "tiny", **{**small, **overrides})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def cloud(points=37, dims=3, seed=0):
    return np.random.default_rng(seed).normal(size=(points, dims)).astype(np.float32)
