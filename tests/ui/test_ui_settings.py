"""Which sizes of a trained model are free, and the same weights with other sizes."""

import pytest
import torch
from ui_cases import tiny_car, tiny_model

from bsaviz._checks import BsavizError
from bsaviz.models import build
from bsaviz.ui.settings import settings_of, with_settings


def settings(model):
    points = torch.as_tensor(tiny_car().positions)
    return settings_of(model, model.attention_sites(model.tree(points)))


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("bsa", ["ball_size", "block_size", "group_size", "top_k"]),
        ("ball", ["ball_size"]),
        ("full", []),
    ],
)
def test_a_model_has_the_sizes_that_its_branches_read_with(name, there):
    found = settings(tiny_model(name))
    assert list(found) == there
    assert not any(setting.fixed for setting in found.values())


def test_a_pooling_perceptron_fixes_the_block():
    model = tiny_model(pooling="mlp")
    assert [name for name, setting in settings(model).items() if setting.fixed] == ["block_size"]
    with pytest.raises(BsavizError, match="block size cannot change from 4 to 8.*perceptron that pools a block"):
        with_settings(model, {"block_size": 8})
    points = torch.as_tensor(tiny_car().positions)
    assert with_settings(model, {"ball_size": 64, "top_k": 3})(points).isfinite().all()


def test_groups_that_the_model_ties_to_something_else_are_fixed():
    coarse = tiny_model("bsa-group-compression")
    assert settings(coarse)["group_size"].fixed
    other = with_settings(coarse, {"block_size": 8})
    assert (other.config.block_size, other.config.group_size) == (8, 8)
    assert settings(tiny_model("bsa-no-group-selection"))["group_size"].fixed


def test_other_sizes_share_the_weights_and_predict_as_a_model_built_so():
    model, points = tiny_model(), torch.as_tensor(tiny_car().positions)
    other = with_settings(model, {"ball_size": 64, "top_k": 3})
    built = tiny_model(ball_size=64, top_k=3)
    with torch.no_grad():
        torch.testing.assert_close(other(points), built(points))
        assert not torch.allclose(other(points), model(points))
    theirs = dict(other.named_parameters())
    assert all(theirs[name].data_ptr() == own.data_ptr() for name, own in model.named_parameters())


def test_levels_of_equal_balls_change_together():
    def erwin(balls):
        return build("erwin", "tiny", ball_sizes=balls)

    levels = len(build("erwin", "tiny").config.ball_sizes)
    model = erwin((32,) * levels)
    assert [(s.name, s.value, s.fixed) for s in settings(model).values()] == [("ball_size", 32, "")]
    assert with_settings(model, {"ball_size": 16}).config.ball_sizes == (16,) * levels
    assert "different sizes" in settings(erwin((32,) + (16,) * (levels - 1)))["ball_size"].fixed


def test_sizes_that_do_not_fit_each_other_are_refused():
    with pytest.raises(BsavizError, match="multiple of block_size"):
        with_settings(tiny_model(), {"block_size": 64})
