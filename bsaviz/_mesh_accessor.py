"""``mesh.bsa``: receptive fields, gates and ball trees of any pyvista mesh, as an accessor (pyvista >= 0.48).

pyvista finds this module by the entry point ``pyvista.accessors`` of the installed package, and imports it when
``mesh.bsa`` is first asked for: neither ``import pyvista`` nor ``import bsaviz`` grows. Like ``dataset.bsa`` it lies
below what it calls, and finds that by name.
"""

from importlib import import_module

import pyvista


@pyvista.register_dataset_accessor("bsa", pyvista.DataSet)
class MeshAccessor:
    """What models look at on this mesh.

    Points go by their index in ``mesh.bsa.car()``: those of the mesh, unless it has points that belong to no face, or
    is a volume of which the surface is taken.

    Examples
    --------
    >>> mesh = pyvista.read("my_car.stl")                                    # doctest: +SKIP
    >>> mesh.bsa.receptive_field(model, "bonnet").bsa.screenshot("rf.png")    # doctest: +SKIP
    """

    def __init__(self, mesh):
        self._mesh = mesh

    def car(self, *, name="mesh", field=None, frame="canonical", up=None, forward=None):
        """The mesh as a `bsaviz.Car`, in the canonical frame; see `bsaviz.datasets.from_pyvista.car_from_pyvista`."""
        make = import_module("bsaviz.datasets.from_pyvista").car_from_pyvista
        return make(self._mesh, name=name, field=field, frame=frame, up=up, forward=forward)

    def receptive_field(self, model, query, *, car=None, **choice):
        """`bsaviz.receptive_field` on this mesh.

        Parameters
        ----------
        model, query, **choice
            As there.
        car : dict, optional
            Arguments of `car`, e.g. ``dict(up="y")``.
        """
        return import_module("bsaviz.fields").receptive_field(model, self.car(**(car or {})), query, **choice)

    def gates(self, model, *, car=None, **choice):
        """`bsaviz.gates` on this mesh; `car` as in `receptive_field`."""
        return import_module("bsaviz.fields").gates(model, self.car(**(car or {})), **choice)

    def ball_tree(self, *, ball_size=256, block_size=8, car=None, **options):
        """`bsaviz.BallTree.build` on the points of this mesh; `car` as in `receptive_field`."""
        positions = import_module("torch").from_numpy(self.car(**(car or {})).positions)
        tree = import_module("bsaviz.trees").BallTree
        return tree.build(positions, ball_size=ball_size, block_size=block_size, **options)
