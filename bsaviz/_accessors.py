"""``dataset.bsa``: pictures of receptive fields and of gates, as an xarray accessor.

The makers of such datasets import this file, which lies below them; the pictures lie above. They are therefore found by
name, and only when a picture is wanted: no graphics is loaded before.
"""

from importlib import import_module

import xarray as xr


@xr.register_dataset_accessor("bsa")
class BsaAccessor:
    """Pictures of a dataset made by `bsaviz.receptive_field` or `bsaviz.gates`.

    Every method takes these keywords to choose what is shown:

    query : int or str
        Receptive fields: a query point of the dataset, by its point index or its name. The first one by default.
    layer : int
        A layer of the dataset. The last one by default.
    head : int or None
        One head. None: all heads together, which means the union of what they read (structural) or the mean of their
        masses or gates.
    kind : str
        Receptive fields: one of `bsaviz.fields.KINDS`, such as ``"structural"`` (which points may be read) or
        ``"mass"`` (the attention mass that each gets). By default the first of these that the dataset holds.
    clim : (float, float)
        Gates: range of the colours. By default the range of the values shown; the bar says which.

    and `scene`, `show`, `screenshot`, `export_html` and `export_atlas` also

    camera : str or (float, float, float)
        A name of `bsaviz.view.CAMERAS`, a direction from the car to the eye, or ``"auto"``: the first of a fixed list
        of cameras from which the query point is not hidden.

    What cannot be drawn raises `bsaviz._checks.BsavizError`, which says what the dataset holds.

    Examples
    --------
    >>> rf = bsaviz.receptive_field(model, car, 1200)        # doctest: +SKIP
    >>> rf.bsa.screenshot("field.png", layer=2, kind="mass")  # doctest: +SKIP
    """

    def __init__(self, dataset):
        self._dataset = dataset

    def scene(self, *, camera="auto", window_size=None, **choice):
        """A pyvista plotter of the linked panels, off screen: render it, or add to it."""
        return _view().scene(self._dataset, camera=camera, window_size=window_size, **choice)

    def show(self, *, camera="auto", window_size=None, **choice):
        """Show the picture in the notebook, or in a window where there is a display."""
        return _view().show(self._dataset, camera=camera, window_size=window_size, **choice)

    def screenshot(self, path, *, camera="auto", window_size=None, **choice):
        """Write an image file (``.png``, ``.jpg``, ``.tif``, ``.webp``) of `window_size` pixels; returns its path."""
        return _view().screenshot(self._dataset, path, camera=camera, window_size=window_size, **choice)

    def export_html(self, path, *, camera="auto", **choice):
        """Write one HTML file that turns with the mouse, with switches for query, layer, head, kind and branch.

        It needs no kernel, no network and no other file. The choice made here is what it opens with.
        """
        return _view().export_html(self._dataset, path, camera=camera, **choice)

    def export_atlas(self, path, *, max_mb=15, camera="auto", progress=True, **choice):
        """Write all queries as one HTML file, each a ring on the car to click; see `bsaviz.view.export_atlas`."""
        return _view().export_atlas(self._dataset, path, max_mb=max_mb, camera=camera, progress=progress, **choice)

    def export_film(self, path, *, seconds=8.0, fps=25, turns=1.0, camera="auto", window_size=None, **choice):
        """Write a film (``.mp4``, ``.gif``) that goes round the car; see `bsaviz.view.export_film`."""
        return _view().export_film(
            self._dataset, path, seconds=seconds, fps=fps, turns=turns, camera=camera, window_size=window_size, **choice
        )

    def export_glb(self, path, **choice):
        """Write a glTF scene (``.glb``) with one named node a branch, for Blender or three.js; returns its path."""
        return _view().export_glb(self._dataset, path, **choice)

    def save_vtp(self, path, *, query=None, layer=None, head=None):
        """Write the surface with its fields as point arrays (``.vtp``) for ParaView; returns its path."""
        return _view().save_vtp(self._dataset, path, query=query, layer=layer, head=head)


def _view():
    return import_module("bsaviz.view")
