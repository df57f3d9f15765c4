"""Models by name, and configurations that cannot be."""

import json
from dataclasses import asdict

import pytest

from bsaviz._checks import BsavizError
from bsaviz.models import PRESETS, VARIANTS, Transformer, TransformerConfig, about, build, configure, presets, rebuild


@pytest.mark.parametrize("name", VARIANTS)
def test_every_name_has_the_common_presets(name):
    assert {"published", "small", "tiny"} <= set(presets(name))
    for preset in presets(name):
        configure(name, preset)


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if variant.family.model is Transformer])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_transformer_has_every_preset(name, preset):
    config = configure(name, preset)
    assert config.attention == {"full": "full", "ball": "ball", "nsa": "nsa"}.get(name, "bsa")
    assert config.group_compression == (name == "bsa-group-compression")
    assert config.group_selection == (name not in ("bsa-no-group-selection", "nsa"))


def test_published_preset_is_the_papers():
    config = configure("bsa", "published")
    expected = dict(dim=64, depth=18, num_heads=8, ball_size=256, block_size=8, group_size=8, top_k=4, mlp_ratio=4,
                    residual_every=6, rotation_angle=45.0, fourier_features=64, out_features=1)  # fmt: skip
    assert {name: getattr(config, name) for name in expected} == expected


def test_overrides_win():
    model = build("bsa", "tiny", depth=2, top_k=1)
    assert len(model.layers) == 2
    assert model.layers[0].attn.options["top_k"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("pangolin"), "unknown model 'pangolin'; there are bsa, "),
        (lambda: build("bsa", "huge"), "unknown preset 'huge'; there are published, small, tiny"),
        (lambda: build("bsa", heads=2), "unknown setting heads of a Transformer; there are attention, dim"),
        (lambda: TransformerConfig(attention="sparse"), "attention must be one of 'bsa', 'full', 'ball', 'nsa', got"),
        (lambda: TransformerConfig(dim=65), "dim must be a multiple of num_heads, got dim=65 and num_heads=8"),
        (lambda: TransformerConfig(depth=0), "depth must be an integer of at least 1, got 0"),
        (lambda: TransformerConfig(dim=64.0), "dim must be an integer of at least 1, got 64.0"),
        (lambda: TransformerConfig(ball_size=100), "ball_size must be a multiple of block_size, got 100 and 8"),
        (lambda: TransformerConfig(fourier_features=5), "fourier_features must be even"),
        (lambda: TransformerConfig(fourier_features=0), "a point has nothing to start from"),
        (lambda: TransformerConfig(coarse_scores=True, group_size=16), "coarse_scores needs group_size == block_size"),
        (
            lambda: TransformerConfig(group_compression=True, group_selection=False),
            "group_compression and coarse_scores need group_selection=True",
        ),
        (lambda: TransformerConfig(spatial_dims=4), "spatial_dims must be one of 2, 3, got 4"),
        (lambda: TransformerConfig(position_scaling="box"), "position_scaling must be one of 'length', 'none'"),
        (lambda: TransformerConfig(rotation_angle=float("nan")), "rotation_angle must be finite degrees or None"),
        (lambda: TransformerConfig(pooling="max"), "pooling must be 'mean' or 'mlp', got 'max'"),
    ],
)
def test_bad_configurations(call, message):
    with pytest.raises(BsavizError, match=message):
        call()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_model_is_rebuilt_from_what_a_json_keeps_of_it(name):
    config = configure(name, "tiny")
    again = rebuild(type(build(name, "tiny")).__name__, json.loads(json.dumps(asdict(config))))
    assert again.config == config


def test_an_unknown_class_is_said():
    with pytest.raises(BsavizError, match="unknown class of models 'Pangolin'; there are Transformer"):
        rebuild("Pangolin", {})


@pytest.mark.parametrize("name", VARIANTS)
def test_every_name_has_its_equation_symbols_paper_and_differences(name):
    text = about(name)
    assert "softmax" in text.equation
    assert "arXiv" in text.paper
    assert text.differences
    for symbol in ("q_i", "k_j", "v_j", *(["sigma"] if "sigma" in text.equation else [])):
        assert any(symbol in known for known in text.symbols)
    shown = str(text)
    assert all(part in shown for part in (text.title, text.equation, text.paper, text.differences, *text.symbols))


def test_about_says_what_there_is():
    with pytest.raises(BsavizError, match="unknown model 'bas'; there are bsa, "):
        about("bas")
