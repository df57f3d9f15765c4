"""The contract of a live 3D view: a surface in one or more panels, coloured from Python, turned and picked by hand."""

from abc import ABC, abstractmethod
from contextlib import contextmanager

from bsaviz._checks import BsavizError, require
from bsaviz.view.branches import QUERY_COLOUR, SURFACE_COLOUR
from bsaviz.view.live.state import (
    Panel,
    check_classes,
    check_colours,
    check_marks,
    check_scalars,
    check_surface,
    whole_number,
)
from bsaviz.view.live.view_point import check_view_point


class LiveScene(ABC):
    """A surface or cloud in panels side by side that share one camera; made by `bsaviz.view.live_scene`.

    Show it as the last line of a cell, or put `widget` into a layout. Setters return at once; what is drawn is always
    the newest state, and states in between may be skipped. A backend implements `widget`, `_update`,
    `_linked` and `_free`.

    Parameters
    ----------
    panels : int
        How many views of the surface, side by side.
    titles : list of str, optional
        One a panel.

    Raises
    ------
    BsavizError
        From every method: for input that does not fit, and once the scene is closed.
    """

    def __init__(self, panels=1, titles=None):
        if not whole_number(panels) or not 1 <= panels <= 12:
            raise BsavizError(f"panels must be a whole number from 1 to 12, got {panels!r}")
        titles = [""] * panels if titles is None else titles
        if isinstance(titles, str) or len(titles) != panels:
            raise BsavizError(f"titles must be a list of {panels} texts, one a panel, got {titles!r}")
        self._panels = [Panel(str(title)) for title in titles]
        self._surface = None
        self._view_point = check_view_point("auto", None)
        self._picked = require("ipywidgets", "notebooks").CallbackDispatcher()
        self._links = []
        self._depth, self._changed, self._closed = 0, set(), False

    # What a backend implements.

    @property
    @abstractmethod
    def widget(self):
        """ipywidgets widget to put into a layout; it may be shown several times."""

    @abstractmethod
    def _update(self, changed):
        """Show what changed: a set of ``"surface"``, ``"camera"``, ``("paint" | "marks" | "title", panel)``."""

    @abstractmethod
    def _free(self):
        """Release the view's resources, here and in the browser."""

    # What is shown.

    def set_surface(self, positions, faces=None, *, point_size=None):
        """Show another surface or cloud in all panels; paint and marks of the one before are removed.

        Parameters
        ----------
        positions : (P, 3) float
        faces : (F, 3) int, optional
            Triangles. Without them every point is drawn as a round dot.
        point_size : float, optional
            Diameter of a point in the unit of the positions; by default neighbours nearly touch.
        """
        self._check_open()
        self._surface = check_surface(positions, faces, point_size)
        for panel in self._panels:
            panel.paint, panel.marks = None, {}
        each = {(what, i) for what in ("paint", "marks") for i in range(len(self._panels))}
        self._send({"surface"} | each)

    def set_scalars(self, values, *, panel=0, cmap="viridis", clim=None, label="", nan_colour=SURFACE_COLOUR):
        """Colour a panel by one number a point; a bar below it shows the range.

        Parameters
        ----------
        values : (P,) float
            NaN is drawn in `nan_colour`.
        panel : int
        cmap : str
            Name of a matplotlib colour map.
        clim : (float, float), optional
            Range of the colours; by default that of the finite values.
        label : str
            Text of the bar.
        nan_colour : str
            ``"#rrggbb"``.
        """
        points = self._points()
        paint = check_scalars(values, points, cmap=cmap, clim=clim, label=label, nan_colour=nan_colour)
        self._panels[self._check_panel(panel)].paint = paint
        self._send({("paint", panel)})

    def set_colours(self, rgb, *, panel=0, legend=None):
        """Give every point of a panel a colour.

        Parameters
        ----------
        rgb : (P, 3) uint8
        panel : int
        legend : dict of str to str, optional
            What the colours mean, e.g. ``{"ball": "#0072B2"}``; shown below the panel.
        """
        paint = check_colours(rgb, self._points(), legend)
        self._panels[self._check_panel(panel)].paint = paint
        self._send({("paint", panel)})

    def set_classes(self, classes, palette, *, panel=0, legend=None):
        """Give every point of a panel one of a few colours; sends a third of what `set_colours` does, and less for two.

        Parameters
        ----------
        classes : (P,) bool or int
            Row of the palette of each point; False is the first row, True the second.
        palette : list of str
            At most 256 colours ``"#rrggbb"``.
        panel : int
        legend : dict of str to str, optional
            As in `set_colours`.
        """
        paint = check_classes(classes, self._points(), palette, legend)
        self._panels[self._check_panel(panel)].paint = paint
        self._send({("paint", panel)})

    def highlight(self, points, *, panel=None, colour=QUERY_COLOUR, scale=2.0, on_top=True):
        """Mark points with larger dots. They replace the earlier marks of that colour; no points remove them.

        Parameters
        ----------
        points : (k,) int
            Indices of points.
        panel : int, optional
            One panel; by default all.
        colour : str
            ``"#rrggbb"``.
        scale : float
            Size of a mark: times that of a point, or, on top, times that of a small ring on the screen.
        on_top : bool
            True: a ringed disc that the surface never hides, for a few points. False: a round dot on the surface, for
            any number of points.
        """
        marks = check_marks(points, self._points(), colour, scale, on_top)
        where = range(len(self._panels)) if panel is None else [self._check_panel(panel)]
        for i in where:
            self._panels[i].marks.pop(marks.colour, None)  # the newest marks are drawn last
            if len(marks.points):
                self._panels[i].marks[marks.colour] = marks
        self._send({("marks", i) for i in where})

    def set_title(self, text, *, panel=0):
        """Text above a panel."""
        self._check_open()
        self._panels[self._check_panel(panel)].title = str(text)
        self._send({("title", panel)})

    @contextmanager
    def batch(self):
        """Send all that is set inside the block as one message."""
        self._check_open()
        self._depth += 1
        try:
            yield self
        finally:
            self._depth -= 1
            if self._depth == 0 and not self._closed:
                changed, self._changed = self._changed, set()
                self._update(changed)

    # The camera.

    @property
    def camera(self):
        """Where all panels are looked at from, as a dict of ``direction`` (from the object to the eye), ``target`` and
        ``distance``, both None until someone moves or zooms. It follows the mouse. Set it to a name of
        `bsaviz.view.CAMERAS`, ``"auto"``, a direction or such a dict."""
        return self._view_point.to_dict()

    @camera.setter
    def camera(self, camera):
        self._check_open()
        view_point = check_view_point(camera, self._surface)
        for scene in self._together():
            scene._view_point = view_point
            scene._send({"camera"})

    def link(self, other):
        """Turn together with another scene, which takes this one's camera. Returns a callable that unlinks."""
        self._check_open()
        if not isinstance(other, LiveScene) or other is self:
            raise BsavizError(f"a scene is linked to another live scene, got {other!r}")
        other._check_open()
        self._links.append(other)
        other._links.append(self)
        self._linked()
        self.camera = self.camera

        def unlink():
            if other in self._links:
                self._links.remove(other)
                other._links.remove(self)
                self._linked()
                other._linked()

        return unlink

    def _together(self):
        """This scene and all that turn with it."""
        found = [self]
        for scene in found:
            found += [other for other in scene._links if other not in found]
        return found

    @abstractmethod
    def _linked(self):
        """The scenes that turn with this one (`_together`) are others than before."""

    # Picking.

    def on_pick(self, callback):
        """Call ``callback(point, panel)`` with the point nearest to a click on the surface. Returns a callable that
        removes it. An error in a callback is reported and the view goes on."""
        self._check_open()
        self._picked.register_callback(callback)
        return lambda: self._picked.register_callback(callback, remove=True)

    def _pick(self, point, panel):
        if self._surface is not None and 0 <= point < len(self._surface.positions) and 0 <= panel < len(self._panels):
            self._picked(point, panel)

    # Stills and the end.

    def snapshot(self, path=None, size=None):
        """Picture of the present state at the same camera, drawn by pyvista; needs no browser and no display.

        Parameters
        ----------
        path : str or Path, optional
            PNG file to write.
        size : (int, int), optional
            Width and height in pixels; by default 620 x 560 a panel.

        Returns
        -------
        bytes
            The PNG.
        """
        from bsaviz.view.files import write
        from bsaviz.view.live.still import draw

        self._points()
        if path is None:
            return draw(self._surface, self._panels, self._view_point, size)
        return write(path, (".png",), lambda: draw(self._surface, self._panels, self._view_point, size)).read_bytes()

    def close(self):
        """Remove the view from the browser and free what it holds. A closed scene cannot be used again."""
        if self._closed:
            return
        for other in list(self._links):
            other._links.remove(self)
            other._linked()
        self._links.clear()
        self._picked.callbacks.clear()
        self._closed = True
        self._free()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _ipython_display_(self):
        require("IPython.display", "notebooks").display(self.widget)

    # Shared checks.

    def _send(self, changed):
        if self._depth:
            self._changed |= changed
        else:
            self._update(changed)

    def _check_open(self):
        if self._closed:
            raise BsavizError("this scene is closed; make another one with bsaviz.view.live_scene()")

    def _points(self):
        self._check_open()
        if self._surface is None:
            raise BsavizError("this scene has no surface yet; call set_surface(positions, faces) first")
        return len(self._surface.positions)

    def _check_panel(self, panel):
        if not whole_number(panel) or not 0 <= panel < len(self._panels):
            last = len(self._panels) - 1
            raise BsavizError(f"panel must be a whole number from 0 to {last}, as this scene has, got {panel!r}")
        return panel
