"""Error against cost, interactive: a dot a setting, its spread over seeds, the Pareto front, the papers' points."""

from textwrap import wrap

import numpy as np

from bsaviz._checks import BsavizError, require
from bsaviz.study import measured
from bsaviz.view.files import write
from bsaviz.view.plots_marks import GRID, INK, PALE, marks
from bsaviz.view.plots_trials import applies, name_of, trials_of, value_text

FRONT, CHOSEN, PAPERS = "Pareto front", "chosen", "published (other data)"
PAPERS_NOTE = (
    "Hollow, right axis: as printed in arXiv 2506.12541 for ShapeNet-Car. Another dataset and training: compare ratios "
    "(equal heights on both axes), not errors."
)
_MARGIN = 0.08  # of an axis, on either side of what it shows
_MOST_SERIES = 12
_PLOT_HEIGHT, _NAME_HEIGHT, _NAME_WIDTH = 320, 20, 150  # pixels: of the plot proper, and of a name in the legend
_NOTE_WIDTH = 108  # letters of a line below the plot


def pareto_front(table, cost, error):
    """Settings that none beats in both: for each of them, every cheaper one errs more.

    Parameters
    ----------
    table : pandas.DataFrame
        Of `Trials.summary`.
    cost, error : str
        Columns, both to be small.

    Returns
    -------
    list of setting, from cheap to dear
    """
    front, best = [], np.inf
    for setting, row in table.sort_values([cost, error]).iterrows():
        if row[error] < best:
            front.append(setting)
            best = row[error]
    return front


def tradeoff_figure(
    study, *, cost=None, error=None, by=None, where=None, log_cost=True, log_error=True, papers=True, chosen=None,
    words=True,
):  # fmt: skip
    """The trade-off of a study as a plotly figure.

    A dot is the median over the seeds of one setting, its bars reach from the lowest to the highest seed. The papers'
    points stand on an axis of their own, whose ratios are those of the left one.

    Parameters
    ----------
    study
        As in `trials_of`: a Sweep, its folder, a stored study's name or file, a Dataset.
    cost, error : str, optional
        Quantities of the axes; default: the first that the study has of ``gflops``, ``forward_ms``, ``training_ms``,
        ``forward_mib``, ``training_mib``, ``parameters``, and of ``relative_l2``, ``mse``, ``mae_area``.
    by : str, optional
        Parameter that colours and shapes tell apart. Default: the model, or the first one that was varied.
    where : dict, optional
        Show only settings with these values of parameters.
    log_cost, log_error : bool
        Logarithmic axes.
    papers : bool
        Draw the published points in, where the cost is GFLOPs.
    chosen : int, optional
        Setting to put a ring around.
    words : bool
        With the study's title and the notes of `notes_of` around it.

    Returns
    -------
    plotly.graph_objects.Figure
        Every dot's ``customdata`` begins with its setting.

    Raises
    ------
    BsavizError
        For a name that the study does not have, and where no setting is left to show.
    """
    go = require("plotly.graph_objects", "notebooks")
    trials = trials_of(study)
    cost = _pick("cost", cost, trials.costs)
    error = _pick("error", error, trials.errors)
    by = default_series(trials) if by is None else _pick("by", by, list(trials.series))
    table = trials.summary(cost, error, where=_checked(where, trials))
    if not len(table):
        raise BsavizError("no setting has these values; show more of them")
    traces = [*_dots(go, trials, table, cost, error, by), _front(go, table, cost, error)]
    published = _published(cost) if papers else None
    x_low, x_high = _reach([table[f"{cost}_low"], table[f"{cost}_high"], *_column(published, "gflops")], log_cost)
    y_low, y_high = _reach([table[f"{error}_low"], table[f"{error}_high"]], log_error)
    x_title, y_title = (trials.quantities[name].label for name in (cost, error))
    with_papers = published is not None
    series = len(traces) + with_papers
    layout = _layout(trials, notes_of(trials, with_papers) if words else [], with_papers, series)
    scale_of = lambda log: ", logarithmic" if log else ""
    layout["xaxis"] = _axis(x_title + scale_of(log_cost), x_low, x_high, log_cost)
    layout["yaxis"] = _axis(y_title + scale_of(log_error), y_low, y_high, log_error)
    if published is not None:
        traces.append(_papers(go, published))
        scale = _scale(published["mse_printed"], y_low, y_high, log_error)
        second = _axis("MSE as printed, ShapeNet-Car", y_low * scale, y_high * scale, log_error)
        layout["yaxis2"] = second | dict(overlaying="y", side="right", showgrid=False, color=PALE, tickmode="auto")
    traces.append(_ring(go, table, cost, error, chosen))
    layout["uirevision"] = str((cost, error, by, where, log_cost, log_error))  # a click keeps zoom and hidden series
    return go.Figure(traces, layout)


def export_tradeoff(study, path, **choice):
    """Write the trade-off as a page that needs no network; arguments as for `tradeoff_figure`. Returns the path."""
    return write_page(tradeoff_figure(study, **choice), path)


def write_page(figure, path):
    """Write a plotly figure as one page with its library inside."""
    page = figure.to_html(include_plotlyjs=True, full_html=True, config={"displaylogo": False, "responsive": True})
    return write(path, (".html",), lambda: page.encode())


def notes_of(study, papers=False):
    """What a reader must know of the plot, a list of sentences; with `papers`, of the published points too."""
    trials = trials_of(study)
    counts = trials.table.groupby("setting")["seed"].count()
    least, most = int(counts.min()), int(counts.max())
    several = f"{most} trainings" if least == most else f"{least} to {most} trainings"
    notes = [f"Dot: median of {several}; bars: lowest to highest." if most > 1 else "One training a dot."]
    notes += [f"Each training: {trials.steps:,} steps."] if trials.steps else []
    return [" ".join(notes), *([PAPERS_NOTE] if papers else [])]


def default_series(trials):
    """What colours tell apart where nothing is asked for: few variants, or the model, or a parameter of few values.

    None where nothing was varied.
    """
    if "variant" in trials.series and len(trials.labels) <= _MOST_SERIES:
        return "variant"
    few = [name for name in ("model", *trials.parameters) if name in trials.parameters
           and len(trials.values(name)) <= _MOST_SERIES]  # fmt: skip
    return next(iter(few), None)


def _dots(go, trials, table, cost, error, by):
    values = [None] * len(table) if by is None else table[by].tolist()
    names = {v: value_text(v) if applies(v) else f"no {name_of(by)}" for v in values if by is not None}
    shown = list(dict.fromkeys(names.values())) if by == "variant" else sorted(set(names.values()), key=_numbers_first)
    look = _looks(table, by, shown or [""])
    for name in shown or [""]:
        rows = table if by is None else table[[names[v] == name for v in values]]
        rows = rows.sort_values(cost)
        mark = look[name]
        kept = [trials.has_model(trials.trial(setting, by=error)) for setting in rows.index]
        yield go.Scatter(
            x=rows[cost], y=rows[error], name=_series_name(by, name),
            mode="lines+markers" if _one_varies(trials, rows, by) else "markers",
            line=dict(color=mark.colour, dash=mark.dash, width=1),
            marker=dict(
                color=mark.colour, symbol=mark.symbol, size=11,
                line=dict(color=INK, width=[1.6 if k else 0.4 for k in kept]),
            ),
            error_y=_bars(rows, error, mark.colour), error_x=_bars(rows, cost, mark.colour),
            customdata=[[int(setting)] for setting in rows.index],
            hovertext=[_hover(trials, row, cost, error, k) for (_, row), k in zip(rows.iterrows(), kept)],
            hoverinfo="text",
        )  # fmt: skip


def _one_varies(trials, rows, by):
    """Whether the dots of a series differ in one parameter alone, so that a line through them means something."""
    others = [name for name in trials.parameters if name != by]
    return sum(rows[name].map(lambda v: v if applies(v) else "-").nunique() > 1 for name in others) == 1


def _looks(table, by, names):
    """Marks by name; variants that are one model each look like their models."""
    if by == "variant" and "model" in table and table["model"].is_unique:
        look = marks(table["model"])
        return {row["variant"]: look[row["model"]] for _, row in table.iterrows()}
    return marks(names)


def _hover(trials, row, cost, error, kept):
    lines = [f"<b>{row['label']}</b>"]
    for name in (error, cost):
        q = trials.quantities[name]
        spread = f" ({q.text(row[f'{name}_low'])} to {q.text(row[f'{name}_high'])})"
        lines.append(f"{q.words}: {q.text(row[name])}{spread if row[f'{name}_high'] > row[f'{name}_low'] else ''}")
    lines.append(f"{row['trainings']} training{'s' if row['trainings'] > 1 else ''}")
    return "<br>".join([*lines, "click: on the car" if kept else "no weights kept"])


def _front(go, table, cost, error):
    rows = table.loc[pareto_front(table, cost, error)]
    line = dict(color=INK, width=1.5, dash="dash", shape="hv")
    return go.Scatter(x=rows[cost], y=rows[error], mode="lines", name=FRONT, line=line, hoverinfo="skip")


def _papers(go, published):
    symbols = [f"{marks([model])[model].symbol}-open" for model in published["model"]]
    hover = [
        f"<b>{row['name']}, published</b><br>{row['dataset']}, {row['num_points']} points, {row['steps']:,} steps<br>"
        f"MSE as printed: {row['mse_printed']}<br>{row['gflops']} GFLOP<br>{row['source']}"
        for _, row in published.iterrows()
    ]
    return go.Scatter(
        x=published["gflops"], y=published["mse_printed"], mode="markers+text", name=PAPERS, yaxis="y2",
        text=published["name"], textposition=_beside(published["gflops"]), textfont=dict(color=PALE, size=11),
        marker=dict(color=PALE, symbol=symbols, size=12, line=dict(width=2)), hovertext=hover, hoverinfo="text",
    )  # fmt: skip


def _beside(costs):
    """Where the names stand: that of the dearest to its left, so that none crosses the axis."""
    return ["middle left" if cost == costs.max() else "bottom center" for cost in costs]


def _ring(go, table, cost, error, chosen):
    """A ring around the chosen dot, the last trace; empty where none is chosen or shown."""
    there = table.loc[[chosen]] if chosen in table.index else table.iloc[:0]
    marker = dict(symbol="circle-open", size=24, color=INK, line=dict(width=2.5))
    return go.Scatter(
        x=there[cost], y=there[error], mode="markers", name=CHOSEN, marker=marker, showlegend=False, hoverinfo="skip"
    )


def _bars(rows, name, colour):
    up, down = rows[f"{name}_high"] - rows[name], rows[name] - rows[f"{name}_low"]
    if not (up.any() or down.any()):
        return None
    return dict(type="data", symmetric=False, array=up, arrayminus=down, color=colour, thickness=1.2, width=4)


def _layout(trials, notes, with_papers, series):
    """All but the axes: room above for the series' names, two in a row beside a car and five on a page."""
    lines = [line for note in notes for line in wrap(note, _NOTE_WIDTH)]
    names = _NAME_HEIGHT * -(-series // (5 if notes else 2)) + (34 if notes else 0)
    note = dict(
        text="<br>".join(lines), x=0, y=0, xref="paper", yref="paper", xanchor="left", yanchor="top", yshift=-56,
        showarrow=False, align="left", font=dict(size=11, color=PALE),
    )  # fmt: skip
    title = dict(text=str(trials.attrs.get("title", "Accuracy against cost")), x=0, xref="paper", font_size=15,
                 y=0.98, yref="container", yanchor="top")  # fmt: skip
    return dict(
        title=title if notes else None, annotations=[note] if notes else [],
        height=_PLOT_HEIGHT + names + 58 + 20 * len(lines), autosize=True, template="none",
        font=dict(family="sans-serif", size=12, color=INK), hovermode="closest",
        hoverlabel=dict(bgcolor="white", bordercolor=INK, font_color=INK), paper_bgcolor="white", plot_bgcolor="white",
        legend=dict(orientation="h", x=0, y=1.01, yanchor="bottom", font_size=11, entrywidth=_NAME_WIDTH),
        margin=dict(l=68, r=58 if with_papers else 16, t=24 + names, b=62 + 15 * len(lines)),
    )  # fmt: skip


def _axis(title, low, high, log):
    limits = [float(np.log10(v)) for v in (low, high)] if log else [low, high]
    look = dict(showgrid=True, gridcolor=GRID, zeroline=False, showline=True, linecolor=INK, ticks="outside")
    there = _one_two_five(low, high) if log else []
    ticks = dict(tickvals=there, ticktext=[f"{v:g}" for v in there]) if len(there) > 2 else {}
    return dict(title=title, type="log" if log else "linear", range=limits, **look, **ticks)


def _one_two_five(low, high):
    """1, 2 and 5 times powers of ten within a range."""
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    return [float(power * factor) for power in powers for factor in (1, 2, 5) if low <= power * factor <= high]


def _reach(columns, log):
    """The range of an axis that shows these values with some room."""
    values = np.concatenate([np.asarray(column, float) for column in columns])
    if log:
        values = values[values > 0]
        if not len(values):
            raise BsavizError("a logarithmic axis needs values above 0; use a linear one")
        low, high = np.log10(values.min()), np.log10(values.max())
        room = max(_MARGIN * (high - low), 0.03)
        return float(10 ** (low - room)), float(10 ** (high + room))
    low, high = float(values.min()), float(values.max())
    room = _MARGIN * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _scale(printed, low, high, log):
    """The factor between the axes that puts the published errors into the middle of the plot."""
    middle = np.sqrt(low * high) if log else (low + high) / 2
    return float(np.sqrt(printed.min() * printed.max()) / middle)


def _published(cost):
    """The published rows that have this cost; None without any."""
    if cost != "gflops":
        return None
    rows = measured("papers")
    rows = rows[rows["gflops"].notna()]
    return rows if len(rows) else None


def _column(table, name):
    return [] if table is None else [table[name]]


def _pick(what, name, there):
    if not there:
        raise BsavizError(f"the study has nothing for {what}")
    if name is None:
        return there[0]
    if name not in there:
        raise BsavizError(f"{what} must be one of {', '.join(there)}, got {name!r}")
    return name


def _checked(where, trials):
    for parameter, value in (where or {}).items():
        _pick("a parameter to filter by", parameter, list(trials.series))
        if value not in trials.values(parameter):
            there = ", ".join(map(value_text, trials.values(parameter)))
            raise BsavizError(f"{parameter} has no value {value!r}; it has {there}")
    return where


def _series_name(by, name):
    return name if by is None or by in ("model", "variant") or name.startswith("no ") else f"{name_of(by)} {name}"


def _numbers_first(text):
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text
