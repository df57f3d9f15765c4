"""Erwin against its formulas in the published layout, files of published outputs, and published weights."""

import json

import numpy as np
import pytest
import torch
from erwin_naive import erwin_weights, naive_erwin

from bsaviz._checks import BsavizError
from bsaviz.models import Erwin, build, check_golden, import_upstream

PUBLISHED = dict(published=True, position_scaling="none", fourier_features=0, in_features=4, out_features=0)
TWO_LEVELS = dict(dims=(8, 12), ball_sizes=(16, 8), strides=(2,), enc_depths=(2, 3), enc_num_heads=(2, 3),
                  dec_depths=(1,), dec_num_heads=(4,), mp_steps=1)  # fmt: skip
CASES = {
    "two levels": TWO_LEVELS,
    "decode off": TWO_LEVELS | dict(decode=False),
    "no rotation": TWO_LEVELS | dict(rotation_angle=None),
    "no messages, 2D": TWO_LEVELS | dict(mp_steps=0, spatial_dims=2),
    "strides 4 and 2": dict(dims=(4, 8, 16), ball_sizes=(32, 16, 8), strides=(4, 2), enc_depths=(1, 2, 2),
                            enc_num_heads=(1, 2, 4), dec_depths=(2, 1), dec_num_heads=(2, 2), mp_steps=3),
    "stride 1": TWO_LEVELS | dict(dims=(8, 8), strides=(1,), enc_num_heads=(2, 2), mlp_ratio=2),
    "one level": dict(dims=(8,), ball_sizes=(16,), strides=(), enc_depths=(2,), enc_num_heads=(2,), dec_depths=(),
                      dec_num_heads=()),
}  # fmt: skip


def erwin(case="two levels", **overrides):
    torch.manual_seed(0)
    model = Erwin(build("erwin", "tiny", **{**PUBLISHED, **CASES[case], **overrides}).config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    for name, buffer in model.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


def golden_file(path, model, **changes):
    """A file in the format of the published outputs, its output written out slot by slot."""
    config = model.config
    batch = torch.repeat_interleave(torch.arange(2), torch.tensor([50, 41]))
    positions, features = torch.randn(91, config.spatial_dims), torch.randn(91, 4)
    tree = model.tree(positions, batch)
    edges = model.graph(positions, tree)
    offsets = [torch.arange(2)[:, None] * rotation.shape[1] for rotation in model._rotations(tree)]
    turned = [(rotation + offset).flatten() for rotation, offset in zip(model._rotations(tree), offsets)]
    rotations = turned or [None] * len(config.dims)
    double = Erwin(config).eval().double()
    double.load_state_dict(model.state_dict())
    with torch.no_grad():
        out = naive_erwin(double, features.double(), positions.double(), edges, tree.order.flatten(), rotations)
    arrays = dict(
        features=features, pos=positions, batch_idx=batch, edge_index=edges, tree_idx=tree.order.flatten(),
        tree_mask=tree.mask.flatten(), out=out[tree.inverse] if config.decode else out,
        **{f"rotated_perm/{i}": rotation for i, rotation in enumerate(turned)},
        **{f"param/{name}": value for name, value in erwin_weights(model).items()},
    )  # fmt: skip
    settings = {
        name: getattr(config, name)
        for name in ("ball_sizes", "enc_num_heads", "enc_depths", "dec_num_heads", "dec_depths", "strides", "decode")
    }
    settings |= dict(c_hidden=config.dims, rotate=config.rotation_angle or 0, mp_steps=config.mp_steps)
    arrays = {name: value.numpy() for name, value in arrays.items()} | changes
    kept = {name: value for name, value in arrays.items() if value is not None}
    np.savez(path, config=json.dumps(settings), **kept)
    return path


@pytest.mark.parametrize("case", CASES)
def test_files_of_the_published_format_are_reproduced(case, tmp_path):
    report = check_golden(golden_file(tmp_path / "erwin.npz", erwin(case)))
    assert report.ok, str(report)
    assert [row.name for row in report.rows] == ["out"]


def test_a_weight_that_differs_misses(tmp_path):
    model = erwin()
    weight = erwin_weights(model)["decoder.0.unpool.proj.weight"].numpy() * 1.01
    path = golden_file(tmp_path / "erwin.npz", model, **{"param/decoder.0.unpool.proj.weight": weight})
    assert not check_golden(path).ok


@pytest.mark.parametrize("name", ["edge_index", "rotated_perm/1"])
def test_a_file_that_lacks_an_input_says_which(name, tmp_path):
    path = golden_file(tmp_path / "erwin.npz", erwin(), **{name: None})
    with pytest.raises(BsavizError, match=f"erwin.npz has no {name}, which its Erwin transformer reads"):
        check_golden(path)


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_is_read_off_the_weights(case):
    model = erwin(case, fourier_features=6, out_features=1)
    angle = {} if case == "no rotation" else dict(rotation_angle=45.0)
    weights = {f"module.main_model.{name}": value for name, value in erwin_weights(model).items()}
    imported = import_upstream({"model_state_dict": weights}, ball_sizes=model.config.ball_sizes, **angle)
    if case != "decode off":  # what a missing decoder was like is not told, nor read
        assert imported.config == model.config if angle else imported.config.rotation_angle == 45.0
    for name, value in imported.state_dict().items():
        assert name.startswith("output_") or torch.equal(value, model.state_dict()[name]), name
    assert not imported.training


def test_the_shapenet_model_gets_its_pressures():
    imported = import_upstream(erwin_weights(erwin(fourier_features=6, out_features=1)), ball_sizes=(16, 8))
    assert float(imported.output_std) == pytest.approx(48.5743)


def test_the_cosmology_model_starts_from_positions():
    model = erwin(in_features=5, out_features=3)
    before = torch.nn.Linear(3, 5)
    weights = {f"main_model.{name}": value for name, value in erwin_weights(model).items()}
    weights |= {f"embedding_model.pos_embedding.{name}": value for name, value in before.state_dict().items()}
    imported = import_upstream(weights, ball_sizes=(16, 8))
    assert imported.config.coordinates
    positions = torch.randn(60, 3)
    torch.testing.assert_close(imported(positions), model(positions, before(positions)))


def test_the_polymer_model_starts_from_velocities_and_types():
    model = erwin(in_features=5, out_features=6)
    velocity, kind = torch.nn.Linear(9, 5), torch.nn.Embedding(4, 5)
    weights = {}
    for name, value in erwin_weights(model).items():
        head = name.startswith("pred_head.")
        weights[name.replace("pred_head.", "proj_model.") if head else f"dynamics_model.{name}"] = value
    weights |= {f"embedding_model.seq_embedding.{name}": value for name, value in velocity.state_dict().items()}
    weights |= {"embedding_model.ptype_embedding.weight": kind.weight.detach()}
    imported = import_upstream(weights, ball_sizes=(16, 8))
    positions, velocities, types = torch.randn(60, 3), torch.randn(60, 9), torch.randint(4, (60,))
    features = torch.cat([velocities, torch.nn.functional.one_hot(types, 4)], dim=1)
    torch.testing.assert_close(
        imported(positions, features), model(positions, velocity(velocities) + kind(types)), atol=1e-4, rtol=1e-4
    )


def without(name):
    weights = erwin_weights(erwin())
    del weights[name]
    return weights


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (erwin_weights(erwin()), {}, "do not tell its balls: give ball_sizes"),
        (erwin_weights(erwin()), dict(ball_sizes=(16, 8), heads=2), "unknown setting heads of an Erwin; there are"),
        (erwin_weights(erwin()), dict(config="x"), "config must be an ErwinConfig, got str; give settings by name"),
        (without("bottleneck.blocks.1.BMSA.proj.bias"), dict(ball_sizes=(16, 8)), "missing: .*1.BMSA.proj.bias"),
        (without("embed.mpnn.update_fns.0.1.bias"), dict(ball_sizes=(16, 8)), "1 missing: embed.mpnn.update_fns.0.1.b"),
        (without("encoder.0.pool.proj.weight"), dict(ball_sizes=(16, 8)), "have no encoder.0.pool.proj.weight"),
        (erwin_weights(erwin()) | {"extra": torch.ones(1)}, dict(ball_sizes=(16, 8)), "1 unexpected: extra"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fit(weights, settings, message):
    with pytest.raises(BsavizError, match=message):
        import_upstream(weights, **settings)
