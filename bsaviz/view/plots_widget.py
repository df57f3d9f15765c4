"""A plotly figure in a notebook, redrawn in place and clicked, with plotly's library sent along: no network.

plotly's own FigureWidget stays empty where the page has its script at hand before the kernel has sent the traces (seen
with plotly 7.1 and anywidget 0.11: of two in a notebook, the second). Here the whole figure is one value of the widget.
"""

from importlib.resources import files as package_files

import anywidget
import traitlets as t
from plotly.offline import get_plotlyjs


class PlotWidget(anywidget.AnyWidget):
    """A figure that tells of clicks.

    Parameters
    ----------
    figure : plotly.graph_objects.Figure
    clicked : callable
        Called with the first entry of the ``customdata`` of a clicked point that has any.
    """

    _esm = (package_files("bsaviz.view") / "web" / "plot.js").read_text("utf-8")
    library = t.Unicode().tag(sync=True)
    figure = t.Unicode().tag(sync=True)

    def __init__(self, figure, clicked):
        super().__init__(library=get_plotlyjs(), figure=figure.to_json())
        self._clicked = clicked
        self.on_msg(self._message)

    def draw(self, figure):
        """Show another figure; zoom and hidden series stay while its ``uirevision`` does."""
        self.figure = figure.to_json()

    def _message(self, _widget, content, _buffers):
        if "clicked" in content:
            self._clicked(content["clicked"])
