"""Text in the explorers: headings, problems, hints and tables, readable in light and dark themes."""

from html import escape

STYLE = """<style>
.bsaviz-heading {font-size: 1.15em; font-weight: 600; line-height: 1.6}
.bsaviz-busy {margin-left: .8em; line-height: 1.9}
.bsaviz-problem, .bsaviz-note {padding: .35em .8em; margin: .3em 0; line-height: 1.45; max-width: 74em}
.bsaviz-problem {border-left: 4px solid #D55E00; background: rgba(213, 94, 0, .10)}
.bsaviz-note {border-left: 4px solid #0072B2; background: rgba(0, 114, 178, .08)}
.bsaviz-table {border-collapse: collapse; line-height: 1.5; margin: .3em 0}
.bsaviz-table th, .bsaviz-table td {padding: .1em .9em .1em 0; text-align: right; white-space: nowrap}
.bsaviz-table th:first-child, .bsaviz-table td:first-child {text-align: left}
.bsaviz-table th {font-weight: 600; border-bottom: 1px solid rgba(128, 128, 128, .5); white-space: normal;
  vertical-align: bottom}
.bsaviz-swatch {display: inline-block; width: .8em; height: .8em; margin-right: .45em; border-radius: 2px}
</style>"""


BUSY = '<span class="bsaviz-busy">&#9679; computing</span>'


def heading(title):
    """HTML of an explorer's heading."""
    return f'<div class="bsaviz-heading">{escape(title)}</div>'


def problem(text):
    """HTML of something that went wrong."""
    return f'<div class="bsaviz-problem" role="alert">{escape(text)}</div>'


def note(text):
    """HTML of a hint or an explanation."""
    return f'<div class="bsaviz-note">{escape(text)}</div>'


def aside(text):
    """HTML of a hint that stands beside a chart."""
    return f'<div style="flex: 1 1 300px; align-self: center">{note(text)}</div>'


def swatch(name, colour):
    """HTML of a name behind a patch of its colour."""
    return f'<span class="bsaviz-swatch" style="background:{colour}"></span>{escape(name)}'


def table(head, rows):
    """HTML table of texts; the first cell of a row may be HTML (a `swatch`), the others are escaped.

    Parameters
    ----------
    head : sequence of str
    rows : sequence of sequences of str
    """
    cells = lambda tag, row: "".join(f"<{tag}>{cell if i == 0 else escape(cell)}</{tag}>" for i, cell in enumerate(row))
    lines = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<table class="bsaviz-table"><thead><tr>{cells("th", head)}</tr></thead><tbody>{lines}</tbody></table>'
