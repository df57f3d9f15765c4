"""The main job, shortened: everything it promises is written, opens, and says what was done."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from PIL import Image

from bsaviz import demo, study
from bsaviz._checks import BsavizError
from bsaviz.datasets import Car, generated, load_car
from bsaviz.training import load_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One short run: two steps, two cars to train on and one to test on, every time taken once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generated, "TRAIN_INDICES", range(2))
        patch.setattr(generated, "TEST_INDICES", range(48, 49))
        cost = study.cost
        patch.setattr(study, "cost", lambda *of, **how: cost(*of, **how | {"repeats": 1}))
        said = []
        patch.setattr(demo, "_say", said.append)
        out = tmp_path_factory.mktemp("demo") / "outputs"
        files = demo.run_demo(out, steps=2, device="cpu")
    return out, files, "\n".join(said)


@pytest.mark.slow
def test_every_promised_file_is_written_and_named(run):
    out, files, said = run
    promised = {"png", "html", "glb", "vtp", "nc"}
    assert promised <= {path.suffix.lstrip(".") for path in files.values()}
    assert all(path.stat().st_size > 100 for path in files.values())
    assert all(str(path) in said for path in files.values())
    assert (out / "README.txt").is_file()


@pytest.mark.slow
def test_it_says_that_points_were_drawn_to_save_time(run):
    assert "1024 of a car's 3586 points" in run[2]


@pytest.mark.slow
def test_the_table_sets_bsa_beside_full_attention_of_the_same_size(run):
    table = pd.read_csv(run[1]["table"], index_col="model")
    assert list(table.index) == ["bsa", "full"]
    assert {"relative L2 error", "GFLOPs", "forward (ms)", "peak memory (MiB)", "parameters"} <= set(table.columns)
    assert (table > 0).all(axis=None)
    assert table.loc["bsa", "GFLOPs"] < table.loc["full", "GFLOPs"]
    assert np.isclose(*table["parameters"], rtol=0.05)


@pytest.mark.slow
def test_the_numbers_open_and_add_up(run):
    with xr.open_dataset(run[1]["receptive field, numbers"], engine="h5netcdf") as field:
        np.testing.assert_allclose(field["mass"].sum(("branch", "point")), field["gate"].sum("branch"), rtol=1e-4)
        assert field.sizes["point"] == 3586
    with xr.open_dataset(run[1]["gates, numbers"], engine="h5netcdf") as gate:
        assert float(gate["gate"].min()) > 0
        assert float(gate["gate"].max()) < 1


@pytest.mark.slow
def test_the_picture_shows_the_three_branches(run):
    pixels = np.asarray(Image.open(run[1]["receptive field, picture"]).convert("RGB")).reshape(-1, 3).astype(int)
    for colour in ((0, 0x72, 0xB2), (0, 0x9E, 0x73), (0xE6, 0x9F, 0)):
        assert (np.abs(pixels - colour).sum(1) < 60).sum() > 50


@pytest.mark.slow
def test_the_model_opens_again(run):
    assert load_model(run[0] / "bsa").config.attention == "bsa"


def test_bad_arguments_are_refused_before_any_training(tmp_path):
    with pytest.raises(BsavizError, match="steps must be at least 1, got 0"):
        demo.run_demo(tmp_path / "out", steps=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BsavizError, match="cannot write"):
        demo.run_demo(tmp_path / "file" / "out", steps=1)


@pytest.mark.parametrize("index", [0, 5, 50])
def test_the_bonnet_is_in_front_on_top_and_in_the_middle(index):
    car = load_car(f"generated:{index}")
    x, y, z = car.positions[demo.bonnet(car)]
    low, high = car.positions.min(0), car.positions.max(0)
    assert low[0] < x < low[0] + 0.3 * (high[0] - low[0])
    assert abs(y) < 0.15 * (high[1] - low[1])
    assert z > low[2] + 0.3 * (high[2] - low[2])


def test_the_bonnet_of_any_cloud_is_one_of_its_points():
    for positions in (np.zeros((1, 3)), np.random.default_rng(0).normal(size=(5, 3)), np.eye(3)[[0, 0, 0]]):
        car = Car("cloud", positions.astype(np.float32), None, {}, {}, "test", {})
        assert 0 <= demo.bonnet(car) < len(positions)
