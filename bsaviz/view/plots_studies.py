"""Figures of stored studies and of own sweeps for notebooks and papers: medians with spread, units, black and white.

All are matplotlib figures; ``figure.savefig("figure.pdf")`` keeps one.
"""

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.view.plots_marks import GRID, INK, PALE, marks
from bsaviz.view.plots_trials import applies, name_of, trials_of, value_text

_ROW = 0.34  # inches of a row of dots
_CELL = 0.95  # inches of a cell of a table
_ASIDE = 0.035  # share by which lines of a plot stand beside each other, so that no bar hides another
_WORDS = {"top_k": "top-k (blocks)", "depth": "depth (layers)", "dim": "width (channels)"}


def dot_plot(study, quantities=("relative_l2",), *, order=None, reference=None, title=None):
    """Every setting of a study in a row of its own: the seeds as faint dots, their median, and bars from low to high.

    Parameters
    ----------
    study
        As in `bsaviz.view.plots_trials.trials_of`.
    quantities : sequence of str
        One panel each, side by side; costs have a logarithmic axis.
    order : str, optional
        Quantity that rows are sorted by; default: the order of the study.
    reference : str, optional
        Label of a setting whose medians are drawn as dashed lines through all rows.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    plt = require("matplotlib.pyplot", "view")
    trials, quantities = trials_of(study), [quantities] if isinstance(quantities, str) else list(quantities)
    _known(trials, [*quantities, *([order] if order else [])])
    table = trials.summary(*quantities, complete=False)
    table = table.sort_values(order) if order else table
    look = marks(table["model"] if "model" in table else [""] * len(table))
    figure, panels = plt.subplots(
        1, len(quantities), figsize=(2.6 + 3.1 * len(quantities), 1.1 + _ROW * len(table)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    rows = range(len(table))[::-1]
    for panel, name in zip(panels[0], quantities):
        for at, (setting, row) in zip(rows, table.iterrows()):
            mark = look[row["model"] if "model" in table else ""]
            seeds = trials.table.loc[trials.table["setting"] == setting, name]
            panel.plot(seeds, np.full(len(seeds), at), mark.marker, color=mark.colour, alpha=0.35, ms=4, mew=0)
            low, high = row[f"{name}_low"], row[f"{name}_high"]
            panel.plot([low, high], [at, at], color=INK, lw=1)
            panel.plot(row[name], at, mark.marker, color=mark.colour, ms=8, mec=INK, mew=0.9)
        if reference is not None:
            there = table[table["label"] == reference]
            if not len(there):
                raise BsavizError(f"no setting is called {reference!r}; there are {', '.join(table['label'])}")
            panel.axvline(float(there[name].iloc[0]), color=INK, lw=1, ls=(0, (5, 3)), zorder=0)
        _axis(panel, trials.quantities[name].label, log=name in trials.costs)
        if name not in trials.costs:
            panel.locator_params(axis="x", nbins=4)
            panel.ticklabel_format(axis="x", useOffset=False)
    panels[0, 0].set_yticks(list(rows), table["label"])
    panels[0, 0].set_ylim(-0.6, len(table) - 0.4)
    figure.suptitle(title or str(trials.attrs.get("title", "")), fontsize=11)
    return figure


def grid_plot(study, down, across, quantity="relative_l2", *, title=None):
    """Medians of a quantity over two parameters as a table of shaded cells, each with its number and spread.

    Parameters
    ----------
    study
        As in `bsaviz.view.plots_trials.trials_of`.
    down, across : str
        Parameters of the rows and columns.
    quantity : str
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    plt = require("matplotlib.pyplot", "view")
    trials = trials_of(study)
    _known(trials, [quantity])
    for name in (down, across):
        if name not in trials.parameters:
            there = ", ".join(trials.parameters) or "none"
            raise BsavizError(f"the study does not vary {name!r}; it varies {there}")
    table = trials.summary(quantity)
    rows, columns = trials.values(down), trials.values(across)
    figure, panel = plt.subplots(
        figsize=(2.4 + _CELL * len(columns), 1.5 + 0.62 * _CELL * len(rows)), layout="constrained"
    )
    medians = np.full((len(rows), len(columns)), np.nan)
    spread = medians.copy()
    for _, row in table.iterrows():
        if applies(row[down]) and applies(row[across]):
            at = rows.index(row[down]), columns.index(row[across])
            medians[at], spread[at] = row[quantity], row[f"{quantity}_high"] - row[f"{quantity}_low"]
    drawn = panel.imshow(medians, cmap="Greys", aspect="auto", vmin=_below(medians), vmax=np.nanmax(medians))
    dark = (np.nanmax(medians) + _below(medians)) / 2
    for (i, j), value in np.ndenumerate(medians):
        words = "not tried" if np.isnan(value) else f"{value:.4g}\n({spread[i, j]:.2g})"
        panel.text(j, i, words, ha="center", va="center", fontsize=9, color="white" if value > dark else INK)
    panel.set_xticks(range(len(columns)), [value_text(v) for v in columns])
    panel.set_yticks(range(len(rows)), [value_text(v) for v in rows])
    panel.set(xlabel=_with_unit(across), ylabel=_with_unit(down))
    figure.colorbar(drawn, label=trials.quantities[quantity].label, shrink=0.9)
    figure.suptitle(title or str(trials.attrs.get("title", "")), fontsize=11)
    return figure


def sensitivity_plot(study, quantities=("relative_l2", "gflops"), *, title=None):
    """Each parameter alone: quantities against its values while all others stay at those of the middle setting.

    The middle setting is the one that shares most of its parameters with the others.

    Parameters
    ----------
    study
        As in `bsaviz.view.plots_trials.trials_of`.
    quantities : sequence of str
        One row of panels each.
    title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    plt = require("matplotlib.pyplot", "view")
    trials, quantities = trials_of(study), list(quantities)
    _known(trials, quantities)
    table = trials.summary(*quantities)
    numeric = [n for n in trials.parameters if table[n].map(lambda v: not isinstance(v, str) and applies(v)).any()]
    alone = {}
    for name in numeric:
        found = one_at_a_time(table, trials.parameters, name)
        if len(found) > 1 and not any(goes_with(found, name, seen) for seen in alone):
            alone[name] = found
    if not alone:
        raise BsavizError("no parameter of this study has two values or more while all others stay the same")
    figure, panels = plt.subplots(
        len(quantities), len(alone), figsize=(1.0 + 2.15 * len(alone), 0.6 + 2.1 * len(quantities)), squeeze=False,
        sharex="col", sharey="row", layout="constrained",
    )  # fmt: skip
    look = marks(list(alone))
    for column, (name, rows) in enumerate(alone.items()):
        for panel, quantity in zip(panels[:, column], quantities):
            _line(panel, rows[name], rows, quantity, look[name])
            label = trials.quantities[quantity].label.replace(" (", "\n(") if column == 0 else ""
            _axis(panel, "", label, log_y=quantity in trials.costs)
            _scale_of(panel, rows[name])
        panels[-1, column].set_xlabel(_with_unit(name))
    figure.suptitle(title or str(trials.attrs.get("title", "")), fontsize=11)
    return figure


def curve_plot(ds, x, variables, *, by="branch", over=("seed",), panels=None, x_label=None, title=None):
    """Variables of a study against a coordinate, a line for each branch (or another dim): medians, and bars of spread.

    Parameters
    ----------
    ds : xarray.Dataset
    x : str
        Coordinate of the axis. Infinite values are drawn at the right end as "none".
    variables : dict of str to str
        Names of variables, with the words for their axes; one panel each.
    by : str or None
        Dim that gets a line each.
    over : sequence of str
        Dims whose values are spread: the line is the median over them.
    x_label, title : str, optional

    Returns
    -------
    matplotlib.figure.Figure
    """
    plt = require("matplotlib.pyplot", "view")
    figure, drawn = plt.subplots(
        1, len(variables), figsize=(0.6 + 3.3 * len(variables), 3.2), squeeze=False, layout="constrained"
    )
    for panel, (name, words) in zip(drawn[0], variables.items()):
        values = ds[name]
        rest = [dim for dim in values.dims if dim not in (*over, by, *ds[x].dims)]
        values = values.mean(rest) if rest else values
        names = [None] if by is None or by not in values.dims else ds[by].values.tolist()
        look = marks([str(n) for n in names])
        for number, one in enumerate(names):
            line = values if one is None else values.sel({by: one})
            there = [dim for dim in over if dim in line.dims]
            middle, low, high = line.median(there), line.min(there), line.max(there)
            if not bool(np.isfinite(middle).any()):
                continue
            at = _places(ds[x].values.astype(float)) * (1 + _ASIDE * (number - (len(names) - 1) / 2))
            order = np.argsort(at)
            mark = look[str(one)]
            panel.errorbar(
                at[order], middle.values[order],
                np.stack([(middle - low).values[order], (high - middle).values[order]]),
                color=mark.colour, ls=mark.line, marker=mark.marker, ms=6, mec=INK, mew=0.6, lw=1.4, capsize=2.5,
                label=None if one is None else str(one),
            )  # fmt: skip
        _axis(panel, x_label or name_of(x), words)
        _scale_of(panel, ds[x].values.astype(float))
    if by is not None:
        figure.legend(*drawn[0, 0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    figure.suptitle(title or "", fontsize=11)
    return figure


def one_at_a_time(table, parameters, name):
    """Rows that differ from the middle setting in one parameter alone, and that setting, sorted by the parameter.

    The middle setting has of every parameter the value that most settings have. Parameters that go with `name` one to
    one among the settings of its kind, as heads with width, may differ too.
    """
    plain = table[list(parameters)].map(lambda v: v if applies(v) else "-").astype(object)
    middle = {p: plain[p].mode().iloc[0] for p in parameters}
    kind = [p for p in parameters if p != name and isinstance(middle[p], str)]
    alike = plain[np.logical_and.reduce([np.ones(len(table), bool), *(plain[p] == middle[p] for p in kind)])]
    fixed = [p for p in parameters if p != name and not goes_with(alike, p, name)]
    keep = np.logical_and.reduce([plain[name] != "-", *(plain[p] == middle[p] for p in fixed)])
    return table[keep].sort_values(name)


def goes_with(table, one, other):
    """Whether two columns that both vary tell the same: each value of one goes with one value of the other."""
    pairs = table[[one, other]].drop_duplicates()
    return len(pairs) > 1 and pairs[one].is_unique and pairs[other].is_unique


def _line(panel, x, rows, quantity, mark):
    low, high = rows[quantity] - rows[f"{quantity}_low"], rows[f"{quantity}_high"] - rows[quantity]
    panel.errorbar(
        np.asarray(x, float), rows[quantity], np.stack([low, high]), color=mark.colour, ls=mark.line,
        marker=mark.marker, ms=6, mec=INK, mew=0.6, lw=1.4, capsize=2.5,
    )  # fmt: skip


def _scale_of(panel, values):
    """A logarithmic x axis with a tick at every value, where values are spread so."""
    values = np.unique(np.asarray(values, float))
    finite = values[np.isfinite(values)]
    if len(finite) > 1 and finite[0] > 0 and finite[-1] / finite[0] >= 4:
        panel.set_xscale("log")
    places = np.unique(_places(values))
    panel.set_xticks(places, [value_text(v) if np.isfinite(v) else "none" for v in values])
    panel.minorticks_off()


def _places(values):
    """Where values stand on the axis: infinite ones to the right of the others, by the last step again."""
    finite = np.unique(values[np.isfinite(values)])
    beyond = finite[-1] * (finite[-1] / finite[-2] if len(finite) > 1 else 2)
    return np.where(np.isfinite(values), values, beyond)


def _axis(panel, x, y="", log=False, log_y=False):
    panel.set(xlabel=x, ylabel=y)
    for wanted, axis, scale in ((log, panel.xaxis, panel.set_xscale), (log_y, panel.yaxis, panel.set_yscale)):
        if wanted:
            scale("log")
            _plain_numbers(axis)
    panel.grid(color=GRID, lw=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(color=PALE)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)


def _plain_numbers(axis):
    """1, 2, 5, 10, ... at a logarithmic axis, written out."""
    ticker = require("matplotlib.ticker", "view")
    axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(ticker.FuncFormatter(lambda v, _: f"{v:,.0f}" if v >= 1000 else f"{v:g}"))
    axis.set_minor_formatter(ticker.NullFormatter())


def _below(values):
    """A lowest shade under the smallest value, so that no cell is as white as the page."""
    low, high = np.nanmin(values), np.nanmax(values)
    return low - 0.15 * (high - low) - 1e-12


def _with_unit(parameter):
    """A parameter in words, with its unit where it has one."""
    words = name_of(parameter)
    return f"{words} (points)" if parameter.endswith("_size") else _WORDS.get(parameter, words)


def _known(trials, names):
    for name in names:
        if name not in trials.quantities:
            raise BsavizError(f"the study has no {name!r}; it has {', '.join(trials.quantities)}")
