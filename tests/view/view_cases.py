"""A small smooth car body, and a receptive field and gates on it whose every number is known."""

import numpy as np
import xarray as xr

BRANCHES = ["ball", "compression", "selection"]  # as the fields store them; pictures draw the selection second
QUERY = 204  # on the left front wing
BLOCK = 8


def body(around=24, along=36):
    """Positions and triangles of a closed body 4 long, nose at -x, z up, with a cabin."""
    t = np.linspace(0, np.pi, along + 2)[1:-1]
    a = np.linspace(0, 2 * np.pi, around, endpoint=False)
    x = -2 * np.cos(t)[:, None] + 0 * a
    girth = np.sin(t)[:, None] ** 0.35
    cabin = 1 + 0.75 * np.exp(-(((x - 0.3) / 0.75) ** 4)) * (np.sin(a) > 0)
    y, z = 0.85 * girth * np.cos(a), 0.45 * girth * np.sin(a) * cabin
    points = np.concatenate([np.stack([x, y, z], -1).reshape(-1, 3), [[-2, 0, 0], [2, 0, 0]]]).astype(np.float32)
    i, j = np.meshgrid(np.arange(along - 1), np.arange(around), indexing="ij")
    corner = lambda di, dj: ((i + di) * around + (j + dj) % around).ravel()
    lower = np.stack([corner(0, 0), corner(1, 0), corner(1, 1)], 1)
    upper = np.stack([corner(0, 0), corner(1, 1), corner(0, 1)], 1)
    ring = np.arange(around)
    last = (along - 1) * around
    front = np.stack([np.full(around, len(points) - 2), ring, (ring + 1) % around], 1)
    rear = np.stack([np.full(around, len(points) - 1), last + (ring + 1) % around, last + ring], 1)
    return points, np.concatenate([lower, upper, front, rear])


def field(*, layers=2, heads=2, faces=True, kinds=("structural", "mass"), queries=(QUERY,)):
    """Ball: the 60 nearest points; selection of head h: two blocks; compression: everything, blockwise."""
    points, triangles = body()
    count = len(points)
    reads = np.zeros((len(queries), layers, heads, 3, count), bool)
    mass = np.zeros(reads.shape, np.float32)
    gate = np.zeros(reads.shape[:-1], np.float32)
    block = np.arange(count) // BLOCK
    for q, query in enumerate(queries):
        distance = np.linalg.norm(points - points[query], axis=1)
        for layer in range(layers):
            for head in range(heads):
                gate[q, layer, head] = 0.5, 0.25 + 0.05 * head, 0.75
                near = np.argsort(distance, kind="stable")[: 60 - 20 * layer]
                reads[q, layer, head, 0, near] = True
                reads[q, layer, head, 1] = True
                reads[q, layer, head, 2] = np.isin(block, [10 + 30 * head + layer, 60 + 20 * head])
                weights = [np.exp(-4 * distance), 1 + block % 7, np.ones(count)]
                for b, weight in enumerate(weights):
                    weight = weight * reads[q, layer, head, b]
                    mass[q, layer, head, b] = gate[q, layer, head, b] * weight / weight.sum()
    dims = ("query", "layer", "head", "branch", "point")
    variables = {"structural": (dims, reads), "mass": (dims, mass)}
    ds = xr.Dataset(
        {
            **{kind: variables[kind] for kind in kinds},
            "gate": (dims[:-1], gate),
            "position": (("point", "xyz"), points),
            "pressure": ("point", points[:, 0] ** 2),
        },
        coords={
            "query": list(queries),
            "layer": list(range(layers)),
            "head": list(range(heads)),
            "branch": BRANCHES,
            "xyz": list("xyz"),
        },
        attrs={"car": "test car"},
    )
    if faces:
        ds["faces"] = (("face", "corner"), triangles.astype(np.int32))
    return ds


def gates(*, faces=True):
    """Gates rise along x (ball), z (compression), y (selection): from 0.2 to 0.8 in head 0, to 0.5 in head 1."""
    points, triangles = body()
    share = (points - points.min(0)) / np.ptp(points, axis=0)
    head = 0.2 + 0.6 * share[:, [0, 2, 1]].T
    values = np.stack([head, 0.2 + (head - 0.2) / 2]).astype(np.float32)
    ds = xr.Dataset(
        {"gate": (("layer", "head", "branch", "point"), values[None]), "position": (("point", "xyz"), points)},
        coords={"layer": [5], "head": [0, 1], "branch": BRANCHES, "xyz": list("xyz")},
        attrs={"car": "test car"},
    )
    if faces:
        ds["faces"] = (("face", "corner"), triangles.astype(np.int32))
    return ds


def near(pixels, colour, within=40):
    """How many pixels (..., 3) lie within a distance of an ``#rrggbb`` colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(pixels[..., :3].astype(int) - wanted).sum(-1) < within).sum())
