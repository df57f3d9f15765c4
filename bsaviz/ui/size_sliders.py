"""Sliders of the sizes that a trained model's attention reads with: ball, block, group and top-k."""

from bsaviz.ui import controls

LARGEST_K = 64


def size_slider(setting, points, value=None):
    """The slider of a `Setting` of a model on so many points; disabled, saying why, where the weights fix it.

    It starts at `value`, by default that of the setting.
    """
    slider = _SLIDERS[setting.name](setting.value, setting.value if value is None else value, points)
    if setting.fixed:
        slider.disabled, slider.tooltip = True, f"Fixed: {setting.fixed}"
    return slider


def _powers(label, low, high, tooltip):
    def slider(own, value, points):
        values = controls.powers_of_two(low, high or 1 << points.bit_length(), own, value)
        return controls.choice_slider(label, values, value, tooltip)

    return slider


def _top_k(own, value, points):
    most = max(own, value, LARGEST_K)
    return controls.whole_slider(
        "Top-k k* (blocks)", value, 1, most, "Blocks that a group selects, outside its own ball"
    )


_SLIDERS = {
    "ball_size": _powers("Ball size m (points)", 8, None, "Points of a ball: a query reads all points of its own ball"),
    "block_size": _powers("Block size l (points)", 2, 256, "Points pooled into one key of the compression branch"),
    "group_size": _powers("Group size g (queries)", 1, 256, "Queries that select their blocks together"),
    "top_k": _top_k,
}
