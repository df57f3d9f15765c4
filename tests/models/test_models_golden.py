"""Outputs of the published code reproduced, and the check that says so."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from upstream_names import write_golden

from bsaviz._checks import BsavizError
from bsaviz.attention import BallAttention, BallSparseAttention
from bsaviz.models import build, check_golden
from bsaviz.trees import BallTree

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("BSAVIZ_GOLDEN", ROOT / "../shared/golden"))
FILES = sorted(FOLDER.glob("*.npz"))
needs_files = pytest.mark.skipif(not FILES, reason=f"no golden files in {FOLDER}; set BSAVIZ_GOLDEN to their folder")


@needs_files
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_outputs_are_reproduced(path):
    report = check_golden(path)
    assert report.ok, str(report)
    names = {row.name for row in report.rows}
    if path.name.startswith("bsa_"):
        branches = {f"branch/{name}" for name in ("ball", "compression", "selection")}
        assert names == {"out", "out, float32", "grad_x", "selected blocks", *branches}


@needs_files
def test_a_changed_file_misses(tmp_path):
    source = next(path for path in FILES if path.name.startswith("bsa_"))
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["out"] = arrays["out"] * (1 + 1e-3)
    arrays["selected"] = arrays["selected"].copy()
    arrays["selected"][0, 0, 0, 0] += 1
    np.savez(tmp_path / "changed.npz", **arrays)
    report = check_golden(tmp_path / "changed.npz")
    missed = {row.name for row in report.rows if not row.ok}
    assert missed == {"out", "out, float32", "selected blocks"}
    assert not report.ok
    assert "changed.npz: MISSED" in str(report)


@needs_files
def test_a_weight_that_differs_misses(tmp_path):
    source = next(path for path in FILES if path.name.startswith("transformer_"))
    with np.load(source) as file:
        arrays = {name: file[name] for name in file.files}
    arrays["param/layers.1.mlp.w2.bias"] = arrays["param/layers.1.mlp.w2.bias"] + 0.01
    np.savez(tmp_path / "changed.npz", **arrays)
    assert not check_golden(tmp_path / "changed.npz").ok


def layer_file(path, layer, config, n=128, batch=2, dim=16):
    """A file of the attention-layer format from one of our layers, computed as the check does."""
    torch.manual_seed(1)
    x, positions = torch.randn(batch, n, dim), torch.randn(batch, n, 3)
    arrays = dict(x=x, pos=positions, cotangent=torch.randn(batch, n, dim))
    x = x.double().requires_grad_()
    out = layer.double()(x, positions.double())
    (gradient,) = torch.autograd.grad(out, x, arrays["cotangent"].double())
    return write_golden(path, layer, config, **arrays, out=out, grad_x=gradient)


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        (dict(block_size=4, group_size=16, top_k=3), {}),
        (dict(pooling="mlp", group_compression=True, coarse_scores=True), dict(use_coarse_q_attn=True)),
        (dict(gate="static", group_selection=False), dict(use_group_selection=False)),
        (dict(mask_own_ball=False), dict(should_mask_blocks_in_ball=False)),
        ({}, {}),
    ],
)
def test_layers_of_other_configurations(tmp_path, options, flags):
    torch.manual_seed(0)
    layer = BallSparseAttention(16, 4, 32, **options)
    sizes = {name: size for name, size in options.items() if name in ("block_size", "group_size", "top_k")}
    config = dict(dim=16, num_heads=4, ball_size=32, **sizes, **flags)
    assert check_golden(layer_file(tmp_path / "bsa_other.npz", layer, config)).ok


def test_a_ball_attention_layer(tmp_path):
    path = layer_file(tmp_path / "bsa_ball.npz", BallAttention(16, 4, 32), dict(num_heads=4, ball_size=32))
    report = check_golden(path)
    assert report.ok, str(report)
    layer_file(path, BallAttention(16, 4, 32), dict(num_heads=4, ball_size=32, attention="sparse"))
    missing = "the weights do not fit a BallSparseAttention .*missing: gated_attention.to_strategy.0.bias"
    with pytest.raises(BsavizError, match=missing):
        check_golden(path)


@pytest.mark.parametrize(("kind", "attention"), [("bsa", "sparse"), ("ball", "ball"), ("full", "global")])
def test_transformers_of_several_samples(tmp_path, kind, attention):
    torch.manual_seed(0)
    model = build(kind, "tiny", dim=16, depth=3, num_heads=4, ball_size=32, fourier_features=0, in_features=5,
                  out_features=0, published=True, position_scaling="none").double()  # fmt: skip
    batch = torch.repeat_interleave(torch.arange(2), torch.tensor([100, 70]))
    positions, features = torch.randn(170, 3), torch.randn(170, 5)
    tree = BallTree.build(
        positions, batch, ball_size=32, rotation_angle=45.0, padding="power_of_two", rotate_to="ball"
    )  # fmt: skip
    offset = torch.arange(2)[:, None] * tree.order.shape[1]
    with torch.no_grad():
        out = model(positions.double(), features.double(), tree=tree)
    path = write_golden(
        tmp_path / "transformer_two.npz", model,
        dict(dim=16, depth=3, num_heads=4, ball_size=32, attention=attention, rotate=True, residual_every=6),
        features=features, pos=positions, batch_idx=batch, out=out,
        tree_idx=tree.order.flatten(), tree_mask=tree.mask.flatten(), rotated_perm=(tree.rotation + offset).flatten(),
    )  # fmt: skip
    report = check_golden(path)
    assert report.ok, str(report)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones(2)}, "holds a, ...: no known format; supported are an attention layer"),
        ({"param/bottleneck.x": np.ones(2)}, "has no readable 'config'"),
        ({}, "holds nothing: no known format"),
        (dict.fromkeys(("x", "pos", "out"), np.ones((1, 8, 4))), "has no readable 'config'"),
        ({**dict.fromkeys(("x", "pos", "out"), np.ones((1, 8, 4))), "config": "[1, 2]"}, "has no readable 'config'"),
        (dict(x=np.ones((1, 8, 4)), pos=np.array(["a"]), out=np.ones(1)), "pos holds <U1, expected numbers"),
    ],
)
def test_other_formats_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(BsavizError, match=message):
        check_golden(tmp_path / "other.npz")


def test_unreadable_files(tmp_path):
    with pytest.raises(BsavizError, match="there is no file .*none.npz"):
        check_golden(tmp_path / "none.npz")
    (tmp_path / "half.npz").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(BsavizError, match=r"half.npz is no readable .npz file .*copy it again"):
        check_golden(tmp_path / "half.npz")
    np.save(tmp_path / "array.npy", np.ones(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(BsavizError, match="array.npz is no readable"):
        check_golden(tmp_path / "array.npz")


def test_an_unknown_attention_is_named(tmp_path):
    path = layer_file(
        tmp_path / "bsa_x.npz", BallAttention(16, 4, 32), dict(num_heads=4, ball_size=32, attention="linear")
    )  # fmt: skip
    with pytest.raises(BsavizError, match="unknown attention 'linear' in the file's config; known are 'sparse'"):
        check_golden(path)
