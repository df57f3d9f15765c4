"""One self-contained web page of a dataset: the same panels as the still, turned together with the mouse.

The page is ours, a few hundred lines of WebGL2 (folder ``web``), and not an export of pyvista or plotly. pyvista's
draws round points as flat squares and breaks scalar bars; plotly's is round, but carries 4.5 MB of library into every
file, and its three scenes hold three copies of the car. Ours holds the car once, and of every kind one byte a point,
branch and view (one bit where it is only yes or no), compressed, so that its switches work with no kernel. It forbids
itself, by a content security policy, to load anything at all.
"""

import base64
import gzip
import html
import itertools
import json
import re
from dataclasses import dataclass, replace
from functools import partial
from importlib.resources import files as package_files

import numpy as np

from bsaviz.view.branches import COLOURS, QUERY_COLOUR, SURFACE_COLOUR, rgb
from bsaviz.view.camera import CAMERAS, VIEW_ANGLE, direction
from bsaviz.view.choose import geometry, index_of, kind_of, kinds_of, labels, what_is
from bsaviz.view.files import write
from bsaviz.view.panels import FAINT, check_choice, check_query, dot_radii
from bsaviz.view.reading import read_field, read_gates

ALL_HEADS = "all heads"
SCRIPTS = ("renderer.js", "orbit.js", "key.js", "pick.js", "data.js", "rings.js", "page.js")
SWITCHED = ("query", "layer", "head")  # dimensions that have a switch; a kind may lack some of them


def export_html(ds, path, *, camera="auto", **choice):
    """Write a dataset's picture as one HTML file with working switches that needs no kernel and no network.

    The file holds every query, layer, head and kind of `ds`: select some first (``rf.sel(layer=[0, 5])``) for a smaller
    one. `bsaviz.view.export_atlas` is the same with the queries to click on the car.

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
    return make_page(ds, camera=camera, **choice).text()


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    Attributes
    ----------
    title : str
    meta : dict
        What the scripts need to know before they unpack anything.
    parts : dict of str to str
        Compressed data by name, in base64: ``"words"``, ``"car"``, ``"regions"`` where a query is one, and each kind.
    """

    title: str
    meta: dict
    parts: dict

    def text(self):
        """The page as HTML. JSON and base64 cannot end the script elements that hold them."""
        web = package_files("bsaviz.view") / "web"
        meta = json.dumps({**self.meta, "parts": list(self.parts)}, ensure_ascii=True)
        for character in "&<>":
            meta = meta.replace(character, f"\\u{ord(character):04x}")
        fill = {
            "TITLE": html.escape(self.title),
            "STYLE": (web / "page.css").read_text("utf-8"),
            "META": meta,
            "DATA": "\n".join(self.parts.values()),
            "SCRIPT": "\n".join((web / name).read_text("utf-8") for name in SCRIPTS),
        }
        return re.sub("@@([A-Z]+)@@", lambda found: fill[found[1]], (web / "page.html").read_text("utf-8"))


def make_page(ds, *, camera="auto", rings=False, **choice):
    """The `Page` of a dataset; with `rings`, its queries are drawn on the car and can be clicked."""
    field = what_is(ds) == "field"
    choice = check_choice(ds, choice)
    ds = ds.compute()  # once, and not view by view, where it is still in a file
    positions, faces = geometry(ds)
    anchors = labels(ds, "query") if field else []
    for query in anchors:
        check_query(query, len(positions))
    start = _start(ds, choice, field)
    kinds = [_Kind.of(ds, name, choice.get("clim")) for name in (kinds_of(ds) if field else ["gate"])]
    clear, faint = dot_radii(positions)
    meta = {
        "choices": _choices(ds, field),
        "start": start,
        "kinds": [kind.meta for kind in kinds],
        "anchors": anchors,
        "rings": rings,
        "points": len(positions),
        "faces": 0 if faces is None else len(faces),
        "surface": rgb(SURFACE_COLOUR).tolist(),
        "queryColour": rgb(QUERY_COLOUR).tolist(),
        "radii": {"clear": clear, "faint": faint},
        "cameras": CAMERAS,
        "eyes": [direction(camera, positions, faces, query).tolist() for query in anchors or [None]],
        "angle": VIEW_ANGLE,
    }
    corners = np.empty((0, 3)) if faces is None else faces
    parts = {
        "words": json.dumps({kind.meta["name"]: kind.words for kind in kinds}).encode(),
        "car": positions.astype("<f4").tobytes() + corners.astype("<u4").tobytes(),
    }
    if "in_region" in ds:
        inside = np.asarray(ds["in_region"].values, bool).reshape(len(anchors), -1)
        parts["regions"] = np.packbits(inside, axis=-1).tobytes()
    parts |= {kind.meta["name"]: kind.packed for kind in kinds}
    name = f"{ds.attrs['car']}: " if ds.attrs.get("car") else ""
    packed = {part: _pack(data) for part, data in parts.items()}
    return Page(f"{name}{'receptive field' if field else 'gates'}", meta, packed)


@dataclass(frozen=True)
class _Kind:
    """One kind of a dataset: what the page knows of it, and the words and levels of its views."""

    meta: dict
    words: list
    packed: bytes

    @classmethod
    def of(cls, ds, name, clim):
        readings = list(_readings(ds, name, clim))
        first, bar = readings[0], next((reading.bar for reading in readings if reading.bar), None)
        meta = {
            "name": name,
            "varies": [dim for dim in SWITCHED if dim in ds[name].dims],
            "branches": [{"name": b, "colour": rgb(COLOURS[b]).tolist(), "faint": b in FAINT} for b in first.branches],
            "headings": first.headings,
            "ramps": [base64.b64encode(ramp.tobytes()).decode() for ramp in bar.ramps] if bar else [],
            "painted": name == "gate",
            "bits": bar is None,
        }
        pack = np.ascontiguousarray if bar else np.packbits
        packed = b"".join(pack(reading.levels).tobytes() for reading in readings)
        return cls(meta, [_words(reading) for reading in readings], packed)


def _readings(ds, name, clim):
    """What each view of a kind says; the last of `SWITCHED` changes fastest."""
    read = partial(read_gates, clim=clim) if name == "gate" else partial(read_field, kind=name)
    dims = ds[name].dims
    heads = [head for _, head in _head_choices(ds)] if "head" in dims else [None]
    shown = [dim for dim in SWITCHED[:2] if dim in dims]
    small = ds[[variable for variable in ds.data_vars if variable == name or set(shown) & set(ds[variable].dims)]]
    for place in itertools.product(*(range(ds.sizes[dim]) for dim in shown)):
        one = small.isel({dim: [i] for dim, i in zip(shown, place)})
        lacking = _lacking(one)
        for head in heads:
            yield _without_head(read(one), head) if head in lacking else read(one, head=head)


def _lacking(one):
    """Heads that a layer does not have, where it has fewer than others: their gates are NaN."""
    if "gate" not in one or "head" not in one["gate"].dims:
        return []
    gate = np.moveaxis(one["gate"].values, one["gate"].dims.index("head"), 0)
    return [head for head, of_head in zip(labels(one, "head"), gate) if np.isnan(of_head).all()]


def _without_head(reading, head):
    captions = [f"this layer has no head {head}"] * len(reading.captions)
    return replace(reading, levels=np.zeros_like(reading.levels), captions=captions, footer="", bar=None)


def _words(reading):
    bar = reading.bar and {"label": reading.bar.label, "ticks": reading.bar.ticks}
    return {"captions": reading.captions, "footer": reading.footer, "bar": bar}


def _choices(ds, field):
    """What each switch offers, as texts; a query by its name where it has one."""
    choices = {"layer": labels(ds, "layer"), "head": [name for name, _ in _head_choices(ds)]}
    if field:
        queries = labels(ds, "region" if "region" in ds.coords else "query")
        choices = {"query": queries, **choices, "kind": kinds_of(ds)}
    return {name: [str(value) for value in values] for name, values in choices.items()}


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


def _pack(data):
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")
