"""Results go to netCDF and come back as they were."""

import resource
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from fields_cases import cloud, random_model

from bsaviz._checks import BsavizError
from bsaviz.fields import gates, receptive_field, save, summary


@pytest.mark.parametrize("kind", ["field", "gates", "summary"])
@pytest.mark.parametrize("compressed", [True, False])
def test_round_trip(model, car, tmp_path, kind, compressed):
    field = receptive_field(model, car, [5, 1])
    ds = {"field": lambda: field, "gates": lambda: gates(model, car), "summary": lambda: summary(field)}[kind]()
    path = tmp_path / "new folder" / "result.nc"
    path.parent.mkdir()
    if compressed:
        save(ds, path)
    else:
        ds.to_netcdf(path, engine="h5netcdf")
    with xr.open_dataset(path, engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), ds)
        assert {name: v.dtype for name, v in back.data_vars.items()} == {n: v.dtype for n, v in ds.data_vars.items()}
    assert [p.name for p in path.parent.iterdir()] == ["result.nc"]


def test_a_saved_field_is_compressed(tmp_path):
    field = receptive_field(random_model(), cloud(4000), 0, heads=0, layers=0)
    save(field, tmp_path / "rf.nc")
    field.to_netcdf(tmp_path / "plain.nc", engine="h5netcdf")
    assert (tmp_path / "rf.nc").stat().st_size < 0.7 * (tmp_path / "plain.nc").stat().st_size


def test_save_makes_folders_and_replaces(model, tmp_path):
    path = tmp_path / "a" / "b" / "rf.nc"
    for query in (1, 2):
        save(receptive_field(model, cloud(), query), path)
    with xr.open_dataset(path) as back:
        assert back["query"].values.tolist() == [2]


def test_save_wants_a_dataset(model, tmp_path):
    field = receptive_field(model, cloud(), 0)
    with pytest.raises(BsavizError, match="save needs an xarray.Dataset, got DataArray"):
        save(field.mass, tmp_path / "rf.nc")


_FULL_DISK = """
import resource, signal, sys
import numpy as np, xarray as xr
from bsaviz._checks import BsavizError
from bsaviz.fields import save

ds = xr.Dataset({"mass": ("point", np.random.default_rng(0).normal(size=200_000))})
save(ds.isel(point=slice(3)), sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(ds, sys.argv[1])
except BsavizError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit on file sizes")
def test_a_full_disk_gives_one_message_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "rf.nc"
    done = subprocess.run([sys.executable, "-c", _FULL_DISK, str(path)], capture_output=True, text=True, timeout=100)
    assert f"cannot write {path}" in done.stdout, done.stdout + done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["rf.nc"]
    with xr.open_dataset(path) as back:
        assert np.asarray(back.mass).shape == (3,)
