"""Published weights read into our modules, from every wrapping they come in, and refused with a reason."""

import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from upstream_names import upstream_weights

from bsaviz._checks import BsavizError
from bsaviz.attention import BallAttention, BallSparseAttention, FullAttention
from bsaviz.models import Transformer, TransformerConfig, build, import_upstream

PUBLISHED = dict(published=True, position_scaling="none", depth=2)
SIZES = dict(ball_size=64, window=64)


def published(name="bsa", **overrides):
    torch.manual_seed(0)
    return build(name, "tiny", **{**PUBLISHED, **overrides})


def same(module, other):
    weights, others = module.state_dict(), other.state_dict()
    return all(torch.equal(weights[n], others[n]) for n in weights if not n.startswith("output_"))


def prefixed(weights):
    """Names as a compiled and distributed run of the ShapeNet-Car model saves them."""
    outside = ("pos_enc.", "pred_head.")
    named = {}
    for name, value in weights.items():
        name = name.replace(".attn.", ".attn._orig_mod.")
        named["module." + (name if name.startswith(outside) else f"main_model.{name}")] = value
    return named


@pytest.mark.parametrize("name", ["bsa", "ball", "full"])
def test_the_configuration_is_read_off_the_weights(name):
    model = published(name, num_heads=4, mlp_ratio=3)
    settings = dict(num_heads=4) if name == "full" else {}
    imported = import_upstream(upstream_weights(model), **SIZES, **settings)
    assert isinstance(imported, Transformer)
    assert imported.config == model.config
    assert same(imported, model)
    assert not imported.training


def test_learnt_pooling_and_static_gates_are_recognised():
    model = published(pooling="mlp", gate="static", block_size=4, group_size=4, coarse_scores=True)
    imported = import_upstream(upstream_weights(model), **SIZES, coarse_scores=True)
    assert imported.config == model.config
    assert same(imported, model)


def test_unused_query_pooling_is_left_out():
    model = published(pooling="mlp", coarse_scores=True)
    imported = import_upstream(upstream_weights(model), **SIZES)
    assert "q" not in imported.layers[0].attn.pooling


@pytest.mark.parametrize("wrap", [lambda w: w, lambda w: {"model_state_dict": w}, lambda w: {"state_dict": w, "n": 3}])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".npz", ""])
def test_checkpoints_of_every_wrapping(tmp_path, wrap, suffix):
    model = published()
    weights = prefixed(upstream_weights(model))
    source = tmp_path / f"weights{suffix}"
    if suffix == "":
        source = wrap(weights)
    elif suffix == ".safetensors":
        safetensors.torch.save_file(weights, source)
    elif suffix == ".npz":
        np.savez(source, **{f"param/{name}": value.numpy() for name, value in weights.items()})
    else:
        torch.save(wrap(weights), source)
    imported = import_upstream(source, **SIZES)
    assert same(imported, model)


def test_car_model_predicts_pascals():
    model = import_upstream(upstream_weights(published()), **SIZES)
    positions = torch.rand(50, 3)
    torch.testing.assert_close(model.predict(positions), model(positions)[:, 0].detach() * 48.5743 - 36.3099)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (BallSparseAttention(16, 2, 32), BallSparseAttention),
        (BallAttention(16, 2, 32), BallAttention),
        (FullAttention(16, 2), FullAttention),
    ],
)
def test_single_attentions(layer, kind):
    imported = import_upstream(upstream_weights(layer), ball_size=32, num_heads=2)
    assert isinstance(imported, kind)
    x, positions = torch.randn(1, 64, 16), torch.randn(1, 64, 3)
    torch.testing.assert_close(imported(x, positions), layer(x, positions))


def test_positions_of_full_attention_are_not_used():
    weights = upstream_weights(FullAttention(16, 2))
    weights |= {"position_proj.weight": torch.ones(16, 3), "position_proj.bias": torch.ones(16)}
    assert isinstance(import_upstream(weights, num_heads=2), FullAttention)


def test_ball_attention_of_erwin_packs_its_rows_otherwise():
    layer = BallAttention(16, 2, 32)
    weights = upstream_weights(layer)
    erwin = {name.replace("position_proj", "pe_proj").replace("out_proj", "proj"): x for name, x in weights.items()}
    for kind in ("weight", "bias"):  # rows (3, H, d) there are rows (H, d, 3) here
        x = weights[f"qkv.{kind}"]
        erwin[f"qkv.{kind}"] = x.unflatten(0, (3, 2, 8)).movedim(0, 2).flatten(0, 2)
    assert same(import_upstream(erwin, ball_size=32), layer)


def test_a_given_configuration_is_taken_whole():
    config = TransformerConfig(dim=32, depth=2, num_heads=2, ball_size=64, fourier_features=32, top_k=2)
    imported = import_upstream(upstream_weights(published()), config, top_k=3)
    assert imported.config.top_k == 3
    assert imported.config.position_scaling == "length"


class _Runs:
    def __reduce__(self):
        return print, ("this must not run",)


def test_pickles_that_run_code_are_not_opened(tmp_path, capsys):
    path = tmp_path / "weights.pt"
    torch.save({"a": _Runs()}, path)
    with pytest.raises(BsavizError, match=r"tensors \(it holds more than tensors, or is damaged\).*save its state"):
        import_upstream(path)
    path.write_bytes(pickle.dumps(_Runs(), protocol=2))
    with pytest.raises(BsavizError, match="weights.pt"):
        import_upstream(path)
    assert capsys.readouterr().out == ""


def _without(name):
    weights = upstream_weights(published())
    del weights[name]
    return weights


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (_without("layers.1.attn.out_proj.bias"), {}, "1 missing: layers.1.attn.out_proj.bias"),
        (_without("layers.1.attn.position_proj.bias"), {}, "1 missing: layers.1.attn.position_proj.bias"),
        (upstream_weights(published()) | {"extra.weight": torch.ones(1)}, {}, "1 unexpected: extra.weight"),
        (
            upstream_weights(published()) | {"layers.1.norm1.weight": torch.ones(3)},
            {},
            r"1 of another shape: layers.1.norm1.weight is \(3,\), expected \(32,\)",
        ),
        (upstream_weights(published()), dict(depth=1), "unexpected: layers.1.attn.gated_attention"),
        (upstream_weights(published()), dict(heads=1), "unknown setting heads of a Transformer"),
        (upstream_weights(published()), dict(config="bsa"), "config must be a TransformerConfig, got str"),
        ({"conv.weight": torch.ones(1)}, {}, "not weights of a published BSA transformer .*got conv.weight"),
        ({}, {}, "no state dict found"),
        ({"step": 3}, {}, "no state dict found"),
    ],
)
def test_weights_that_do_not_fit(weights, settings, message):
    with pytest.raises(BsavizError, match=message):
        import_upstream(weights, **settings)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
def test_unreadable_files(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    with pytest.raises(BsavizError, match="there is no (weights )?file"):
        import_upstream(path)
    path.write_bytes(b"half a fi")
    with pytest.raises(BsavizError, match=f"weights{suffix} (cannot be read as plain tensors|is no readable .npz)"):
        import_upstream(path)
