"""The receptive-field explorer without a browser: what is painted, counted and refused."""

import asyncio

import numpy as np
import pytest
import torch
from ui_cases import bar, marks, tints, tiny_car, tiny_model, titles

import bsaviz
from bsaviz._checks import BsavizError
from bsaviz.study import count_gflops
from bsaviz.ui import ReceptiveFieldExplorer
from bsaviz.view.branches import COLOURS, rgb

BRANCHES = ("ball", "compression", "selection")


@pytest.fixture
def explorer():
    with_it = ReceptiveFieldExplorer(tiny_model(), tiny_car(), query=11, layer=1)
    yield with_it
    with_it.close()


def painted(scene, panel, branch):
    return (tints(scene, panel) == rgb(COLOURS[branch])).all(1)


def field(model, query, layer, **choice):
    return bsaviz.receptive_field(model, tiny_car(), query, layers=layer, **choice).isel(query=0, layer=0)


def test_the_three_panels_are_the_structural_field(explorer):
    expected = field(tiny_model(), 11, 1)["structural"].any("head")
    for panel, branch in enumerate(BRANCHES):
        np.testing.assert_array_equal(painted(explorer.scene, panel, branch), expected.sel(branch=branch))
        assert marks(explorer.scene, panel) == {"#D55E00": [11]}
    assert titles(explorer.scene, 3) == ["Ball, layer 1", "Compression, layer 1", "Selection, layer 1"]


def test_query_layer_and_head_move_the_field(explorer):
    explorer._pick(150, panel=2)
    explorer.layer.value, explorer.head.value = 2, 1
    expected = field(tiny_model(), 150, 2, heads=1)["structural"].isel(head=0)
    for panel, branch in enumerate(BRANCHES):
        np.testing.assert_array_equal(painted(explorer.scene, panel, branch), expected.sel(branch=branch))
    assert explorer.query.value == 150
    assert explorer.landmark.value == "another point"


def test_landmarks_send_the_query(explorer):
    roof = bsaviz.fields.landmarks(tiny_car())["roof"]
    explorer.landmark.value = "roof"
    assert explorer.query.value == roof
    assert marks(explorer.scene)["#D55E00"] == [roof]
    explorer.query.value = roof + 1
    assert explorer.landmark.value == "another point"


def test_sizes_rebuild_the_tree_and_run_the_layers_again(explorer):
    sizes = dict(ball_size=64, block_size=8, group_size=8, top_k=3)
    for name, value in sizes.items():
        explorer.sizes[name].value = value
    expected = field(tiny_model(**sizes), 11, 1)["structural"].any("head")
    for panel, branch in enumerate(BRANCHES):
        np.testing.assert_array_equal(painted(explorer.scene, panel, branch), expected.sel(branch=branch))


def test_mass_is_painted_with_a_bar_from_zero(explorer):
    explorer.kind.value = "mass"
    mass = field(tiny_model(), 11, 1)["mass"].mean("head")
    for panel, branch in enumerate(BRANCHES):
        label, low, high = bar(explorer.scene, panel)
        assert (label, low) == ("attention mass (1/1000)", 0.0)
        assert high == pytest.approx(1000 * float(mass.sel(branch=branch).max()), rel=1e-3)


def test_every_kind_there_is_can_be_painted(explorer):
    for kind in bsaviz.fields.KINDS:
        explorer.kind.value = kind
        assert explorer.problem is None, kind
    explorer.kind.value = "structural"
    assert tints(explorer.scene) is not None


def test_one_branch_alone_gets_the_whole_scene(explorer):
    explorer.scene.camera = "top"
    camera = explorer.scene.camera
    explorer.branch.value = "selection"
    assert titles(explorer.scene, 1) == ["Selection, layer 1"]
    assert explorer.scene.camera == camera, "the camera is kept"
    explorer._pick(40, panel=0)
    assert explorer.query.value == 40, "the new scene can be picked too"


def test_numbers_are_those_of_the_summary(explorer):
    explorer.head.value = 0
    expected = bsaviz.fields.summary(field(tiny_model(), 11, 1, heads=0)).isel(head=0)
    for branch, reading in explorer.readings.items():
        told = expected.sel(branch=branch)
        assert reading.points == int(told["points_read"])
        assert reading.surface == pytest.approx(float(told["surface_read"]))
        assert reading.distance == pytest.approx(float(told["mean_distance"]))
        assert reading.mass == pytest.approx(float(told["mass"]), rel=1e-5)
        assert reading.outside == pytest.approx(float(told["mass_outside_ball"]), rel=1e-5)


def test_the_cost_is_that_of_the_settings(explorer):
    assert f"{count_gflops(tiny_model(), 200):.2f} GFLOPs" in explorer.numbers.value
    explorer.sizes["ball_size"].value = 64
    assert f"{count_gflops(tiny_model(ball_size=64), 200):.2f} GFLOPs" in explorer.numbers.value


def test_problems_are_shown_in_place_and_it_goes_on(explorer):
    before = tints(explorer.scene).copy()
    explorer.sizes["ball_size"].value = 256
    assert "larger than this cloud of 200; lower the ball size to 128 or less" in explorer.message.value
    assert "The picture stays as it was." in explorer.message.value
    explorer.sizes["ball_size"].value = 32
    explorer.sizes["block_size"].value = 64
    assert "a block of 64 points does not divide a ball of 32" in explorer.message.value
    explorer.sizes["block_size"].value = 16
    explorer.sizes["top_k"].value = 20
    assert "top_k=20" in explorer.message.value
    assert "14 blocks" in explorer.message.value
    explorer.sizes["top_k"].value, explorer.sizes["block_size"].value = 2, 4
    assert explorer.message.value == ""
    np.testing.assert_array_equal(tints(explorer.scene), before)


def test_a_fixed_size_is_said_in_place():
    explorer = ReceptiveFieldExplorer(tiny_model(pooling="mlp"), tiny_car())
    assert explorer.sizes["block_size"].disabled
    assert "the block size stays 4: the perceptron that pools a block" in explorer.message.value
    explorer.close()


@pytest.mark.parametrize(("name", "branches"), [("full", ["full"]), ("ball", ["ball"])])
def test_other_attention_shows_its_own_branches(name, branches):
    explorer = ReceptiveFieldExplorer(tiny_model(name), tiny_car())
    assert list(explorer.readings) == branches
    assert list(explorer.sizes) == (["ball_size"] if name == "ball" else [])
    explorer.close()


def test_a_flat_cloud_with_a_flat_model():
    points = np.random.default_rng(0).normal(size=(90, 2)).astype(np.float32)
    explorer = ReceptiveFieldExplorer(tiny_model(spatial_dims=2), points)
    assert explorer.readings["ball"].points > 0
    explorer.close()


def test_what_cannot_be_shown_at_all_is_an_error_of_the_call():
    with pytest.raises(BsavizError, match="in_features=2"):
        ReceptiveFieldExplorer(tiny_model(in_features=2), tiny_car())


def test_a_fast_drag_ends_on_the_last_value_with_nothing_stale(explorer):
    """Twenty steps of two sliders, as a browser sends them, on a running loop."""

    async def drag():
        for step in range(20):
            explorer.query.value = step
            explorer.sizes["top_k"].value = 1 + step % 4
            await asyncio.sleep(0.001)
        for _ in range(500):
            if not explorer.working:
                return
            await asyncio.sleep(0.01)

    asyncio.run(drag())
    expected = field(tiny_model(top_k=4), 19, 1)
    reads = expected["structural"].any("head")
    for panel, branch in enumerate(BRANCHES):
        np.testing.assert_array_equal(painted(explorer.scene, panel, branch), reads.sel(branch=branch))
    assert explorer.readings["selection"].points == int(reads.sel(branch="selection").sum())
    assert marks(explorer.scene) == {"#D55E00": [19]}


def test_the_users_model_is_left_as_it_was():
    model = tiny_model()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explorer = ReceptiveFieldExplorer(model, tiny_car())
    explorer.sizes["ball_size"].value = 64
    explorer.close()
    assert model.training
    assert model.config.ball_size == 32
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
