"""What all explorers share: a layout, one scheduler, a place for problems, and a scene that can be swapped."""

from contextlib import contextmanager

from bsaviz._checks import BsavizError, require
from bsaviz.ui import text
from bsaviz.ui.latest import Latest

PAUSE = 0.15  # seconds of rest after which numbers follow a picture: text that changes at every step slows a drag


class Explorer:
    """Base of the explorers: controls above a live 3D scene, with numbers and messages below.

    A subclass makes its controls, calls `_arrange`, and defines

    - ``_wanted()``: the values of the controls, as any object that later changes of the controls leave alone;
    - ``_steps(wanted, ticket)``: a generator of results, computed off the event loop; it touches no widget. The very
      first one is waited for when the explorer is made: it should not need a run of the model;
    - ``_show(result)``: puts a result into the scene and the widgets.

    A control calls `_refresh` when it changes. An error in any of them is shown in `message`, and the explorer goes on.

    Attributes
    ----------
    widget : ipywidgets.VBox
        The whole explorer; it shows itself as the last line of a cell.
    scene : bsaviz.view.LiveScene or None
        The 3D view.
    message : ipywidgets.HTML
        Problems and hints, in place.
    """

    title = ""

    def __init__(self):
        widgets = require("ipywidgets", "notebooks")
        self.scene = None
        self._problem = None
        self.message = widgets.HTML()
        self._busy = widgets.HTML()
        self._stage = widgets.VBox()
        self.widget = widgets.VBox()
        self._silent = 0
        self._latest = Latest(self._steps, self._showing, self._fail, self._mark_busy)
        self._mark_busy(False)

    def wait(self):
        """Show the picture of the controls as they are now before going on; for scripts, tests and later cells."""
        self._latest.wait()

    @property
    def working(self):
        """Whether the picture of the controls as they are now is still to come."""
        return self._latest.working

    def close(self):
        """Let go of the scene and the widgets."""
        self._latest.close()
        if self.scene is not None:
            self.scene.close()
        self.widget.close()

    def _repr_mimebundle_(self, **options):
        return self.widget._repr_mimebundle_(**options)

    def _arrange(self, *rows):
        """Fill the widget: the heading, these rows (`self._stage` among them, where the scene goes), the message."""
        widgets = require("ipywidgets", "notebooks")
        heading = widgets.HBox([widgets.HTML(text.STYLE + text.heading(self.title)), self._busy])
        self.widget.children = (heading, *rows, self.message)
        self.widget.layout.width = "100%"

    def _set_scene(self, scene):
        """Put a scene on the stage; the one that was there is closed, and its camera handed on."""
        if self.scene is not None:
            scene.camera = self.scene.camera
            self.scene.close()
        self.scene = scene
        self._stage.children = (scene.widget,)

    def _begin(self):
        """Show the first picture; a problem with it is the caller's, who gave what cannot be shown."""
        self._latest.begin(self._wanted())
        if self._problem is not None:
            problem = self._problem
            self.close()
            raise problem

    def _refresh(self, change=None):
        """Ask for the picture of the controls as they are now; may be given to ``observe``."""
        if not self._silent:
            self._latest.request(self._wanted())

    @property
    def problem(self):
        """The exception behind what `message` shows, or None: its traceback tells the cause."""
        return self._problem

    @contextmanager
    def _silently(self):
        """Change controls without asking for a picture each time."""
        self._silent += 1
        try:
            yield
        finally:
            self._silent -= 1

    # What an explorer is made of: each of them defines these three, see above.

    def _wanted(self):
        raise NotImplementedError

    def _steps(self, wanted, ticket):
        raise NotImplementedError

    def _show(self, result):
        raise NotImplementedError

    def _showing(self, result):
        self._problem = None
        self._show(result)

    def _fail(self, error):
        self._problem = error
        words = str(error) if isinstance(error, BsavizError) else f"{type(error).__name__}: {error}"
        stays = self.scene is not None and self._latest.shown is not None
        self._warn(words + (". The picture stays as it was." if stays else ""))

    def _say(self, words=""):
        """Put a hint where problems are shown; nothing clears it."""
        self.message.value = text.note(words) if words else ""

    def _warn(self, words):
        """Put a warning there."""
        self.message.value = text.problem(words)

    def _mark_busy(self, is_busy):
        self._busy.value = text.BUSY if is_busy else ""
