"""Small models and shapes that the tests of the explorers share, and what a live scene tells the browser."""

import numpy as np
import torch

from bsaviz.datasets import Car
from bsaviz.models import build

SIZES = dict(dim=16, depth=3, num_heads=2, ball_size=32, block_size=4, group_size=4, top_k=2, fourier_features=8)


def tiny_model(name="bsa", seed=0, **overrides):
    """A small model whose parameters are all drawn at random, so that no gate is special."""
    generator = torch.Generator().manual_seed(seed)
    model = build(name, "tiny", **{**SIZES, **overrides})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def tiny_car(points=200, seed=0):
    """A cloud on an ellipsoid, longer than it is wide."""
    x = np.random.default_rng(seed).normal(size=(points, 3))
    return Car("ellipsoid", x / np.linalg.norm(x, axis=1, keepdims=True) * (2.0, 0.9, 0.7))


def tints(scene, panel=0):
    """(P, 3) uint8: the colours a panel was given; None where it is painted by a number."""
    paint = getattr(scene.widget, f"paint_{panel}")
    if "palette" not in paint:
        return np.frombuffer(paint["tints"], np.uint8).reshape(-1, 3) if "tints" in paint else None
    rows = np.frombuffer(paint.get("classes", b""), np.uint8)
    if "bits" in paint:
        points = len(scene.widget.surface["positions"]) // 12
        rows = np.unpackbits(np.frombuffer(paint["bits"], np.uint8))[:points]
    return np.frombuffer(paint["palette"], np.uint8).reshape(-1, 3)[rows]


def bar(scene, panel=0):
    """Label and range of a panel's bar."""
    told = getattr(scene.widget, f"paint_{panel}")["bar"]
    return told["label"], told["low"], told["high"]


def marks(scene, panel=0):
    """Marked points of a panel by colour."""
    return {m["colour"]: np.frombuffer(m["points"], "<u4").tolist() for m in getattr(scene.widget, f"marks_{panel}")}


def titles(scene, panels):
    return [getattr(scene.widget, f"title_{panel}") for panel in range(panels)]
