"""Samples: checks, subsets, pictures."""

from dataclasses import replace

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import Sample


@pytest.fixture
def sample():
    generator = np.random.default_rng(0)
    points = generator.normal(size=(30, 3))
    chain = np.arange(29)
    edges = np.concatenate([[chain, chain + 1], [chain + 1, chain]], axis=1)
    fields = {"heat": points[:, 0] * 2, "speed": points, "kind": np.arange(30) % 3}
    return Sample("toy", points, fields, "speed", ("heat", "kind"), edges=edges, position_mean=(5.0,),
                  position_std=(2.0, 1.0, 1.0), units={"speed": "m/s"}, attrs={"generated": True})  # fmt: skip


def test_what_is_learnt_and_read(sample):
    assert sample.target.shape == (30, 3)
    assert sample.features.shape == (30, 2)
    assert sample.features.dtype == np.float32
    np.testing.assert_array_equal(sample.features[:, 0], sample.fields["heat"])
    assert sample.num_outputs == 3
    assert replace(sample, loss="nll").num_outputs == 6
    assert replace(sample, feature_names=()).features is None
    np.testing.assert_allclose(sample.physical_positions, sample.positions * [2, 1, 1] + 5, rtol=1e-6)
    assert repr(sample) == "Sample('toy': 30 points, 58 edges, learns 'speed')"


def test_a_subset_keeps_points_fields_and_the_bonds_between_them(sample):
    some = sample.subsample(12)
    rows = [int(np.flatnonzero((sample.positions == point).all(1))[0]) for point in some.positions]
    assert rows == sorted(rows)
    assert len(set(rows)) == 12
    np.testing.assert_array_equal(some.target, sample.target[rows])
    wanted = {(a, b) for a, b in sample.edges.T.tolist() if a in rows and b in rows}
    assert {(rows[a], rows[b]) for a, b in some.edges.T} == wanted
    assert some.attrs["subsampled_from"] == 30
    assert sample.subsample(30) is sample


def test_bonds_are_drawn_once_and_in_physical_coordinates(sample):
    mesh = sample.to_pyvista()
    assert mesh.n_lines == 29
    np.testing.assert_allclose(mesh.points, sample.physical_positions)
    assert set(mesh.array_names) == {"heat", "speed", "kind"}


def test_a_plane_sample_lies_at_zero_height():
    mesh = Sample("flat", np.eye(2), {"u": [1.0, 2.0]}, "u").to_pyvista()
    np.testing.assert_array_equal(mesh.points, [[1, 0, 0], [0, 1, 0]])
    assert mesh.n_verts == 2


GOOD = dict(name="toy", positions=np.zeros((4, 3)), fields={"u": np.zeros(4)}, target_name="u")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"positions": np.zeros((4, 4))}, r"positions must have shape \(points, 2 or 3\), got \(4, 4\)"),
        ({"positions": np.zeros((0, 3)), "fields": {"u": np.zeros(0)}}, r"\(points, 2 or 3\), got \(0, 3\)"),
        ({"positions": [[0, 0, np.nan]] * 4}, "4 of 4 values of positions are NaN or infinite, the first at index 0"),
        ({"fields": {"u": np.zeros(3)}}, r"u must have one value \(or one row\) a point"),
        ({"fields": {"u": [0, 0, np.inf, 0]}}, "1 of 4 values of u are NaN or infinite, the first at index 2"),
        ({"fields": {"u": ["a"] * 4}}, "u must hold numbers"),
        ({"target_name": "v"}, "there is no field 'v'; its fields are u"),
        ({"feature_names": ("w",)}, "there is no field 'w'; its fields are u"),
        ({"loss": "l1"}, "loss must be one of 'mse', 'relative_l2', 'nll', got 'l1'"),
        ({"edges": np.zeros((3, 2), int)}, r"edges must be integers of shape \(2, edges\), got int64 \(3, 2\)"),
        ({"edges": np.array([[0], [4]])}, "edges must join points 0 to 3, got indices from 0 to 4"),
    ],
)
def test_bad_samples_are_refused(changed, message):
    with pytest.raises(BsavizError, match=f"sample 'toy'.*{message}"):
        Sample(**{**GOOD, **changed})


@pytest.mark.parametrize("count", [0, 2.5, "3"])
def test_a_subset_needs_a_count(sample, count):
    with pytest.raises(BsavizError, match="subsample needs a positive whole number of points"):
        sample.subsample(count)
