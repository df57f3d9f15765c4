"""Checkpoints come back bit for bit, and what is wrong with one is said."""

import json
import resource
from contextlib import contextmanager

import pytest
import safetensors
import safetensors.torch
import torch

from bsaviz import __version__
from bsaviz._checks import BsavizError
from bsaviz.attention import FullAttention
from bsaviz.training import checkpoint_info, load_model, packaged_model, save_model
from bsaviz.training.checkpoint import PACKAGED_MODEL


@pytest.fixture
def model(make_model):
    model = make_model()
    model.output_mean.fill_(-36.3)
    model.output_std.fill_(48.5)
    return model


@pytest.fixture
def saved(model, tmp_path):
    save_model(model, tmp_path / "car", meta={"command": "bsaviz train", "units": "Pa"})
    return tmp_path / "car"


@contextmanager
def full_disk(free=4096):
    """No file may grow past `free` bytes: the system refuses the write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def edit(path, **changes):
    description = path.with_suffix(".json")
    info = json.loads(description.read_text())
    description.write_text(json.dumps({**info, **changes}))


def complaint(path):
    with pytest.raises(BsavizError) as error:
        load_model(path, device="cpu")
    return str(error.value)


@pytest.mark.parametrize("name", ["car", "car.safetensors", "car.json"])
def test_a_model_comes_back_bit_for_bit(model, cars, saved, name):
    loaded = load_model(saved.with_name(name), device="cpu")
    assert loaded.config == model.config
    assert not loaded.training
    positions = torch.from_numpy(cars[0].positions)
    assert torch.equal(loaded.predict(positions), model.predict(positions))


def test_names_with_dots_keep_them(model, tmp_path):
    assert save_model(model, tmp_path / "run.v2") == tmp_path / "run.v2.safetensors"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run.v2.json", "run.v2.safetensors"]
    load_model(tmp_path / "run.v2", device="cpu")


def test_the_json_says_what_it_is(saved):
    info = checkpoint_info(saved)
    assert info["format"] == "bsaviz-model"
    assert info["format_version"] == 1
    assert info["bsaviz"] == __version__
    assert info["torch"] == torch.__version__
    assert info["config"]["attention"] == "bsa"
    assert info["normalisation"]["mean"] == pytest.approx([-36.3])
    assert info["normalisation"]["std"] == pytest.approx([48.5])
    assert info["meta"] == {"command": "bsaviz train", "units": "Pa"}


def test_the_weights_are_plain_safetensors(model, saved):
    with safetensors.safe_open(saved.with_suffix(".safetensors"), "pt") as file:
        assert set(file.keys()) == set(model.state_dict())


def test_a_missing_checkpoint_is_said(tmp_path):
    assert f"there is no {tmp_path}/none.safetensors; check the path" in complaint(tmp_path / "none")
    with pytest.raises(BsavizError, match="has no file name; give one such as 'runs/car'"):
        load_model("")


def test_a_missing_json_is_said(saved):
    saved.with_suffix(".json").unlink()
    message = complaint(saved)
    assert "car.json, which says what car.safetensors holds, is missing" in message
    assert "import_upstream" in message


@pytest.mark.parametrize("text", ['{"format": "bsa', "\x00\x01"])
def test_a_broken_json_is_said(saved, text):
    saved.with_suffix(".json").write_text(text)
    assert "car.json is no readable JSON" in complaint(saved)


def test_another_format_or_version_is_said(saved):
    edit(saved, format_version=2, bsaviz="9.9")
    message = complaint(saved)
    assert f"has format version 2, bsaviz {__version__} reads 1; it was written by bsaviz 9.9" in message
    edit(saved, format="other")
    assert "is not of format 'bsaviz-model' (it says 'other')" in complaint(saved)
    saved.with_suffix(".json").write_text("[1]")
    assert "is not of format 'bsaviz-model' (it says None)" in complaint(saved)


def test_another_kind_of_model_is_said(saved):
    edit(saved, model="Pangolin")
    assert "holds a 'Pangolin', not one of Transformer" in complaint(saved)


def test_settings_of_a_newer_version_are_named(saved):
    edit(saved, config={**checkpoint_info(saved)["config"], "warp": 1})
    assert f"settings that bsaviz {__version__} does not know: warp; update bsaviz" in complaint(saved)
    edit(saved, config=None)
    assert "has no 'config'" in complaint(saved)


def test_a_checkpoint_of_another_shape_names_the_first_tensors(saved):
    edit(saved, config={**checkpoint_info(saved)["config"], "dim": 16})
    message = complaint(saved)
    assert "embedding.weight is (32, 32) in the file and should be (16, 32)" in message
    assert "the configuration in car.json" in message
    assert "train anew" in message


def test_missing_and_extra_tensors_are_named(saved):
    edit(saved, config={**checkpoint_info(saved)["config"], "depth": 1})
    first = "layers.1.attn.ball_position.proj.bias is (32,) in the file and should be absent"
    assert f"the first: {first}" in complaint(saved)
    edit(saved, config={**checkpoint_info(saved)["config"], "depth": 3})
    assert "the first: layers.2.norm1.weight is absent in the file and should be (32,)" in complaint(saved)


def test_weights_of_another_model_are_refused(make_model, saved, tmp_path):
    other = make_model()
    other.output_mean.fill_(1.0)
    save_model(other, tmp_path / "other")
    (tmp_path / "other.safetensors").replace(saved.with_suffix(".safetensors"))
    assert "car.safetensors does not belong to car.json" in complaint(saved)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_truncated_file_is_said(saved, keep):
    weights = saved.with_suffix(".safetensors")
    weights.write_bytes(weights.read_bytes()[:keep])
    assert "car.safetensors is truncated, corrupt or no safetensors file" in complaint(saved)


def test_a_flipped_bit_is_noticed(saved):
    weights = saved.with_suffix(".safetensors")
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    assert "its sha256 is another" in complaint(saved)


def test_a_full_disk_leaves_the_old_checkpoint_whole(make_model, model, saved, tmp_path):
    other = make_model("full")
    with full_disk(), pytest.raises(BsavizError, match="cannot write .*car.safetensors.*free some space"):
        save_model(other, saved)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["car.json", "car.safetensors"]
    assert load_model(saved, device="cpu").config == model.config


def test_meta_that_is_no_json_is_said_and_nothing_written(model, tmp_path):
    with pytest.raises(BsavizError, match="meta must hold numbers, text, lists and dicts only"):
        save_model(model, tmp_path / "car", meta={"tensor": torch.ones(1)})
    assert list(tmp_path.iterdir()) == []


def test_only_transformers_are_saved(tmp_path):
    with pytest.raises(BsavizError, match="save_model takes a model of bsaviz.models.build, got FullAttention"):
        save_model(FullAttention(8, 2), tmp_path / "car")


def test_the_packaged_model_is_looked_for_in_the_package(model, tmp_path, monkeypatch):
    monkeypatch.setattr("bsaviz.training.checkpoint.packaged", lambda name: tmp_path / name)
    save_model(model, tmp_path / PACKAGED_MODEL)
    assert torch.equal(packaged_model("cpu").output_mean, model.output_mean)
