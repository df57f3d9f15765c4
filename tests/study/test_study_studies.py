"""Studies: planned without repetition, run as one sweep, written small, opened as one Dataset."""

import json
import re

import numpy as np
import pytest
import torch
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.datasets import beacon_cloud, training_cars
from bsaviz.models import build
from bsaviz.study import Sweep, studies
from bsaviz.study.looks import look
from bsaviz.study.studies import STUDIES, as_grid, collect, open_model, open_study, plans, stored
from bsaviz.study.studies.__main__ import main
from bsaviz.study.studies.join import join
from bsaviz.study.studies.plans import Study, config_of, settings_of, shared_names, sweep_plan
from bsaviz.training import evaluate


def test_every_variant_can_be_built_and_equal_ones_are_trained_once():
    plan = sweep_plan(list(STUDIES))
    assert len(plan.variants) < sum(len(study.variants) for study in STUDIES.values())
    names = shared_names()
    assert names["table3", "BSA"] == names["corrections", "BSA"] == "table3: BSA"
    assert names["table5", "block 8, group 8"] == names["branches", "all three"] == names["sensitivity", "BSA"]
    assert names["table3", "BSA"] != names["sensitivity", "BSA"]  # not as many steps
    assert sweep_plan(["table5"], scale=0.5).variants["table5: block 4, group 32"]["steps"] == plans.SHORT // 2


def test_studies_vary_what_they_say():
    config = lambda study, variant: config_of(settings_of(study, variant))
    assert {config("table5", f"block {l}, group {g}").block_size for l in (4, 32) for g in (4, 8)} == {4, 32}
    assert config("branches", "without ball").branches == ("compression", "selection")
    assert config("branches", "selection alone").branches == ("selection",)
    assert config("corrections", "published trees").published == ("trees",)
    assert config("corrections", "all as published").published is True
    assert config("table3", "Erwin").depth == config("table3", "BSA").depth == 6
    assert {entry["cars"] for entry in sweep_plan(["physics"]).variants.values()} > {"laplace", "helmholtz:0.3"}


def test_an_unknown_study_lists_those_there_are(capsys):
    with pytest.raises(BsavizError, match="unknown study 'table4'; there are table3, corrections"):
        sweep_plan(["table4"])
    assert main(["table4"]) == 2
    assert "unknown study 'table4'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study of three variants and two seeds, of which one training is missing."""
    folder = tmp_path_factory.mktemp("study")
    wide = dict(block_size=4, group_size=16, branches=["ball", "selection"])
    variants = {"BSA": {}, "full": dict(model="full"), "two branches": wide}
    study = Study("Three models", "Does it run?", 2, variants, notes=("x",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STUDIES, "mine", study)
        patch.setattr(collect, "KEPT", ("mine",))
        where = ["--quick", "--keep", "--device", "cpu", "--folder", str(folder / "sweep"), "--out", str(folder)]
        assert main(["mine", *where, "--seeds", "0", "1", "--stages", "train"]) == 0
        lost = next(t.number for t in Sweep(folder=folder / "sweep").study.get_trials()
                    if t.params == {"variant": "mine: full", "seed": 1})  # fmt: skip
        (folder / "sweep" / "trials" / f"{lost:05d}.nc").unlink()
        assert main(["mine", *where, "--seeds", "0", "1", "--stages", "costs", "write"]) == 0
    return folder


@pytest.fixture(scope="module")
def study(ran):
    return open_study(ran / "mine.nc")


def test_a_study_opens_as_one_dataset(study):
    assert study["relative_l2"].dims == ("variant", "seed")
    assert study["variant"].values.tolist() == ["BSA", "full", "two branches"]
    assert study["relative_l2"].notnull().values.tolist() == [[True, True], [True, False], [True, True]]
    np.testing.assert_allclose(study["relative_l2"], study["sample_relative_l2"].mean("sample"), rtol=1e-5)
    assert study["loss"].sizes["step"] == 4
    assert study["block_size"].values[[0, 2]].tolist() == [8, 4]
    assert np.isnan(study["block_size"].sel(variant="full"))
    assert study["branches_on"].values.tolist() == ["ball+compression+selection", "", "ball+selection"]
    assert (study["forward_ms"] > 0).all()
    assert study["gflops"].sel(variant="full") > 1
    assert all("long_name" in variable.attrs for variable in study.data_vars.values())
    assert json.loads(study.attrs["versions"])["torch"] == str(torch.__version__)
    assert json.loads(study.attrs["notes"])[-1] == "x"
    assert study.attrs["command"].startswith("python -m bsaviz.study.studies mine --quick")


def test_gates_and_fields_are_of_the_branches_that_are_on(study):
    gates = study["gate"].isel(seed=0)
    on = gates.notnull().any("layer")
    assert on.sel(variant="BSA", branch="compression")
    assert not on.sel(variant="two branches", branch="compression")
    assert not on.sel(variant="full").any()
    assert float(gates.min()) > 0
    assert float(gates.max()) < 1
    reads = study["points_read"].isel(seed=0, layer=0)
    assert reads.sel(variant="full", branch="full") == 3586
    assert reads.sel(variant="BSA", branch="selection") <= 4 * 8


def test_kept_models_open(study, ran):
    model = open_model(study, "two branches")
    assert model.config.branches == ("ball", "selection")
    test = training_cars("generated:6+2")[1]
    again = evaluate(model, test, progress=False)
    then = study["sample_relative_l2"].sel(variant="two branches", seed=0)
    np.testing.assert_allclose(again["relative_l2"], then, rtol=0.01)
    with pytest.raises(BsavizError, match="there is no variant 'ball'; there are BSA, full, two branches"):
        open_model(study, "ball")
    without = study.assign(checkpoint=("variant", ["", "", ""]))
    with pytest.raises(BsavizError, match="no weights of 'BSA' are kept; they are of none"):
        open_model(without, "BSA")


def test_as_a_grid_of_settings(study):
    grid = as_grid(study, "block_size", "group_size")
    assert grid["relative_l2"].sel(block_size=4, group_size=16, seed=0) == study["relative_l2"].sel(
        variant="two branches", seed=0)  # fmt: skip
    assert np.isnan(grid["relative_l2"].sel(block_size=4, group_size=8, seed=0))
    assert as_grid(study, "block_size").sizes["block_size"] == 2
    with pytest.raises(BsavizError, match="'colour'.* is no setting of the variants; there are .*block_size"):
        as_grid(study, "colour")


def test_files_that_are_no_study_of_this_version_are_refused(study, tmp_path, monkeypatch):
    with pytest.raises(BsavizError, match="there is no study 'table9'"):
        open_study("table9")
    path = tmp_path / "other.nc"
    xr.Dataset({"x": 1}).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(BsavizError, match="is no study: it has no dim 'variant'"):
        open_study(path)
    path.write_bytes(b"no netCDF")
    with pytest.raises(BsavizError, match="no readable netCDF file"):
        open_study(path)
    study.drop_attrs(deep=False).assign_attrs(study.attrs, bsaviz_study_version=9).to_netcdf(path, engine="h5netcdf")
    with pytest.raises(BsavizError, match="a study of format 9, made by bsaviz .*; this bsaviz reads format 1"):
        open_study(path)


@pytest.mark.parametrize("name", studies.studies())
def test_stored_studies_hold_what_they_promise(name):
    ds = open_study(name)
    assert (ds["relative_l2"].notnull().sum("seed") >= 3).all()
    assert (ds["relative_l2"].fillna(1) > 0).all()
    assert "training_ms" not in ds or ds["training_ms"].notnull().all()
    assert ds["variant"].values.tolist() == list(STUDIES[name].variants)
    assert re.search("H100|H200", ds.attrs["device"])
    for variant, stem in zip(ds["variant"].values, ds["checkpoint"].values):
        assert not stem or open_model(ds, variant).config.out_features == 1
    assert stored.folder().joinpath(f"{name}.nc").stat().st_size < 2**21


def test_a_look_counts_causes_that_are_read():
    cloud = beacon_cloud(0, clusters=4, points_per_cluster=16)
    torch.manual_seed(0)
    found = look(build("full", "tiny", in_features=10), [cloud], ("partner", "beacon"))
    assert (found["recall"] == 1).all()
    assert ((found["recall_mass"] >= 0) & (found["recall_mass"] < 1)).all()
    assert "gate" not in found


def test_seeds_are_added_to_a_stored_study(study):
    lacks = study.where(study["variant"] != "BSA").assign(checkpoint=study["checkpoint"])
    new = lacks.isel(seed=[1]).assign_coords(seed=[2]).drop_attrs(deep=False).assign_attrs(study.attrs)
    new["gflops"] = study["gflops"] + 1
    new["checkpoint"] = "variant", ["", "", ""]
    joined = join(new, study)
    assert joined["seed"].values.tolist() == [0, 1, 2]
    assert joined["variant"].values.tolist() == ["BSA", "full", "two branches"]
    assert joined["relative_l2"].notnull().values.tolist() == [[True] * 2 + [False], [True, False, False], [True] * 3]
    np.testing.assert_array_equal(joined["loss"].sel(seed=[0, 1]), study["loss"])
    np.testing.assert_array_equal(joined["gate"].sel(variant="two branches", seed=2),
                                  study["gate"].sel(variant="two branches", seed=1))  # fmt: skip
    assert (joined["gflops"] == study["gflops"] + 1).all()
    assert joined["checkpoint"].values.tolist() == study["checkpoint"].values.tolist()
    assert json.loads(joined.attrs["earlier"])[0]["trainings"] == {"0": 3, "1": 2}
    again = join(new.assign(relative_l2=new["relative_l2"] * 0 + 9), joined)
    assert again["relative_l2"].sel(seed=2).values.tolist()[2] == 9


def test_seeds_of_other_trainings_are_not_added(study):
    other = study.assign_attrs(training=study.attrs["training"].replace("2", "3"))
    with pytest.raises(BsavizError, match="the stored study has training .* cannot stand in one study"):
        join(other, study)
