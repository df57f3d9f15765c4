"""Pictures of every kind of field, of regions, and of models whose layers differ."""

import numpy as np
import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.fields import KINDS, Region, receptive_field
from bsaviz.models import build
from bsaviz.view import picture
from bsaviz.view.branches import QUERY_COLOUR, rgb
from bsaviz.view.choose import DIMS
from bsaviz.view.choose import KINDS as DRAWN
from bsaviz.view.files import vtk_mesh
from bsaviz.view.reading import read_field

POINTS = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def rf():
    torch.manual_seed(0)
    model = build("bsa", "tiny", dim=16, depth=2, ball_size=16, block_size=4, group_size=4, top_k=2)
    return receptive_field(model, POINTS, [5, Region("left wing", [7, 8, 30])], kinds=KINDS)


@pytest.fixture(scope="module")
def erwin():
    torch.manual_seed(0)
    model = build(
        "erwin", "tiny", dims=(8, 16), ball_sizes=(8, 4), strides=(2,), enc_depths=(1, 1), enc_num_heads=(2, 4),
        dec_depths=(1,), dec_num_heads=(2,), mp_steps=0,
    )  # fmt: skip
    return receptive_field(model, POINTS, 5)


def test_every_kind_of_field_can_be_drawn(rf):
    assert DRAWN == KINDS
    assert all(rf[kind].dims == DIMS[kind] for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_is_drawn(rf, kind):
    reading = read_field(rf, kind=kind, layer=1)
    one = rf[kind].isel(query=0)
    one = one.sel(layer=1) if "layer" in one.dims else one
    one = (one.any("head") if one.dtype == bool else one.mean("head")) if "head" in one.dims else one
    for branch, levels in zip(reading.branches, reading.levels):
        own = one.sel(branch=branch) if "branch" in one.dims else one
        np.testing.assert_array_equal(levels > 0, own > 0)
    assert (reading.bar is None) == (one.dtype == bool)
    drawn = picture(rf, kind=kind)
    assert len(drawn.panels) == (1 if kind == "model_gradient" else 3)
    assert len({panel.heading for panel in drawn.panels}) == len(drawn.panels)


def test_words(rf):
    footer = lambda **choice: read_field(rf, **choice).footer
    assert footer(kind="reach", layer=1) == "cloud, query point 5, layers 0 to 1"
    assert footer(kind="gradient", layer=1).endswith("layer 1, all 2 heads (mean)")
    assert footer(kind="rollout", layer=0).endswith("layer 0")
    assert footer(kind="rollout", layer=1).endswith("layers 0 to 1")
    assert footer(kind="model_gradient").endswith("whole model")
    count = int(rf["reach"].sel(branch="selection", layer=1).isel(query=0).sum())
    assert read_field(rf, kind="reach").captions[1] == f"ball + selection: {count} points ({100 * count / 90:.1f} %)"
    assert read_field(rf, kind="rollout").captions[0].startswith("ball: mass 0.")
    largest = float(rf["model_gradient"][0].max())
    assert read_field(rf, kind="model_gradient").captions[0].startswith(f"whole model: at most {largest:.3g}, at ")


def test_a_region_s_points_are_marked(rf):
    middle = int(rf["query"][1])
    reading = read_field(rf, query=middle)
    assert reading.region.tolist() == [7, 8, 30]
    assert "query left wing (3 points)" in reading.footer
    assert read_field(rf).region is None
    drawn = picture(rf, query=middle)
    assert ("query points", QUERY_COLOUR) in drawn.legend
    for panel in drawn.panels:
        marked = next(dots for dots in panel.dots if dots.name == "query points")
        assert marked.points.tolist() == [7, 8, 30]
        assert (marked.colours == rgb(QUERY_COLOUR)).all()
        assert not any({7, 8, 30} & set(dots.points.tolist()) for dots in panel.dots if dots is not marked)


def test_all_kinds_go_into_the_vtk_file(rf):
    mesh = vtk_mesh(rf, layer=0, head=1)
    np.testing.assert_array_equal(mesh["gradient_selection"], rf["gradient"][0, 0, 1, 2])
    np.testing.assert_array_equal(mesh["reach_ball"].astype(bool), rf["reach"][0, 0, 0])
    np.testing.assert_array_equal(mesh["model_gradient"], rf["model_gradient"][0])
    assert mesh.field_data["gate_ball"][0] == float(rf["gate"][0, 0, 1, 0])


def test_layers_with_fewer_heads_and_coarse_levels(erwin):
    footer = lambda layer: read_field(erwin, layer=layer).footer
    assert footer(0).endswith("layer 0 (level 0), all 2 heads (union)")
    assert footer(1).endswith("layer 1 (level 1), all 4 heads (union)")
    mass = erwin["mass"].sel(layer=0).isel(query=0)
    assert np.isnan(mass.sel(head=3)).all()
    reading = read_field(erwin, kind="mass", layer=0)
    assert reading.captions[0].startswith("ball: mass 1.000")
    with pytest.raises(BsavizError, match="layer 0 has no head 3; it has fewer heads than other layers"):
        read_field(erwin, kind="mass", layer=0, head=3)


def test_a_kind_without_heads_refuses_one(rf):
    with pytest.raises(BsavizError, match="'rollout' is of all heads together; leave head out"):
        read_field(rf, kind="rollout", head=1)


def test_a_selection_draws_as_the_whole(rf):
    small = rf.isel(query=0, layer=1).drop_vars("in_region")
    for kind in KINDS:
        assert read_field(small, kind=kind).captions == read_field(rf, kind=kind).captions
