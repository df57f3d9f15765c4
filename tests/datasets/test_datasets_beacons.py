"""Beacons: the cause is the partner's beacon, nothing near tells it, and recall counts who reads it."""

import numpy as np
import pytest
import torch

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.datasets import beacon_cloud, beacon_clouds, recall
from bsaviz.models import build


@pytest.fixture(scope="module")
def cloud():
    return beacon_cloud(3, clusters=8, points_per_cluster=32)


def test_the_cause_is_the_one_beacon_of_the_name_that_is_asked_for(cloud):
    names = "partner", "beacon", "value", "cause", "cluster"
    partner, beacon, value, cause, cluster = (cloud.fields[name] for name in names)
    np.testing.assert_allclose(beacon[cause, -1], 4 * value, rtol=1e-6)
    assert (beacon[cause, -2] == 4).all()
    np.testing.assert_array_equal(beacon[cause, :-2], partner)
    assert (cluster[cause] != cluster).all()
    carriers = (beacon != 0).any(1)
    assert carriers.sum() == len(np.unique(beacon[carriers, :-2], axis=0)) == 8
    assert (np.count_nonzero(partner, axis=1) == 1).all()


def test_clusters_come_in_pairs_and_every_cloud_is_drawn_anew(cloud):
    cluster, cause = cloud.fields["cluster"], cloud.fields["cause"]
    partner_of = dict(zip(cluster, cluster[cause]))
    assert all(partner_of[partner_of[one]] == one for one in partner_of)
    assert beacon_cloud(3, clusters=8, points_per_cluster=32).fields["value"].tolist() == cloud.fields["value"].tolist()
    assert beacon_cloud(4, clusters=8, points_per_cluster=32).fields["value"].tolist() != cloud.fields["value"].tolist()


def test_clusters_are_apart(cloud):
    positions, cluster, cause = cloud.positions, cloud.fields["cluster"], cloud.fields["cause"]
    middles = np.stack([positions[cluster == c].mean(0) for c in range(8)])
    own = np.linalg.norm(positions - middles[cluster], axis=1)
    far = np.linalg.norm(positions - positions[cause], axis=1)
    assert np.median(far) > 5 * np.median(own)


def test_recall_of_models_whose_reach_is_known(cloud):
    torch.manual_seed(0)
    queries = list(range(0, 256, 8))
    full = build("full", "tiny", in_features=18, depth=1)
    ball = build("ball", "tiny", in_features=18, depth=1, ball_size=32)
    read = lambda model: recall(bsaviz.receptive_field(model, cloud, queries, features=["partner", "beacon"]), cloud)
    assert read(full).item() == 1.0
    field = bsaviz.receptive_field(ball, cloud, queries, features=["partner", "beacon"])
    reads = field.structural.values.any((1, 2, 3))
    expected = np.mean([reads[i, cloud.fields["cause"][q]] for i, q in enumerate(queries)])
    assert recall(field, cloud).item() == pytest.approx(expected)
    assert recall(field, cloud, mass_above=2.0).item() == 0.0


def test_sets_of_clouds_differ():
    train, test = beacon_clouds(3, 2, clusters=4, points_per_cluster=4)
    assert [c.name for c in train + test] == [f"beacons {i}" for i in range(5)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(index=-1), "index must be a whole number of at least 0, got -1"),
        (dict(clusters=5), "clusters must be even, since they come in pairs, got 5"),
        (dict(clusters=2), "clusters must be a whole number of at least 4"),
        (dict(points_per_cluster=0), "points_per_cluster must be a whole number of at least 1"),
        (dict(spread=0), "spread must be a finite number above 0, got 0"),
    ],
)
def test_errors_say_what_was_expected(options, words):
    with pytest.raises(BsavizError, match=words):
        beacon_cloud(**{"index": 0} | options)


def test_recall_needs_the_field_of_this_cloud(cloud):
    model = build("ball", "tiny", in_features=18, depth=1, ball_size=32)
    field = bsaviz.receptive_field(model, cloud, 0, kinds="structural", features=["partner", "beacon"])
    with pytest.raises(BsavizError, match="needs a receptive field with 'mass'"):
        recall(field, cloud, mass_above=0.1)
    with pytest.raises(BsavizError, match="has no known causes for these 256 points"):
        recall(field, beacon_cloud(0, clusters=4, points_per_cluster=4))
