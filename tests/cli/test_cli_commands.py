"""The command line, as a person types it: what it writes, what it prints, and its one line on bad input."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from bsaviz.cli import _command, _parser, main
from bsaviz.datasets import load_car
from bsaviz.models import build
from bsaviz.training import load_model, save_model

GOLDEN = Path(os.environ.get("BSAVIZ_GOLDEN", Path(__file__).resolve().parents[3] / "shared" / "golden"))
REAL = Path(os.environ.get("BSAVIZ_REAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_model(build("bsa", preset="tiny"), path)
    return str(path)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory):
    path = tmp_path_factory.mktemp("cloud") / "cloud.npy"
    np.save(path, np.random.default_rng(0).normal(size=(300, 3)).astype(np.float32))
    return str(path)


def says(capsys, *arguments):
    """Exit status, what was printed, and what was complained about."""
    status = main([str(word) for word in arguments])
    done = capsys.readouterr()
    return status, done.out, done.err


@pytest.mark.parametrize("command", ["demo", "train", "sweep", "field", "gates", "check-golden", "lab"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert command in capsys.readouterr().out


def test_the_installed_command_answers_quickly_without_the_libraries():
    code = "import sys; from bsaviz.cli import _parser; _parser(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_field_writes_every_format(checkpoint, cloud, tmp_path, capsys):
    outs = [tmp_path / f"rf.{suffix}" for suffix in ("html", "png", "glb", "vtp", "nc")]
    flags = [word for out in outs for word in ("--out", out)]
    status, out, _ = says(capsys, "field", "--car", cloud, "--model", checkpoint, "--query", "12", *flags)
    assert status == 0
    assert all(path.stat().st_size > 1000 for path in outs)
    assert all(str(path) in out for path in outs)
    with xr.open_dataset(tmp_path / "rf.nc", engine="h5netcdf") as field:
        assert field["query"].item() == 12
        assert field.sizes["point"] == 300


def test_field_takes_a_place_a_layer_and_a_kind(checkpoint, cloud, tmp_path, capsys):
    look = ["--query=0.5,0,-0.25", "--layer", 1, "--head", 0, "--kind", "mass", "--out", tmp_path / "rf.html"]
    status, *_ = says(capsys, "field", "--car", cloud, "--model", checkpoint, *look)
    assert status == 0


def test_gates_writes_a_picture(checkpoint, cloud, tmp_path, capsys):
    status, *_ = says(capsys, "gates", "--car", cloud, "--model", checkpoint, "--out", tmp_path / "gates.png")
    assert status == 0
    assert (tmp_path / "gates.png").stat().st_size > 5000


def test_field_and_gates_use_the_packaged_checkpoint(tmp_path, capsys):
    look = ["--car", "generated:60", "--num-points", "1200"]
    status, out, _ = says(capsys, "field", *look, "--query", 0, "--out", tmp_path / "rf.html")
    assert status == 0
    assert "packaged checkpoint" in out
    status, *_ = says(capsys, "gates", *look, "--out", tmp_path / "gates.html")
    assert status == 0


def test_train_writes_a_checkpoint_that_field_opens(tmp_path, capsys):
    short = ["--preset", "tiny", "--steps", 2, "--num-points", 128, "--batch-size", 1, "--cars", "generated:5"]
    status, out, _ = says(capsys, "train", "--out", tmp_path / "mine", *short, "--device", "cpu")
    assert status == 0
    assert "relative L2 error" in out
    assert load_model(tmp_path / "mine").config.dim == 32
    status, *_ = says(
        capsys, "field", "--car", "generated:1", "--model", tmp_path / "mine", "--query", 3, "--out", tmp_path / "a.nc"
    )
    assert status == 0


def test_the_command_to_go_on_with_names_the_same_checkpoint_and_settings():
    given = ["train", "--out", "my runs/a", "--features", "normals,T", "--steps", "7", "--cars", "generated:4"]
    arguments = _parser().parse_args(given)
    again = _parser().parse_args(shlex.split(_command(arguments, arguments.out))[1:])
    assert vars(again) == vars(arguments)


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors at {GOLDEN}; set BSAVIZ_GOLDEN")
def test_check_golden_prints_errors_and_passes(capsys):
    status, out, _ = says(capsys, "check-golden", GOLDEN / "bsa_mean.npz", GOLDEN / "balltrees.npz")
    assert status == 0
    assert "grad_x" in out
    assert "mean radius at 64" in out


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors at {GOLDEN}; set BSAVIZ_GOLDEN")
def test_check_golden_goes_on_after_a_file_it_cannot_read(tmp_path, capsys):
    status, out, err = says(capsys, "check-golden", tmp_path / "gone.npz", GOLDEN / "balltrees.npz")
    assert status == 2
    assert "there is no file" in err
    assert "balltrees.npz: ok" in out


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no golden vectors at {GOLDEN}; set BSAVIZ_GOLDEN")
def test_check_golden_exits_non_zero_on_a_miss(tmp_path, capsys):
    arrays = dict(np.load(GOLDEN / "bsa_mean.npz"))
    arrays["out"] = arrays["out"] * 1.001
    np.savez(tmp_path / "off.npz", **arrays)
    status, out, _ = says(capsys, "check-golden", tmp_path / "off.npz")
    assert status == 1
    assert "1 of 1 files missed" in out


def test_a_model_with_features_is_trained_and_opened_with_them(tmp_path, capsys):
    quick = ["--cars", "generated:2", "--steps", 2, "--num-points", 64, "--preset", "tiny"]
    status, *_ = says(capsys, "train", "--out", tmp_path / "m", *quick, "--features", "normals")
    assert status == 0
    assert load_model(tmp_path / "m").config.in_features == 3
    look = ["--car", "generated:1", "--num-points", 300, "--model", tmp_path / "m"]
    status, _, err = says(capsys, "field", *look, "--query", 3, "--out", tmp_path / "rf.nc")
    assert status == 0, err
    status, _, err = says(capsys, "gates", *look, "--out", tmp_path / "gates.nc")
    assert status == 0, err


BAD = {
    "missing car": (["--car", "no_such_car.stl", "--query", 0], "no_such_car.stl"),
    "unknown suffix": (["--car", "car.docx", "--query", 0], "car.docx"),
    "query out of range": (["--query", 300], "299"),
    "query that is none": (["--query", "bonnet"], "neither a point's index"),
    "unknown output": (["--query", 0, "--out", "rf.jpeg2000"], "known are .html, .png"),
    "missing model": (["--query", 0, "--model", "no_such_model"], "no_such_model"),
    "unknown layer": (["--query", 0, "--layer", 99], "layer"),
    "unknown head": (["--query", 0, "--head", 99], "head"),
    "unknown kind": (["--query", 0, "--kind", "reached"], "structural"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_and_leaves_nothing(case, checkpoint, cloud, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given, said = BAD[case]
    defaults = {"--car": cloud, "--model": checkpoint, "--out": "rf.html"}
    missing = [word for name, value in defaults.items() if name not in given for word in (name, value)]
    status, _, err = says(capsys, "field", *given, *missing)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", 0], "steps"),
        (["--model", "reformer"], "unknown model 'reformer'"),
        (["--preset", "huge"], "unknown preset 'huge'"),
        (["--cars", "generated:x"], "generated:200"),
        (["--cars", "no/such/folder"], "unknown set of cars"),
        (["--device", "tpu9"], "tpu9"),
    ],
)
def test_train_refuses_what_it_cannot_do(arguments, said, tmp_path, capsys):
    status, _, err = says(capsys, "train", "--out", tmp_path / "m", "--preset", "tiny", *arguments)
    assert status == 2
    assert said in err
    assert list(tmp_path.iterdir()) == []


def test_real_meshes_and_cars(checkpoint, tmp_path, capsys):
    if not REAL.is_dir():
        pytest.skip(f"no real data at {REAL}; set BSAVIZ_REAL_DATA")
    cars = [
        REAL / "mlcfd_data/training_data/param0/car_a",
        REAL / "meshes/gazebo_hatchback.obj",
        REAL / "meshes/gazebo_prius_hybrid.obj",
    ]
    for number, car in enumerate(cars):
        out = tmp_path / f"{number}.png"
        status, *_ = says(capsys, "field", "--car", car, "--model", checkpoint, "--query", 100, "--out", out)
        assert status == 0
        assert out.stat().st_size > 20_000


def test_f1_with_its_pressure(checkpoint, tmp_path, capsys):
    f1 = REAL / "f1/f1.vtp"
    if not f1.is_file():
        pytest.skip(f"no real data at {REAL}; set BSAVIZ_REAL_DATA")
    assert load_car(f1).fields["pressure"].shape == (90819,)
    thin = ["--num-points", 4096, "--point-field", "p", "--query", 7]
    status, *_ = says(capsys, "field", "--car", f1, "--model", checkpoint, *thin, "--out", tmp_path / "f1.html")
    assert status == 0
