"""A pyvista mesh that is already open, as a car."""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets._frame import canonical
from bsaviz.datasets.car import Car
from bsaviz.datasets.meshes import _arrays, _compact, _with_pressure, known_pressure


def car_from_pyvista(mesh, *, name="mesh", field=None, frame="canonical", up=None, forward=None):
    """The points, triangles and point fields of a mesh, as `bsaviz.load_car` would read them from a file of it.

    Polygons are triangulated; of a volume mesh the surface is taken; points of no face are dropped where there are
    faces. No points are merged: indices of a surface whose points all belong to faces stay what they are.

    Parameters
    ----------
    mesh : pyvista.DataSet
    name : str
    field : str, optional
        Point field that is the pressure; otherwise one with a usual name of pressure, or the only floating one.
    frame, up, forward
        As in `bsaviz.load_car`.

    Returns
    -------
    Car

    Raises
    ------
    BsavizError
        For what is no mesh, an empty mesh, and a field that is not there.
    """
    if not hasattr(mesh, "points") or not hasattr(mesh, "point_data"):
        raise BsavizError(f"expected a pyvista mesh with points, got {type(mesh).__name__}")
    positions, faces, fields = _arrays(mesh.copy(deep=False))
    if not len(positions):
        raise BsavizError("the mesh is empty: it has no points")
    kept = {key: np.array(value) for key, value in fields.items() if value.ndim <= 2}
    car = _with_pressure(_compact(Car(name, np.array(positions), faces, kept, source="pyvista"), merge=False), field)
    is_pressure = field is not None or known_pressure(car.attrs.get("pressure_field", ""))
    return canonical(car, frame=frame, up=up, forward=forward, nose_by_pressure=is_pressure)
