"""One self-contained web page of a dataset: the same panels as the still, turned together with the mouse.

The page is ours, a few hundred lines of WebGL2 (folder ``web``), and not an export of pyvista or plotly. pyvista's
draws round points as flat squares and breaks scalar bars; plotly's is round, but carries 4.5 MB of library into every
file, and its three scenes hold three copies of the car. Ours holds the car once, and one byte a point, branch, head and
layer (compressed), so that its switches work with no kernel. It forbids itself, by a content security policy, to load
anything at all.
"""

import base64
import gzip
import html
import itertools
import json
import re
from importlib.resources import files as package_files

import numpy as np

from bsaviz.view.branches import COLOURS, QUERY_COLOUR, SURFACE_COLOUR, rgb
from bsaviz.view.camera import CAMERAS, VIEW_ANGLE, direction
from bsaviz.view.choose import geometry, index_of, kind_of, kinds_of, labels, what_is
from bsaviz.view.files import write
from bsaviz.view.panels import FAINT, check_choice, check_query, dot_radii
from bsaviz.view.reading import read_field, read_gates

ALL_HEADS = "all heads"
SCRIPTS = ("renderer.js", "orbit.js", "key.js", "page.js")


def export_html(ds, path, *, camera="auto", **choice):
    """Write a dataset's picture as one HTML file with working switches that needs no kernel and no network.

    The file holds every query, layer and head of `ds`: select some first (``rf.sel(layer=[0, 5])``) for a smaller one.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `bsaviz.receptive_field` or `bsaviz.gates`.
    path : str or Path
        File to write, ending in ``.html``.
    camera : str or (float, float, float)
        What the page opens with, and goes to with the next query; see `bsaviz.view.CAMERAS`.
    **choice
        query, layer, head, kind (receptive fields), or layer, head, clim (gates): what the page opens with; `clim`
        holds for all of it.

    Returns
    -------
    pathlib.Path
    """
    return write(path, (".html", ".htm"), lambda: page(ds, camera=camera, **choice).encode("utf-8"))


def page(ds, *, camera="auto", **choice):
    """The text of `export_html`."""
    field = what_is(ds) == "field"
    choice = check_choice(ds, choice)
    positions, faces = geometry(ds)
    meta, levels = _field(ds, positions) if field else _gates(ds, choice.get("clim"))
    start = _start(ds, choice, field)
    queries = meta["choices"]["query"] if field else [None]
    clear, faint = dot_radii(positions)
    meta |= {
        "start": start,
        "points": len(positions),
        "faces": 0 if faces is None else len(faces),
        "surface": rgb(SURFACE_COLOUR).tolist(),
        "queryColour": rgb(QUERY_COLOUR).tolist(),
        "radii": {"clear": clear, "faint": faint},
        "cameras": CAMERAS,
        "eyes": [direction(camera, positions, faces, query).tolist() for query in queries],
        "angle": VIEW_ANGLE,
    }
    corners = np.empty((0, 3), np.uint32) if faces is None else faces.astype(np.uint32)
    data = b"".join((positions.astype("<f4").tobytes(), corners.astype("<u4").tobytes(), levels.tobytes()))
    name = f"{ds.attrs['car']}: " if ds.attrs.get("car") else ""
    return _fill(f"{name}{'receptive field' if field else 'gates'}", meta, data)


def _field(rf, positions):
    kinds, heads = kinds_of(rf), _head_choices(rf)
    choices = {"query": labels(rf, "query"), "layer": labels(rf, "layer"), "head": [h for h, _ in heads], "kind": kinds}
    views, levels = [], []
    for query, layer, (_, head) in itertools.product(choices["query"], choices["layer"], heads):
        readings = {kind: read_field(rf, query=query, layer=layer, head=head, kind=kind) for kind in kinds}
        check_query(query, len(positions))
        views.append({kind: _words(reading) for kind, reading in readings.items()})
        levels.append(readings[kinds[-1]].levels)  # levels of the mass also say what is read: they are 0 elsewhere
    last = readings[kinds[-1]]
    return _meta("field", choices, last, views, kinds), np.stack(levels)


def _gates(ds, clim):
    heads = _head_choices(ds)
    choices = {"layer": labels(ds, "layer"), "head": [h for h, _ in heads]}
    shown = itertools.product(choices["layer"], heads)
    readings = [read_gates(ds, layer=layer, head=head, clim=clim) for layer, (_, head) in shown]
    views = [{"gate": _words(reading)} for reading in readings]
    return _meta("gates", choices, readings[0], views, ["gate"]), np.stack([r.levels for r in readings])


def _meta(mode, choices, reading, views, kinds):
    branches = [{"name": b, "colour": rgb(COLOURS[b]).tolist(), "faint": b in FAINT} for b in reading.branches]
    ramps = [] if reading.bar is None else [base64.b64encode(r.tobytes()).decode() for r in reading.bar.ramps]
    shared = {"branches": branches, "ramps": ramps, "headings": reading.headings}
    return {"mode": mode, "choices": choices, "kinds": kinds, "views": views, **shared}


def _words(reading):
    bar = reading.bar and {"label": reading.bar.label, "ticks": reading.bar.ticks}
    return {"captions": reading.captions, "footer": reading.footer, "bar": bar}


def _head_choices(ds):
    """Pairs of a name and a head: all heads together first, where there are several."""
    heads = [(str(h), h) for h in labels(ds, "head")]
    return [(ALL_HEADS, None), *heads] if len(heads) > 1 else heads


def _start(ds, choice, field):
    head = choice.get("head")
    several = len(labels(ds, "head")) > 1
    start = {
        "layer": index_of(ds, "layer", choice.get("layer"), -1),
        "head": 0 if head is None else index_of(ds, "head", head, 0) + several,
    }
    if field:
        start["query"] = index_of(ds, "query", choice.get("query"), 0)
        start["kind"] = kinds_of(ds).index(kind_of(ds, choice.get("kind")))
    return start


def _fill(title, meta, data):
    """The page with its parts in place. JSON and base64 cannot end the script element that holds them."""
    web = package_files("bsaviz.view") / "web"
    text = json.dumps(meta, ensure_ascii=True)
    for character in "&<>":
        text = text.replace(character, f"\\u{ord(character):04x}")
    parts = {
        "TITLE": html.escape(title),
        "STYLE": (web / "page.css").read_text("utf-8"),
        "META": text,
        "DATA": base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii"),
        "SCRIPT": "\n".join((web / name).read_text("utf-8") for name in SCRIPTS),
    }
    template = (web / "page.html").read_text("utf-8")
    return re.sub("@@([A-Z]+)@@", lambda found: parts[found[1]], template)
