"""`load_set`: names, folders, stand-ins, and what it says when something is missing."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import elasticity, load_set, standins


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path / "cache"))
    for name in ("ELASTICITY", "MD", "COSMOLOGY", "SHAPENET"):
        monkeypatch.delenv(f"BSAVIZ_{name}", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch):
    """Shorter chains and a coarser universe: the same code in a second."""
    monkeypatch.setattr(standins, "_UNITS", 8)
    monkeypatch.setattr(standins, "_FRAMES", 20)
    monkeypatch.setattr(standins, "_WARMUP", 1.0)
    monkeypatch.setattr(standins, "_INTERVAL", 0.2)
    monkeypatch.setattr(standins, "_CELLS", 64)
    monkeypatch.setattr(standins, "_HALOS", 300)


@pytest.mark.parametrize("name", ["elasticity", "md", "cosmology"])
def test_a_stand_in_is_made_once_labelled_and_the_same_again(cache, quick, name, capfd):
    train, test = load_set(name, num_train=2, num_test=1)
    assert f"making the generated stand-in of {name}" in capfd.readouterr().err
    assert (len(train), len(test)) == (2, 1)
    for one in train + test:
        assert one.attrs["generated"] is True
        assert one.attrs["dataset"].startswith("generated stand-in: ")
        assert one.name.startswith("generated")
    again = load_set(name, num_train=2, num_test=1)[0]
    assert capfd.readouterr().err == ""  # from the cache
    np.testing.assert_array_equal(again[1].target, train[1].target)
    assert [entry.name[0] for entry in (cache / "generated").iterdir()] != ["."]
    (folder,) = (cache / "generated").iterdir()
    folder.rename(cache / "first")
    remade = load_set(name, num_train=2, num_test=1, progress=False)[0]
    np.testing.assert_array_equal(remade[1].positions, train[1].positions)
    np.testing.assert_array_equal(remade[1].target, train[1].target)
    other = load_set(name, num_train=2, num_test=1, progress=False, seed=1)[0]
    assert not np.array_equal(other[0].target[:5], train[0].target[:5])


def test_the_elasticity_stand_in_is_the_sets_problem():
    points, stress = standins.unit_cell(3)
    assert points.shape == (972, 2)
    assert stress.shape == (972,)
    assert 0 <= points.min() <= points.max() <= 1
    radius = np.hypot(*(points - 0.5).T)
    assert 0.2 <= radius.min() < 0.4  # of the published prior
    free = np.abs(points[:, 1] - 1) < 1e-9
    assert stress[free].min() > 0
    assert 100 < stress.mean() < 400  # the traction is 100, part of the width is missing


def test_the_md_stand_in_has_all_parts_and_unit_scales(cache, quick):
    train, _ = load_set("md", num_train=200, progress=False)
    val = load_set("md", num_train=1, part="val", progress=False)[1]
    names = lambda samples: {one.name.partition(":")[0] for one in samples}
    assert not names(train) & names(val)
    target = np.concatenate([one.target / np.float32(one.target_std) for one in train])
    assert target.std() == pytest.approx(1, abs=0.15)
    history = np.concatenate([one.fields["velocity_history"] for one in train])
    assert history.std() == pytest.approx(1, abs=0.15)


def test_the_halo_stand_in_spans_cosmologies(cache, quick):
    train, test = load_set("cosmology", num_train=2, num_test=2, progress=False)
    values = [one.attrs["Omega_m"] for one in train + test]
    assert len(set(values)) == 4
    assert all(0.1 <= value <= 0.5 for value in values)
    assert train[0].num_points == 300
    assert (train[0].physical_positions >= 0).all()


def test_public_files_come_first_where_they_are_found(cache, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    points, stress = generator.random((6, 2, 7)), generator.random((6, 7))
    elasticity.write(cache / "elasticity", points, stress)
    assert load_set("elasticity")[0][0].attrs["generated"] is False
    elasticity.write(tmp_path / "mine", points, stress + 1)
    monkeypatch.setenv("BSAVIZ_ELASTICITY", str(tmp_path / "mine"))
    assert load_set("elasticity", generated=False)[0][0].target.min() > 1
    assert load_set("elasticity", generated=True, num_train=1, num_test=1, progress=False)[0][0].attrs["generated"]


def test_cars_are_sets_too(cache):
    train, test = load_set("cars", num_train=2, num_test=1)
    assert [car.name for car in train] == ["generated:0", "generated:1"]
    assert len(test) == 1
    assert load_set("shapenet-car", num_train=1)[0][0].name == "generated:0"  # its stand-in
    with pytest.raises(BsavizError, match="ShapeNet-Car is not here"):
        load_set("shapenet-car", generated=False)


def test_shapenet_car_files(released, cache):
    train, test = load_set("shapenet-car", released)
    assert len(train) + len(test) == 4
    assert train[0].attrs["dataset"] == "ShapeNet-Car"


@pytest.mark.parametrize(
    ("name", "file", "address"),
    [
        ("elasticity", "Random_UnitCell_XY_10.npy and Random_UnitCell_sigma_10.npy", "https://drive.google.com"),
        ("md", "polymer_train, polymer_test and splits", "https://zenodo.org/api/records/6764836"),
        ("cosmology", "halos_train_1.tfrecord", "https://zenodo.org/api/records/11479419"),
    ],
)
def test_what_is_missing_is_said_with_where_it_comes_from(cache, tmp_path, name, file, address):
    with pytest.raises(BsavizError, match=rf"fetch\('{name}'\) \(.*MB|GB.* from {address}.*{file}.*generated=True"):
        load_set(name, generated=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BsavizError, match=rf"empty of '{name}' must hold {file}.*it has no files. Check root= or"):
        load_set(name, tmp_path / "empty")
    with pytest.raises(BsavizError, match="it does not exist"):
        load_set(name, tmp_path / "nowhere")


def test_an_unknown_set():
    with pytest.raises(BsavizError, match="unknown set 'weather'; there are cars, shapenet-car, elasticity, md, cosmo"):
        load_set("weather")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "num_train must be a whole number of at least 1, or None, got 0"),
        ({"num_test": 1.5}, "num_test must be a whole number of at least 1, or None, got 1.5"),
        ({"part": "val"}, "part must be 'test', or 'val' for md and cosmology; got 'val' for 'elasticity'"),
        ({"generated": True, "root": "x"}, "generated=True makes the stand-in and reads no folder, but root='x'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(BsavizError, match=message):
        load_set("elasticity", **options)


def test_a_stand_in_that_cannot_be_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(BsavizError, match="cannot write .*elasticity-v1.*; set BSAVIZ_CACHE to another folder"):
        standins.stand_in("elasticity", 1, 1)
    with pytest.raises(BsavizError, match="there is no stand-in for 'cars'; there are elasticity, md, cosmology"):
        standins.stand_in("cars")
