import numpy as np
import pytest
from fields_cases import cloud, random_model

from bsaviz.datasets import Car


@pytest.fixture
def model():
    return random_model()


@pytest.fixture
def car():
    """A fan of triangles over 37 scattered points, with fields and attributes of every sort."""
    positions = cloud()
    faces = np.stack([np.zeros(35, int), np.arange(1, 36), np.arange(2, 37)], axis=1)
    return Car(
        "fan",
        positions,
        faces,
        fields={"pressure": positions[:, 0], "velocity": positions * 2},
        units={"pressure": "Pa", "positions": "m"},
        source="made up",
        attrs={"frame": "canonical", "seed": 3, "mirrored": False, "note": None, "size": (1, 2)},
    )
