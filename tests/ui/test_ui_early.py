"""Large clouds: a layer without its own attention says the same, and sliders do not wait for the layers before it."""

import numpy as np
import pytest
import torch
from ui_cases import tiny_car, tiny_model, titles

from bsaviz.fields import Trace
from bsaviz.ui import ReceptiveFieldExplorer, field_source
from bsaviz.ui.early import EarlyTrace, possible

VARIANTS = {
    "bsa": dict(name="bsa"),
    "mlp pooling": dict(name="bsa", pooling="mlp"),
    "group compression": dict(name="bsa-group-compression"),
    "every query for itself": dict(name="bsa-no-group-selection"),
    "own ball admissible": dict(name="bsa", mask_own_ball=False),
    "published": dict(name="bsa", published=True),
    "static gate": dict(name="bsa", gate="static"),
    "features": dict(name="bsa", in_features=3),
    "ball": dict(name="ball"),
    "full": dict(name="full"),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_early_trace_agrees_with_a_whole_pass(variant):
    model, car = tiny_model(**VARIANTS[variant]), tiny_car()
    features = car.normals if variant == "features" else None
    positions = torch.as_tensor(car.positions)
    whole, tree = Trace(model, car, features=features), model.tree(positions)
    for layer in (0, 1):
        site = model.attention_sites(tree)[layer]
        early = EarlyTrace(model, positions, layer, features, tree, site)
        for query, head in ((3, None), (150, 1)):
            for name in ("readable", "mass"):
                expected, found = (getattr(trace, name)(query, layer, head) for trace in (whole, early))
                assert list(found) == list(expected)
                for branch in expected:
                    np.testing.assert_allclose(found[branch], expected[branch], atol=1e-6)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_blocks_chosen_otherwise_need_the_whole_pass():
    model = tiny_model("bsa-random")
    assert not any(map(possible, model.attention_sites(model.tree(torch.as_tensor(tiny_car().positions)))))


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(field_source, "LARGE", 100)
    monkeypatch.setattr(field_source, "QUIET", 0.0)


def test_a_large_cloud_is_explored_with_the_same_results(large):
    explorer = ReceptiveFieldExplorer(tiny_model(), tiny_car(), query=11, layer=2)
    whole = Trace(tiny_model(), tiny_car())
    for branch, reads in whole.readable(11, 2).items():
        assert explorer.readings[branch].points == reads.sum()
    explorer.sizes["top_k"].value = 5
    assert (
        explorer.readings["selection"].points
        == Trace(tiny_model(top_k=5), tiny_car()).readable(11, 2)["selection"].sum()
    )
    explorer.kind.value = "reach"
    assert explorer.problem is None
    explorer.close()


def test_what_follows_from_the_tree_is_shown_before_the_layers_run(large):
    explorer = ReceptiveFieldExplorer(tiny_model(), tiny_car(), query=11, layer=0)
    seen, paint = [], explorer._paint
    explorer._paint = lambda *asked: (paint(*asked), seen.append(titles(explorer.scene, 3)))
    explorer.layer.value = 2
    assert [title[2] for title in seen] == ["Selection, layer 2: running the layers", "Selection, layer 2"]
    assert [title[0] for title in seen] == ["Ball, layer 2"] * 2
    explorer.query.value = 40
    assert len(seen) == 3, "the layers have run: one picture"
    explorer.close()
