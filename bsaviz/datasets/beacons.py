r"""A task whose causes are known: every point must find one beacon in a distant cluster, by content.

Clusters of points come in pairs. Each cluster has a name, drawn anew in every cloud, and one point that is its beacon:
only that one carries the cluster's own name, and a value. Every point is given the name of its *partner* cluster, and
its target is the value of the beacon of that name: the answer lies in one far point that only content tells. So "did
the model read the cause" has an answer: `recall`.
"""

import numpy as np

from bsaviz._checks import BsavizError
from bsaviz.datasets.car import Car

LOUDNESS = 4.0  # of what is given: at 1 the coordinates drown it at first, and many a training never hears it


def beacon_cloud(index, *, clusters=16, points_per_cluster=64, spread=0.25, seed=0):
    """One cloud of the set.

    Parameters
    ----------
    index : int
        Which cloud; each draws its own places, names, pairs and values.
    clusters : int
        Even, at least 4.
    points_per_cluster : int
    spread : float
        Standard deviation of a cluster; the clusters' middles are 1 apart and more.
    seed : int

    Returns
    -------
    Car
        A cloud with the fields ``partner`` (P, clusters), the partner's name, and ``beacon`` (P, clusters + 2), zeros
        but for beacons: the own name, 4, and 4 times the value; both are to be given. ``value`` (P,) is to be learnt;
        ``cause`` (P,) int64 is the point that holds the answer, ``cluster`` (P,) int64 tells the clusters apart. A name
        is one of `clusters` axes, 4 sqrt(clusters) long.
    """
    _check(index=(index, 0), clusters=(clusters, 4), points_per_cluster=(points_per_cluster, 1), seed=(seed, 0))
    if clusters % 2:
        raise BsavizError(f"clusters must be even, since they come in pairs, got {clusters}")
    if not (np.isfinite(spread) and spread > 0):
        raise BsavizError(f"spread must be a finite number above 0, got {spread!r}")
    rng = np.random.default_rng((seed, index))
    cluster = np.repeat(np.arange(clusters), points_per_cluster)
    positions = _middles(rng, clusters)[cluster] + spread * rng.normal(size=(len(cluster), 3)) / 3
    partner = np.empty(clusters, np.int64)
    first, second = rng.permutation(clusters).reshape(2, -1)
    partner[first], partner[second] = second, first
    names = clusters**0.5 * np.eye(clusters)[rng.permutation(clusters)]
    beacons = np.arange(clusters) * points_per_cluster + rng.integers(points_per_cluster, size=clusters)
    values = rng.normal(size=clusters)
    beacon = np.zeros((len(cluster), clusters + 2))
    beacon[beacons] = LOUDNESS * np.column_stack([names, np.ones(clusters), values])
    shuffled = rng.permutation(len(cluster))  # input order tells nothing
    place = np.argsort(shuffled)
    fields = {
        "partner": (LOUDNESS * names[partner[cluster]][shuffled]).astype(np.float32),
        "beacon": beacon[shuffled].astype(np.float32),
        "value": values[partner[cluster]][shuffled].astype(np.float32),
        "cause": place[beacons[partner[cluster]]][shuffled],
        "cluster": cluster[shuffled],
    }
    attrs = {"clusters": clusters, "seed": seed, "index": index}
    return Car(f"beacons {index}", positions[shuffled], None, fields, {"value": "1"}, "generated: beacons", attrs)


def beacon_clouds(train=256, test=32, **options):
    """Training and test clouds; the options are those of :func:`beacon_cloud`."""
    _check(train=(train, 1), test=(test, 1))
    clouds = [beacon_cloud(i, **options) for i in range(train + test)]
    return clouds[:train], clouds[train:]


def recall(field, car, *, mass_above=None):
    """Share of the queries whose cause is read: the known causes make a receptive field right or wrong.

    Parameters
    ----------
    field : xarray.Dataset
        Of `bsaviz.receptive_field` on this cloud.
    car : Car
        Of :func:`beacon_cloud`.
    mass_above : float, optional
        Count a cause as read only where its mass is above this (needs ``mass``); None: where it may be read at all
        (needs ``structural``).

    Returns
    -------
    xarray.DataArray (layer, branch)
        A query counts where any of its heads reads its cause.
    """
    kind = "structural" if mass_above is None else "mass"
    if kind not in field or "query" not in field[kind].dims:
        raise BsavizError(f"recall needs a receptive field with {kind!r} and a dim 'query'; ask for kinds={kind!r}")
    if "cause" not in car.fields or len(car.positions) != field.sizes["point"]:
        raise BsavizError(f"{car.name!r} has no known causes for these {field.sizes['point']} points; "
                          "give the cloud of beacon_cloud that the field is of")  # fmt: skip
    causes = field["query"].copy(data=car.fields["cause"][field["query"].values])
    read = field[kind].isel(point=causes)
    read = read if mass_above is None else read > mass_above
    return read.any("head").mean("query").rename("recall")


def _middles(rng, count):
    """Places at least 1 apart, in a box that grows with their number."""
    side = 2.2 * count ** (1 / 3)
    places = [rng.uniform(0, side, 3)]
    while len(places) < count:
        place = rng.uniform(0, side, 3)
        if np.linalg.norm(np.array(places) - place, axis=1).min() >= 1:
            places.append(place)
    return np.array(places)


def _check(**counts):
    for name, (count, least) in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or count < least:
            raise BsavizError(f"{name} must be a whole number of at least {least}, got {count!r}")
