"""What an explorer looks at: a model and a car, given or by file name, and the packaged ones where nothing is given."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, load_car

PACKAGED_CAR = "generated:48"


def as_car(subject):
    """A `Car` of what was given.

    Parameters
    ----------
    subject : Car, str, Path, array (P, 2) or (P, 3), or None
        A name or file is loaded; an array is a cloud, a flat one in the plane z = 0; None is a packaged car.
    """
    if subject is None:
        return load_car(PACKAGED_CAR)
    if isinstance(subject, Car):
        return subject
    if isinstance(subject, str) or hasattr(subject, "__fspath__"):
        return load_car(subject)
    points = np.asarray(subject.detach().cpu() if hasattr(subject, "detach") else subject)
    if points.ndim != 2 or points.shape[1] not in (2, 3) or points.dtype.kind not in "fiu":
        raise BsavizError(
            f"expected a car, a file, or points of shape (P, 2) or (P, 3), got {type(subject).__name__} of shape "
            f"{points.shape}"
        )
    if points.shape[1] == 2:
        points = np.column_stack([points, np.zeros(len(points))])
    return Car("cloud", points)


def as_model(model):
    """A model of what was given: a model, a checkpoint's file name, or None for the packaged one."""
    from bsaviz.training import load_model, packaged_model  # later than `as_car`, which explorers of trees alone use

    if model is None:
        return packaged_model()
    return load_model(model) if isinstance(model, str) or hasattr(model, "__fspath__") else model
