"""Ball trees, level by level: drag the sizes and the angle and watch the nodes move."""

import torch

from bsaviz import trees
from bsaviz.ui import controls
from bsaviz.ui.explorer import Explorer
from bsaviz.ui.orders import NAMES, TreeSettings, main_and_second
from bsaviz.ui.palette import DISTINCT, touching
from bsaviz.ui.subject import as_car
from bsaviz.ui.text import table

SMALLEST_LEVEL = 2
PAINTS = (
    ("node by node", "nodes"),
    ("radius of the node", "radius"),
    ("place in the leaf order", "order"),
    ("padding of the node", "padding"),
)
HEAD = ("", "nodes", "points in a node", "mean radius (car lengths)", "largest radius (car lengths)", "padding slots")
PICKED = "#D55E00"


class BallTreeExplorer(Explorer):
    """A cloud in the nodes of its ball tree, beside another order of the same points (Erwin, arXiv 2502.17019).

    Pick a point to see its node in both.

    Parameters
    ----------
    car : Car, file name, array (P, 2) or (P, 3), optional
        Default: a packaged car.
    ball_size, block_size : int
        What the sliders start at.
    backend : str
        See `bsaviz.view.live_scene`.

    Attributes
    ----------
    ball_size, block_size, level, angle, padding, paint, second : ipywidgets widgets
        The controls. `level` is the number of slots of the nodes that are drawn, `second` the order beside the tree.
    point : int or None
        The picked point.
    orders : pair of bsaviz.ui.orders.Order
        What is drawn.
    """

    title = "Ball tree"

    def __init__(self, car=None, *, ball_size=128, block_size=8, backend="auto"):
        from bsaviz.view import live_scene

        super().__init__()
        self.car = as_car(car)
        self.point, self.orders = None, None
        self._positions = torch.as_tensor(self.car.positions)
        self._pairs = touching(self.car.positions)
        ball_size = min(ball_size, 1 << (self.car.num_points.bit_length() - 1))
        self._make_controls(ball_size, min(block_size, ball_size))
        self.numbers = controls.html()
        self._set_scene(live_scene(2, titles=["Ball tree", ""], height=400, backend=backend))
        self.scene.set_surface(self.car.positions, self.car.faces)
        self.scene.on_pick(self._pick)
        self._arrange(
            controls.columns(
                [self.ball_size, self.block_size, self.level], [self.angle, self.second], [self.paint, self.padding]
            ),
            self._stage,
            self.numbers,
        )
        self._begin()

    def _make_controls(self, ball_size, block_size):
        largest = 1 << self.car.num_points.bit_length()
        sizes = controls.powers_of_two(SMALLEST_LEVEL, largest, ball_size)
        blocks = controls.powers_of_two(1, 256, block_size)
        self.ball_size = controls.choice_slider(
            "Ball size m (points)", sizes, ball_size, "Points of a ball: every point attends to all points of its ball"
        )
        self.block_size = controls.choice_slider(
            "Block size l (points)", blocks, block_size, "Points of a compression block; blocks nest in balls"
        )
        self.level = controls.choice_slider(
            "Level (slots of a node)", sizes, ball_size, "Which nodes are drawn: balls, blocks, or any level between"
        )
        self.angle = controls.number_slider(
            "Rotation angle (°)", 45.0, 0, 90, 5, "Odd layers use a tree of the turned cloud, so that borders move"
        )
        others = [(name, key) for key, name in NAMES.items() if key == "rotated" or key in trees.ORDERINGS]
        self.second = controls.menu("Beside it", others, "rotated", "Another order of the same points")
        self.paint = controls.menu("Colour by", PAINTS, "nodes", "What the colours show")
        self.padding = controls.menu(
            "Padding to", [("whole balls", "multiple"), ("a power of two (published)", "power_of_two")], "multiple",
            "Slots that hold no point of their own, spread evenly over the nodes",
        )  # fmt: skip
        for control in (self.block_size, self.level, self.angle, self.second, self.paint, self.padding):
            control.observe(self._refresh, "value")
        self.ball_size.observe(self._follow_ball, "value")

    def _follow_ball(self, change):
        """Balls stay the level that is drawn when their size changes."""
        with self._silently():
            if self.level.value == change["old"]:
                self.level.value = change["new"]
        self._refresh()

    def _pick(self, point, panel):
        self.point = int(point)
        self._refresh()

    def _wanted(self):
        settings = TreeSettings(
            self.ball_size.value, self.block_size.value, self.level.value, self.angle.value, self.padding.value
        )
        return settings, self.second.value, self.paint.value, self.point

    def _steps(self, wanted, ticket):
        settings, second, paint, point = wanted
        orders = main_and_second(self._positions, settings, second)
        colours = [order.colours(self._pairs) for order in orders] if paint == "nodes" else [None, None]
        yield orders, paint, colours, point

    def _show(self, result):
        self.orders, paint, colours, point = result
        with self.scene.batch():
            for panel, (order, classes) in enumerate(zip(self.orders, colours)):
                self.scene.set_title(f"{order.name}, nodes of {order.level:,}", panel=panel)
                if paint == "nodes":
                    self.scene.set_classes(classes, DISTINCT, panel=panel)
                else:
                    values, label, cmap, limits = _scalars(order, paint, self.orders)
                    self.scene.set_scalars(values, panel=panel, label=label, cmap=cmap, clim=limits)
                marked = order.repeated if paint == "padding" else order.members(point) if point is not None else []
                self.scene.highlight(marked, panel=panel, colour=PICKED, scale=1.3, on_top=False)
        self.numbers.value = table(HEAD, [(order.name, *order.numbers()) for order in self.orders])
        self._say(_described(self.orders, paint, point))


def _scalars(order, paint, orders):
    """Values, label, colour map and limits; the limits are the same in both panels."""
    if paint == "order":
        return order.place, "place in the leaf order (slot)", "viridis", (0, max(o.place.max() for o in orders) + 1)
    if paint == "radius":
        return order.radius, "radius (car lengths)", "viridis", (0, max(o.radius.max() for o in orders) or 1)
    return order.padding, "padding slots of the node (%)", "viridis", (0, max(o.padding.max() for o in orders) or 1)


def _described(orders, paint, point):
    if paint == "padding":
        marked = len(orders[0].repeated)
        return f"Marked: the {marked:,} points that padding slots repeat. Padding is never attended."
    if point is None:
        return ""
    held = (
        f"{o.name}: node {o.node[point]}, {len(o.members(point))} points, radius {o.radius[point]:.4f}" for o in orders
    )
    return f"Point {point}. " + "; ".join(held) + "."
