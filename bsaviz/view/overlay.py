"""Text, legend and scalar bar in pixels of the window: text is shrunk until it fits, so that no label is cut."""

from bsaviz._checks import require
from bsaviz.view.branches import rgb

INK = (0.1, 0.1, 0.1)


class Overlay:
    """2D drawing on one renderer, with the origin at its lower left corner.

    Parameters
    ----------
    renderer : pyvista.Renderer
    size : (int, int)
        Width and height of the renderer in pixels.
    """

    def __init__(self, renderer, size):
        self.renderer, (self.width, self.height) = renderer, size
        self.vtk = require("vtk", "view")
        self.actors = []
        self.boxes = []  # (text, x0, y0, x1, y1) of every text: what a test holds against the window

    def clear(self):
        for actor in self.actors:
            self.renderer.RemoveViewProp(actor)
        self.actors.clear()
        self.boxes.clear()

    def text(self, text, x, y, size, *, align="left", bold=False, max_width=None, colour=INK):
        """Write one line with its vertical middle at `y`; returns its width."""
        prop = self.vtk.vtkTextProperty()
        prop.SetFontFamilyToArial()
        prop.SetBold(bold)
        prop.SetColor(*colour)
        room = max_width or self.width
        while size > 5 and self._measure(prop, text, size)[0] > room:
            size -= 1
        width, height = self._measure(prop, text, max(int(size), 5))
        left = x - {"left": 0, "center": width / 2, "right": width}[align]
        prop.SetVerticalJustificationToCentered()
        actor = self.vtk.vtkTextActor()
        actor.SetTextProperty(prop)
        actor.SetInput(text)
        self._place(actor, left, y)
        self.boxes.append((text, left, y - height / 2, left + width, y + height / 2))
        return width

    def disc(self, x, y, radius, colour, sides=48):
        """A filled disc."""
        shape = self.vtk.vtkRegularPolygonSource()
        shape.SetNumberOfSides(sides)
        shape.SetRadius(radius)
        shape.Update()
        return self._shape(shape.GetOutput(), x, y, colour)

    def marker(self, world, radius, colour):
        """A disc with a white and a dark ring, held at the point `world` of the scene and never hidden."""
        for scale, c in ((1.5, "#222222"), (1.32, "#FFFFFF"), (1.0, colour)):
            actor = self.disc(0, 0, radius * scale, c)
            actor.GetPositionCoordinate().SetCoordinateSystemToWorld()
            actor.GetPositionCoordinate().SetValue(*map(float, world))

    def ramp(self, x, y, width, height, colours):
        """A horizontal strip of the (256, 3) uint8 `colours`."""
        pv = require("pyvista", "view")
        grid = pv.ImageData(dimensions=(257, 2, 1), spacing=(width / 256, height, 1)).extract_surface(algorithm=None)
        grid.cell_data.clear()
        grid.point_data.clear()
        grid.cell_data["colour"] = colours
        grid.set_active_scalars("colour", preference="cell")
        self._shape(grid, x, y, None)

    def _shape(self, data, x, y, colour):
        mapper = self.vtk.vtkPolyDataMapper2D()
        mapper.SetInputData(data)
        actor = self.vtk.vtkActor2D()
        actor.SetMapper(mapper)
        if colour is not None:
            actor.GetProperty().SetColor(*(rgb(colour) / 255))
        self._place(actor, x, y)
        return actor

    def _place(self, actor, x, y):
        actor.GetPositionCoordinate().SetCoordinateSystemToViewport()
        actor.GetPositionCoordinate().SetValue(float(x), float(y))
        self.renderer.AddViewProp(actor)
        self.actors.append(actor)

    def _measure(self, prop, text, size):
        prop.SetFontSize(int(size))
        box = [0, 0, 0, 0]
        self.vtk.vtkTextRenderer.GetInstance().GetBoundingBox(prop, text, box, 72)
        return box[1] - box[0] + 1, box[3] - box[2] + 1


def draw_strip(overlay, picture, size):
    """Legend, scalar bar and footer below the panels, with text of about `size` pixels."""
    width, height = overlay.width, overlay.height
    pad, upper, lower = 0.6 * size, 0.6 * height, 0.17 * height
    room = width - 2 * pad
    overlay.text(picture.footer, width / 2, lower, 0.8 * size, align="center", max_width=room, colour=(0.35,) * 3)
    half = width / 2 if picture.legend and picture.bar else width
    if picture.legend:
        draw_legend(overlay, picture.legend, half, upper, size)
    if picture.bar:
        bar_width = min(half - 2 * pad, 0.42 * width)
        draw_bar(overlay, picture.bar, width - half + (half - bar_width) / 2, upper, bar_width, size)


def draw_legend(overlay, legend, room, y, size):
    """A row of discs and names, centred in the first `room` pixels; smaller if it would not fit."""
    size = min(size, room / (0.62 * sum(len(name) + 3.4 for name, _ in legend)))
    widths = [overlay.text(name, 0, y, size) for name, _ in legend]
    gap, radius = 1.3 * size, 0.38 * size
    for actor in overlay.actors[-len(legend) :]:
        overlay.renderer.RemoveViewProp(actor)  # measured only
    del overlay.actors[-len(legend) :], overlay.boxes[-len(legend) :]
    x = (room - sum(widths) - len(legend) * 3 * radius - (len(legend) - 1) * gap) / 2
    for (name, colour), width in zip(legend, widths):
        overlay.disc(x + radius, y, radius, colour)
        overlay.text(name, x + 3 * radius, y, size)
        x += 3 * radius + width + gap


def draw_bar(overlay, bar, x, y, width, size):
    """Ramps above each other, tick texts below, the label above."""
    small, thick = 0.72 * size, (0.55 if len(bar.ramps) == 1 else 0.9) * size
    each = thick / len(bar.ramps)
    for i, colours in enumerate(reversed(bar.ramps)):
        overlay.ramp(x, y - thick / 2 + i * each, width, each, colours)
    overlay.text(bar.label, x + width / 2, y + thick / 2 + 0.75 * small, small, align="center", max_width=1.1 * width)
    for share, text in bar.ticks:
        overlay.text(text, x + share * width, y - thick / 2 - 0.7 * small, small, align="center")
