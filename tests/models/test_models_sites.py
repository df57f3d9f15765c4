"""Attention sites: where a model attends, and which slot each point has there."""

import pytest
import torch

from bsaviz._checks import BsavizError
from bsaviz.models import build

POINTS = torch.randn(150, 3, generator=torch.Generator().manual_seed(0))


def small(name, **overrides):
    return build(name, "tiny", depth=2, ball_size=32, **overrides)


@pytest.mark.parametrize("name", ["bsa", "bsa-no-group-selection", "full", "ball"])
def test_sites_name_the_attentions_and_place_the_points(name):
    model = small(name)
    tree = model.tree(POINTS)
    sites = model.attention_sites(tree)
    assert [site.name for site in sites] == ["layers.0.attn", "layers.1.attn"]
    assert [site.attention for site in sites] == [model.get_submodule(site.name) for site in sites]
    for site in sites:
        assert torch.equal(site.order[site.slots], torch.arange(150))
        assert torch.equal(site.slots.sort().values, site.attended.nonzero()[:, 0])
        assert site.level == 0


def test_odd_layers_have_the_order_of_the_rotated_tree():
    model = small("bsa")
    tree = model.tree(POINTS)
    first, second = model.attention_sites(tree)
    assert torch.equal(first.order, tree.order[0])
    assert torch.equal(second.order, tree.rotated.order[0])


def test_the_published_model_reads_its_padding():
    model = small("bsa", published=True)
    tree = model.tree(POINTS)
    assert not tree.mask.all()
    assert all(site.attended.all() for site in model.attention_sites(tree))


@pytest.mark.parametrize(
    ("name", "branches", "parameters"),
    [
        ("full", ("full",), {}),
        ("ball", ("ball",), {"ball_size": 32}),
        (
            "bsa",
            ("ball", "compression", "selection"),
            {"ball_size": 32, "block_size": 8, "group_size": 8, "group_compression": False},
        ),
        (
            "bsa-no-group-selection",
            ("ball", "compression", "selection"),
            {"ball_size": 32, "block_size": 8, "group_size": 1, "group_compression": False},
        ),
    ],
)
def test_an_attention_tells_what_decides_who_reads_whom(name, branches, parameters):
    attention = small(name).layers[0].attn
    found = attention.trace_parameters()
    assert attention.branches == branches
    assert {name: value for name, value in found.items() if name != "distance_slope"} == parameters
    assert ("distance_slope" in found) == (name != "full")
    assert not any(isinstance(value, torch.Tensor) and value.requires_grad for value in found.values())


def test_a_batch_is_refused():
    model = small("ball")
    tree = model.tree(POINTS, torch.arange(150) // 75)
    with pytest.raises(BsavizError, match="attention_sites looks at one sample, but the tree has 2"):
        model.attention_sites(tree)
