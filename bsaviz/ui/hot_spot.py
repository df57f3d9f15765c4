"""What the queries of a hot-spot read of the car, and what they never do: every point in one of four classes."""

from dataclasses import dataclass

import numpy as np

from bsaviz.fields.through import NEAR_TO_FAR

DIRECT, THROUGH, MEANS, NEVER = range(4)
CLASSES = {
    DIRECT: ("read point by point", "#542788"),
    THROUGH: ("only through other points", "#B2ABD2"),
    MEANS: ("only in means of blocks", "#FDB863"),
    NEVER: ("never read", "#B35806"),
}


@dataclass(frozen=True)
class HotSpotReading:
    """What one model reads for the points of a hot-spot.

    Attributes
    ----------
    classes : array (P,) uint8
        ``DIRECT``: a branch that reads point by point (ball, selection, window, full) may read it in one of the layers.
        ``THROUGH``: not so, but such branches bring it there through other points, layer by layer. ``MEANS``: it comes
        only within the means that the compression branch reads. ``NEVER``: in no way at all.
    surface : array (4,)
        Share of the surface in each class, percent.
    outside : float
        Attention mass on points outside the balls of the hot-spot, percent of all its mass, a mean over the layers;
        NaN for a model without balls.
    """

    classes: np.ndarray
    surface: np.ndarray
    outside: float

    @property
    def never_directly(self):
        """Share of the surface that no layer reads point by point, percent."""
        return float(100 - self.surface[DIRECT])


def read_hot_spot(trace, points, layers, area, ticket=lambda: None):
    """The `HotSpotReading` of some points.

    Parameters
    ----------
    trace : bsaviz.fields.Trace
        With all layers up to the last of `layers`.
    points : array (k,) int
        The hot-spot.
    layers : sequence of int
        Layers that may read directly; "through" counts all layers up to the last of them.
    area : array (P,)
        Surface that each point stands for.
    ticket : callable
        Called before each layer; may raise to give up.
    """
    query = {"hot-spot": np.asarray(points)}
    direct, outside = np.zeros(len(area), bool), []
    for layer in layers:
        ticket()
        field = trace.receptive_field(query, layers=layer, kinds=("structural", "mass")).isel(query=0, layer=0)
        reads = {str(b): field["structural"].sel(branch=b).any("head").values for b in field["branch"].values}
        for branch in set(reads) - {"compression"}:
            direct |= reads[branch]
        mass = field["mass"].sum(("head", "branch"), dtype=np.float64).values
        outside.append(100 * mass[~reads["ball"]].sum() / mass.sum() if "ball" in reads else np.nan)
    ticket()
    through, anyhow = _reached(trace, query, max(layers))
    classes = np.select([direct, through, anyhow], [DIRECT, THROUGH, MEANS], NEVER).astype(np.uint8)
    surface = 100 * np.bincount(classes, weights=area, minlength=len(CLASSES)) / area.sum(dtype=np.float64)
    return HotSpotReading(classes, surface, float(np.mean(outside)))


def _reached(trace, query, last):
    """(P,) bool twice: points that reach the queries by the last layer point by point, and in any way."""
    reach = trace.receptive_field(query, layers=last, kinds="reach")["reach"].isel(query=0, layer=0)
    branches = sorted(map(str, reach["branch"].values), key=NEAR_TO_FAR.index)
    one_by_one = [branch for branch in branches if branch != "compression"]
    return reach.sel(branch=one_by_one[-1]).values, reach.sel(branch=branches[-1]).values


def nearest(positions, point, count):
    """The `count` points nearest to a point, itself first."""
    apart = ((positions.astype(np.float64) - positions[point]) ** 2).sum(1)
    apart[point] = -1.0
    return np.argsort(apart, kind="stable")[:count]
