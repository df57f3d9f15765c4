"""An atlas: one page that holds many queries, drawn as rings on the car, and goes to the one that is clicked."""

from dataclasses import dataclass
from numbers import Real

from bsaviz._checks import BsavizError
from bsaviz.view.choose import kinds_of, labels, what_is
from bsaviz.view.files import check_suffix, write
from bsaviz.view.page import SWITCHED, make_page

MEGABYTE = 10**6
SPARE = 0.95  # of the room: what stays may compress a little worse than what was dropped


def export_atlas(ds, path, *, max_mb=15, camera="auto", progress=True, **choice):
    """Write all queries of receptive fields as one HTML file, each a ring on the car that can be clicked.

    It needs no kernel and no network. It has switches for query, layer, head, kind and branch; a click on a ring, or on
    the car near one, goes to that query. The size is told before the file is written.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `bsaviz.receptive_field`. Queries asked for by name (landmarks, regions) are listed by name.
    path : str or Path
        File to write, ending in ``.html``.
    max_mb : float
        The largest file to write, in megabytes of 10**6 bytes.
    camera : str or (float, float, float)
        As in `bsaviz.view.export_html`.
    progress : bool
        Print one line with the size before the file is written.
    **choice
        query, layer, head, kind: what the page opens with.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    BsavizError
        When the file would be larger than `max_mb`: says how large, and how many queries, layers, heads or kinds fit.
        Nothing is written then.

    Examples
    --------
    >>> rf = bsaviz.receptive_field(model, car, bsaviz.fields.landmarks(car))  # doctest: +SKIP
    >>> rf.bsa.export_atlas("atlas.html")  # doctest: +SKIP
    """
    path = check_suffix(path, (".html", ".htm"))
    if not isinstance(max_mb, Real) or isinstance(max_mb, bool) or not max_mb > 0:
        raise BsavizError(f"max_mb must be a positive number of megabytes, got {max_mb!r}")
    made = _atlas(ds, camera, choice)
    text = made.text().encode("utf-8")
    size = _size(ds, made, len(text))
    if size.total > max_mb * MEGABYTE:
        raise BsavizError(_too_large(size, made.meta["kinds"], max_mb))
    if progress:
        print(f"{path.name}: {size}")
    return write(path, (".html", ".htm"), lambda: text)


@dataclass(frozen=True)
class AtlasSize:
    """How large an atlas is, in bytes.

    Attributes
    ----------
    total : int
    parts : dict of str to int
        Of this, the levels of each kind, the ``"words"`` (captions and bars of all views), and the ``"car"`` with
        everything else.
    counts : dict of str to int
        How many queries, layers, heads and kinds it holds.
    points : int
    """

    total: int
    parts: dict
    counts: dict
    points: int

    def __str__(self):
        held = ", ".join(f"{n} {_many(dim, n)}" for dim, n in self.counts.items())
        return f"{_mb(self.total)} ({held}, {self.points:,} points)"


def atlas_size(ds):
    """How large the file of `export_atlas` will be, found by making it in memory.

    Parameters
    ----------
    ds : xarray.Dataset
        Of `bsaviz.receptive_field`.

    Returns
    -------
    AtlasSize
        Of the file that opens with the defaults; another choice changes a few bytes.
    """
    made = _atlas(ds, "auto", {})
    return _size(ds, made, len(made.text().encode("utf-8")))


def _atlas(ds, camera, choice):
    if what_is(ds) != "field":
        raise BsavizError("an atlas is of receptive fields; gates have no queries to click: write them by export_html")
    return make_page(ds, camera=camera, rings=True, **choice)


def _size(ds, made, total):
    parts = {name: len(made.parts[name]) for name in (*kinds_of(ds), "words")}
    parts["car"] = total - sum(parts.values())
    counts = {dim: len(labels(ds, dim)) for dim in SWITCHED} | {"kind": len(kinds_of(ds))}
    return AtlasSize(total, parts, counts, made.meta["points"])


def _too_large(size, kinds, max_mb):
    """What the atlas takes, and what to drop of it; each way is enough by itself."""
    limit = max_mb * MEGABYTE
    parts = ", ".join(f"{name} {_mb(n)}" for name, n in size.parts.items())
    says = f"the atlas would take {_mb(size.total)}, {_mb(size.total - limit)} more than max_mb={max_mb:g} ({parts})"
    ways = _ways(size, kinds, limit) or ["keep fewer queries, layers, heads and kinds together"]
    if size.parts["car"] >= limit:
        ways = ["the car alone is too large: take fewer points, as by bsaviz.load_car(..., num_points=4096)"]
    return f"{says}; {', or '.join(ways)}; or allow more by max_mb"


def _ways(size, kinds, limit):
    """Texts, one for each thing of which dropping some is enough. Of `kinds`, each varies with some dimensions."""
    ways = []
    for dim in SWITCHED:
        varying = sum(size.parts[kind["name"]] for kind in kinds if dim in kind["varies"])
        share = SPARE * (limit - size.total + varying) / max(varying, 1)
        count = size.counts[dim]
        keep = _heads_kept(count, share) if dim == "head" else int(share * count)
        if 0 < keep < count:
            ways.append(f"keep {keep} of {count} {_many(dim, count)}, as by .isel({dim}=slice({keep}))")
    enough = [kind["name"] for kind in kinds if len(kinds) > 1 and size.total - size.parts[kind["name"]] <= limit]
    return ways + [f"drop the kind {name!r}, as by .drop_vars({name!r})" for name in enough]


def _heads_kept(heads, share):
    """Heads that fit: where there are several, all of them together are one view more."""
    views = int(share * (heads + 1))
    return views - 1 if views > 2 else min(views, 1)


def _many(dim, count):
    return dim if count == 1 else "queries" if dim == "query" else f"{dim}s"


def _mb(count):
    return f"{count / MEGABYTE:.{1 if count >= 99_500 else 3}f} MB"
