"""A plain picture of a car with one of its fields painted on it."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.view.files import write_still
from bsaviz.view.panels import Picture, painted_panel
from bsaviz.view.reading import GATE_COLOURS, value_bar

BOTH_SIGNS = "coolwarm"  # blue and red on either side of a pale zero


def car_picture(car, field="pressure", *, clim=None):
    """`Picture` of a `bsaviz.Car` painted with one of its fields; arguments as for `car_figure`."""
    if field not in car.fields:
        raise BsavizError(f"car {car.name!r} has no field {field!r}; it has {', '.join(car.fields) or 'none'}")
    values = np.asarray(car.fields[field], float)
    if values.ndim != 1:
        raise BsavizError(f"field {field!r} has shape {values.shape}; a picture paints one number a point")
    unit = car.units.get(field)
    name = f"{field} ({unit})" if unit else field
    low, high = np.percentile(values, [1, 99]) if clim is None else clim
    both = low < 0 < high
    if both and clim is None:
        low, high = -max(-low, high), max(-low, high)
    bar = value_bar(values, name, (float(f"{low:.3g}"), float(f"{high:.3g}")), BOTH_SIGNS if both else GATE_COLOURS)
    caption = f"from {values.min():.4g} to {values.max():.4g}" + (f" {unit}" if unit else "")
    positions, faces = np.asarray(car.positions, np.float32), car.faces
    panel = painted_panel(car.name, caption, bar.levels(values), positions, faces, bar)
    return Picture(positions, faces, (panel,), f"{len(positions):,} points", bar)


def car_figure(car, path, field="pressure", *, camera="front-left", window_size=(1000, 640), clim=None):
    """Write a picture of a car with a field painted on it.

    Parameters
    ----------
    car : bsaviz.Car
    path : str or Path
        Image file to write, e.g. ending in ``.png``.
    field : str
        Name of a field with one number a point.
    camera : str or (float, float, float)
        See `bsaviz.view.CAMERAS`.
    window_size : (int, int)
        Pixels.
    clim : (float, float), optional
        Range of the colours; by default the 1st to the 99th percentile, made symmetric about zero where the field takes
        both signs. The bar tells it.

    Returns
    -------
    pathlib.Path
    """
    return write_still(car_picture(car, field, clim=clim), path, camera=camera, window_size=window_size)
