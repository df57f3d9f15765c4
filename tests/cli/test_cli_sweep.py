"""`bsaviz sweep`: a plan in a file becomes a folder of trials; what is wrong with it is said."""

import json

import pytest
import xarray as xr

from bsaviz.cli import main
from bsaviz.study import open_sweep, sweep_workers
from bsaviz.study.sweep_results import SCALARS

PLAN = "parameters: {block_size: [4, 8]}\npreset: tiny\nseeds: [0, 1]\n"


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A plan's file; trainings are stood in for by numbers that tell the setting and the device."""

    def pretend(plan, chosen, seed, folder, number, *, device=None, should_stop=None):
        attrs = {"chosen": json.dumps(chosen), "seed": seed, "device": device}
        ds = xr.Dataset({name: ((), float(chosen["block_size"] + seed)) for name in SCALARS}, attrs=attrs)
        ds.to_netcdf(folder / f"{number:05d}.nc", engine="h5netcdf")
        return ds

    monkeypatch.setattr(sweep_workers, "run_trial", pretend)
    path = tmp_path / "blocks.yaml"
    path.write_text(PLAN)
    return path


def test_a_plan_is_trained_into_the_folder_of_its_name(plan, capsys):
    assert main(["sweep", str(plan), "--devices", "cpu"]) == 0
    said = capsys.readouterr()
    assert "block_size" in said.out
    found = open_sweep(plan.with_suffix(""))
    assert found.relative_l2.sel(block_size=8, seed=1).item() == 9
    assert main(["sweep", str(plan)]) == 0, "what is done is not done again"


def test_another_folder_may_be_named(plan, tmp_path):
    assert main(["sweep", str(plan), "--out", str(tmp_path / "elsewhere"), "--device", "cpu"]) == 0
    assert open_sweep(tmp_path / "elsewhere").sizes == {"block_size": 2, "seed": 2}
    assert not plan.with_suffix("").exists()


@pytest.mark.parametrize(
    ("words", "text", "complaint"),
    [
        (["--devices", "cpu,cpu:0"], PLAN, "1 workers cannot use 2 devices; give each device a worker or more"),
        (["--workers", "0"], PLAN, "workers must be a whole number of at least 1, got 0"),
        ([], PLAN.replace("4, 8", "4, 7"), "block_size=7: ball_size must be a multiple of block_size"),
        ([], "parameters: [", "blocks.yaml is no YAML"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_trained(plan, capsys, words, text, complaint):
    plan.write_text(text)
    assert main(["sweep", str(plan), *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("bsaviz sweep: ")
    assert "Traceback" not in said
    assert complaint in said
    assert not list(plan.with_suffix("").glob("trials/*.nc"))
