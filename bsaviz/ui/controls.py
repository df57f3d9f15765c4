"""Sliders and menus with whole labels, units and tooltips, that send every step of a drag."""

from bsaviz._checks import require

LABEL, WIDTH = "148px", "97%"  # of a control in its column
NARROW, BROAD = 318, 440  # pixels of a column: three fit a notebook of the usual width, and they grow with it


def powers_of_two(low, high, *also):
    """Sorted powers of two from `low` to `high`, with the numbers `also` among them."""
    powers = {1 << i for i in range(high.bit_length()) if low <= 1 << i <= high}
    return sorted(powers | set(also))


def choice_slider(label, options, value, tooltip):
    """A slider over a list of values; `options` are values or (text, value) pairs."""
    return _make("SelectionSlider", label, tooltip, options=options, value=value, continuous_update=True)


def whole_slider(label, value, low, high, tooltip):
    """A slider over whole numbers from `low` to `high`."""
    return _make("IntSlider", label, tooltip, value=value, min=low, max=high, continuous_update=True)


def number_slider(label, value, low, high, step, tooltip):
    """A slider over numbers from `low` to `high`."""
    return _make("FloatSlider", label, tooltip, value=value, min=low, max=high, step=step, continuous_update=True)


def menu(label, options, value, tooltip):
    """A drop-down menu; `options` are values or (text, value) pairs."""
    return _make("Dropdown", label, tooltip, options=options, value=value)


def html():
    """An empty place for HTML."""
    return require("ipywidgets", "notebooks").HTML()


def columns(*groups):
    """Groups of controls side by side, which wrap in a narrow cell."""
    widgets = require("ipywidgets", "notebooks")
    place = {"margin": "0", "flex": f"1 1 {NARROW}px", "max_width": f"{BROAD}px"}
    boxes = [widgets.VBox(group, layout=widgets.Layout(**place)) for group in groups]
    return widgets.HBox(boxes, layout=widgets.Layout(flex_flow="row wrap", width="100%"))


def _make(kind, label, tooltip, **options):
    widgets = require("ipywidgets", "notebooks")
    return getattr(widgets, kind)(
        description=label,
        tooltip=tooltip,
        style={"description_width": LABEL},
        layout=widgets.Layout(width=WIDTH),
        **options,
    )
