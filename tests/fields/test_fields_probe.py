import numpy as np
import pytest
import torch
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import POINTS, probe, probe_names, receptive_field
from bsaviz.fields.probing import ProbePoint

POSITIONS = torch.from_numpy(cloud())


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def test_every_documented_name_is_recorded_with_its_shape():
    model = random_model(group_compression=True, coarse_scores=True)
    with probe(model) as record:
        model(POSITIONS)
    heads, slots, blocks, width = 2, 48, 12, 8
    at = lambda name: tuple(record[f"layers.1.attn.{name}"].shape)
    assert tuple(record["embed"].shape) == tuple(record["layers.1.input"].shape) == (1, slots, 16)
    assert tuple(record["layers.1.output"].shape) == at("out") == (1, slots, 16)
    assert {at(n) for n in ("q", "k", "v", "ball", "compression", "selection")} == {(1, heads, slots, width)}
    assert {at(n) for n in ("q_coarse", "k_coarse", "v_coarse")} == {(1, heads, blocks, width)}
    assert {at(n) for n in ("ball_lse", "compression_lse", "selection_lse")} == {(1, heads, slots)}
    assert (at("gate"), at("indices")) == ((1, heads, slots, 3), (1, heads, 12, 2))
    assert {name.rpartition(".")[2] for name in record} == set(POINTS) - {"window"}  # NSA's alone
    assert all(POINTS[name][0] in probe.__doc__ and name in probe.__doc__ for name in POINTS)


def test_recording_does_not_change_what_the_model_gives():
    model = random_model()
    plain = model(POSITIONS)
    with probe(model):
        watched = model(POSITIONS)
    assert torch.equal(plain, watched)


def test_record_of_a_layer_is_in_the_order_of_its_own_tree():
    model = random_model().double()
    tree = model.tree(POSITIONS)
    with probe(model, "layers.*put") as record:
        model(POSITIONS)
    after_first = tree.scatter(record["layers.0.output"])
    before_second = tree.rotated.scatter(record["layers.1.input"])
    torch.testing.assert_close(after_first, before_second)
    assert not torch.allclose(record["layers.0.output"], record["layers.1.input"])


@pytest.mark.parametrize(
    ("names_filter", "expected"),
    [
        ("embed", ["embed"]),
        ("layers.1.attn.[qk]", ["layers.1.attn.q", "layers.1.attn.k"]),
        (["layers.*.attn.v", "embed"], ["embed", "layers.0.attn.v", "layers.1.attn.v"]),
        (lambda name: name.endswith(".input"), ["layers.0.input", "layers.1.input"]),
    ],
)
def test_names_filter(model, names_filter, expected):
    with probe(model, names_filter) as record:
        model(POSITIONS)
    assert sorted(record) == sorted(expected)


@pytest.mark.parametrize(
    ("names_filter", "message"),
    [
        ("layers.0.attn.gates", "'layers.0.attn.gates' matches no probe point; near names: layers.0.attn.gate"),
        (["embed", "zzz"], "'zzz' matches no probe point; the names are embed, layers.0.input"),
        (lambda name: False, "picked none of the"),
        ([], "names_filter is empty"),
        ([3], "names_filter takes names and globs, got 3"),
    ],
)
def test_a_filter_that_picks_nothing_says_so(model, names_filter, message):
    with pytest.raises(BsavizError, match=None) as caught, probe(model, names_filter):
        pass
    assert message in str(caught.value)
    assert hooks(model) == 0


def test_record_says_what_it_does_not_hold(model):
    with probe(model, "layers.0.attn.*") as record:
        with pytest.raises(BsavizError, match="'layers.0.attn.q' is watched but not recorded yet: run the model"):
            record["layers.0.attn.q"]
        model(POSITIONS)
    with pytest.raises(KeyError, match="^'layers.0.attn.qq' is not recorded; near names: layers.0.attn.q"):
        record["layers.0.attn.qq"]
    assert record.get("layers.0.attn.qq") is None


def test_hooks_are_gone_after_the_block_and_after_an_error(model):
    with probe(model):
        assert hooks(model) > 0
    assert hooks(model) == 0
    with pytest.raises(RuntimeError, match="boom"), probe(model):
        raise RuntimeError("boom")
    assert hooks(model) == 0


def test_hooks_are_gone_after_a_receptive_field_and_after_its_errors(model, monkeypatch):
    receptive_field(model, cloud(), 0, layers=0)
    assert hooks(model) == 0
    monkeypatch.setattr("bsaviz.fields.layerwise.readable", None)
    model.train()
    with pytest.raises(TypeError):
        receptive_field(model, cloud(), 0)
    assert hooks(model) == 0
    assert model.training


def test_probes_nest(model):
    with probe(model, "embed") as outer:
        with probe(model, "layers.0.attn.q") as inner:
            model(POSITIONS)
        first = outer["embed"]
        model(POSITIONS + torch.tensor([1.0, 0, 0]) * POSITIONS)
    assert list(inner) == ["layers.0.attn.q"]
    assert not torch.equal(first, outer["embed"])


def test_receptive_field_works_inside_a_probe(model):
    with probe(model, "layers.0.attn.q") as record:
        receptive_field(model, cloud(), 0)
    assert "layers.0.attn.q" in record
    assert hooks(model) == 0


def test_detached_by_default_and_with_gradients_on_request(model):
    with probe(model, "layers.0.attn.q") as record:
        model(POSITIONS).sum()
    assert not record["layers.0.attn.q"].requires_grad
    with probe(model, ["layers.0.attn.q", "layers.0.attn.indices"], detach=False) as record:
        model(POSITIONS).sum().backward()
    q = record["layers.0.attn.q"]
    assert q.grad is not None
    assert q.grad.abs().sum() > 0
    assert record["layers.0.attn.indices"].dtype == torch.int64


def test_a_device_moves_what_is_recorded(model):
    with probe(model, "embed", device="meta") as record:
        model(POSITIONS)
    assert record["embed"].device.type == "meta"


def test_table_and_names_give_shape_and_meaning(model):
    with probe(model, "layers.0.attn.k*") as record:
        model(POSITIONS)
    header, k, k_coarse = record.table().splitlines()
    assert header.split() == ["name", "shape", "dtype", "meaning"]
    assert k.split() == ["layers.0.attn.k", "(1,", "2,", "48,", "8)", "float32", "keys"]
    assert k_coarse.endswith("one key for each block")
    names = probe_names(model)
    assert names["layers.1.attn.gate"].startswith("(B, H, N, 3) gates of ball")
    assert all(names.values())
    assert "layers.0.attn.gate" not in probe_names(random_model("full"))


def test_a_part_of_a_model_has_relative_names(model):
    attention = model.layers[0].attn
    with probe(attention, ["q", "gate"]) as record:
        model(POSITIONS)
    assert sorted(record) == ["gate", "q"]


@pytest.mark.parametrize(
    ("model", "message"),
    [(torch.nn.Linear(2, 2), "Linear has no probe points"), (np.sin, "probe needs a torch.nn.Module, got ufunc")],
)
def test_what_cannot_be_probed(model, message):
    with pytest.raises(BsavizError, match=message), probe(model):
        pass


def test_probe_points_hand_on_the_very_tensor():
    tensor = torch.zeros(2)
    assert ProbePoint()(tensor) is tensor
