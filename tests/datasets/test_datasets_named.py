"""Sets of cars by one word: counts and knobs are read, fields are made once, and nonsense is refused."""

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import generated, named, training_cars, with_potential
from bsaviz.datasets.named import fields_of, knob_of


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path))
    return tmp_path


def names(cars):
    return [car.name for car in cars]


def test_counts_of_generated_cars():
    train, test = training_cars("generated:10")
    assert (names(train), names(test)) == ([f"generated:{i}" for i in range(8)], ["generated:8", "generated:9"])
    train, test = training_cars("generated:3+4")
    assert names(train) == [f"generated:{i}" for i in range(3)]
    assert names(test) == [f"generated:{i}" for i in range(3, 7)]


def test_a_regime_is_made_once_and_kept(cache, monkeypatch):
    train, test = training_cars("screened:0.1@2+1", progress=False)
    made = with_potential(train[1], screening_length=0.1)
    for name in ("charge", "potential"):
        np.testing.assert_array_equal(train[1].fields[name], made.fields[name])
    assert test[0].attrs["screening_length"] == 0.1
    monkeypatch.setattr(named, "_fields", lambda *_, **__: pytest.fail("made a second time"))
    again, _ = training_cars("screened:0.1@2+1", progress=False)
    np.testing.assert_array_equal(again[0].fields["potential"], train[0].fields["potential"])
    assert (cache / "regimes" / "v1-screened-0.1.npz").is_file()


def test_every_regime_says_what_it_is_for(cache):
    for name, given in (("laplace@1+1", "charge"), ("helmholtz:0.5@1+1", "charge"), ("heat:0.05@1+1", "temperature")):
        target, features = fields_of(name)
        car = training_cars(name, progress=False)[0][0]
        assert features == (given,)
        assert {target, given, "pressure"} <= set(car.fields)
    assert fields_of("generated:20") == (None, ())
    assert fields_of("beacons") == ("value", ("partner", "beacon"))
    assert knob_of("helmholtz:0.5@1+1") == {"wavelength": 0.5}
    assert knob_of("laplace") == knob_of("generated") == {}


def test_beacons():
    train, test = training_cars("beacons@3+2")
    assert (len(train), len(test)) == (3, 2)
    assert "cause" in train[0].fields


def test_packed_cars_in_the_cache_are_found(cache, monkeypatch):
    monkeypatch.setattr(generated, "NUM_POINTS", 1500)
    path = cache / "generated" / f"v{generated._VERSION}-some.npz"
    generated.write_cars(path, [1000, 1003])
    monkeypatch.setattr(generated, "_generate_half", lambda *_: pytest.fail("made a second time"))
    cars = generated.generated_cars([1003, 1000], progress=False)
    assert names(cars) == ["generated:1003", "generated:1000"]
    path.write_bytes(b"no archive")
    with pytest.raises(pytest.fail.Exception, match="made a second time"):
        generated.load_generated(1003)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("generated:1", "'generated:1': expected a count of at least 2"),
        ("generated:5+0", "those to train and to test on as in 'generated:700\\+189'"),
        ("generated:x", "expected a count of at least 2"),
        ("screened", "'screened': expected a length above 0, as in 'screened:0.1'"),
        ("heat:0", "expected a length above 0, as in 'heat:0.1'"),
        ("helmholtz:1.2.3", "expected a length above 0"),
        ("laplace:0.1", "expected no number after a colon"),
        ("beacons@0+1", "at least one car to train and one to test on"),
        ("trucks", "unknown set of cars 'trucks'; give 'generated'"),
    ],
)
def test_errors_say_what_was_expected(name, words):
    with pytest.raises(BsavizError, match=words):
        training_cars(name)
