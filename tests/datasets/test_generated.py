"""Generated cars: sound surfaces in the canonical frame that look like cars, reproducible from their seeds."""

import time

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz._files import packaged
from bsaviz.datasets import generated
from bsaviz.datasets.generated import TEST_INDICES, TRAIN_INDICES, generate_car, generated_cars, load_generated
from bsaviz.datasets.generated_body import body_distance
from bsaviz.datasets.generated_shape import STYLES, draw_shape
from bsaviz.physics.surfaces import check_surface

DYNAMIC_PRESSURE = 0.5 * 1.184 * 20.0**2


@pytest.fixture(scope="module")
def cars():
    return generated_cars()


@pytest.fixture(scope="module")
def made_anew():
    return generate_car(7)


def test_packaged_set_is_small_quick_and_complete(cars):
    assert packaged("cars.npz").stat().st_size < 8_000_000
    generated._packaged_halves.cache_clear()
    start = time.perf_counter()
    load_generated(7)
    assert time.perf_counter() - start < 1
    assert [car.attrs["seed"] for car in cars] == list(range(64))
    assert sorted([*TRAIN_INDICES, *TEST_INDICES]) == list(range(64))
    assert {car.attrs["style"] for car in generated_cars(TEST_INDICES)} == set(STYLES)


def test_every_packaged_car_is_a_closed_symmetric_body(cars):
    for car in cars:
        assert car.positions.shape == (3586, 3), car.name
        check_surface(car.positions, car.faces)
        mirrored = car.positions * np.float32([1, -1, 1])
        assert {*map(tuple, mirrored.tolist())} == {*map(tuple, car.positions.tolist())}, car.name
        assert len(np.unique(car.positions, axis=0)) == 3586, car.name


def test_symmetric_points_have_the_same_pressure(cars):
    for car in cars[:6]:
        there = {tuple(point): value for point, value in zip(car.positions.tolist(), car.pressure.tolist())}
        assert all(there[x, -y, z] == value for (x, y, z), value in there.items())


def test_size_and_frame_are_those_of_cars(cars):
    for car in cars:
        low, high = car.positions.min(axis=0), car.positions.max(axis=0)
        assert 3.7 < high[0] - low[0] < 5.0, car.name
        assert 1.6 < high[1] - low[1] < 2.5, car.name  # door mirrors included
        assert 1.2 < high[2] < 2.0, car.name
        assert 0 < low[2] < 0.06, car.name
        assert abs(low[0] + high[0]) < 0.05, car.name
        assert car.units == {"pressure": "Pa", "positions": "m"}
    lengths = np.array([car.length for car in cars])
    assert np.ptp(lengths) > 1


def test_car_stands_on_four_wheels(cars):
    for car in cars:
        shape = car.attrs
        wheels = car.positions[car.positions[:, 2] < 0.6 * shape["clearance"]]
        for axle in (shape["front_overhang"], shape["front_overhang"] + shape["wheelbase"]):
            for side in (-1, 1):
                one = wheels[np.abs(wheels[:, 0] + shape["length"] / 2 - axle) < shape["wheel_radius"]]
                one = one[np.sign(one[:, 1]) == side]
                assert len(one) >= 6, car.name
                assert np.ptp(one[:, 1]) > 0.1, car.name
        middle = wheels[np.abs(wheels[:, 1]) < 0.4]
        assert len(middle) == 0, car.name


def test_bonnet_lies_below_the_roof_behind_a_windscreen(cars):
    for car in cars:
        shape = car.attrs
        x, y, z = car.positions.T
        along = x + shape["length"] / 2
        centre = (np.abs(y) < 0.3) & (z > 0.5)
        bonnet = z[centre & (along > 0.4 * shape["cowl"]) & (along < 0.8 * shape["cowl"])].max()
        roof = z[centre].max()
        assert roof - bonnet > 0.3, car.name
        screen = centre & (along > shape["cowl"] + 0.1) & (z < roof - 0.12) & (along < shape["length"] / 2)
        slope = np.polyfit(along[screen], z[screen], 1)[0]
        assert abs(np.degrees(np.arctan(slope)) - shape["screen_angle"]) < 8, car.name


def test_boot_lid_tells_a_sedan_from_an_estate(cars):
    def roof_share(car):
        x, _, z = car.positions.T
        rear = x > 0.35 * car.length
        return z[rear].max() / z.max()

    by_style = {style: [roof_share(car) for car in cars if car.attrs["style"] == style] for style in STYLES}
    assert max(by_style["sedan"]) < min(by_style["estate"])
    assert max(by_style["coupe"]) < min(by_style["van"])


def test_pressure_is_highest_at_the_nose_and_low_at_the_roof_edge(cars):
    for car in cars:
        coefficient = car.pressure / DYNAMIC_PRESSURE
        assert coefficient.max() <= 1, car.name
        x, y, z = car.positions.T
        nose = (x < x.min() + 0.25) & (np.abs(y) < 0.4)
        assert coefficient[nose].max() > 0.9, car.name
        front = car.attrs["cowl"] - car.attrs["length"] / 2
        roof_edge = (z > 0.9 * z.max()) & (np.abs(y) < 0.4) & (x > front) & (x < front + 1.6)
        assert coefficient[roof_edge].min() < -0.6, car.name
        screen_foot = (np.abs(x - front) < 0.25) & (np.abs(y) < 0.3) & (z > 0.5)
        assert coefficient[screen_foot].mean() > 0.1, car.name


def test_seed_makes_the_packaged_car_again(made_anew):
    stored = load_generated(7)
    gap = np.linalg.norm(made_anew.positions[:, None] - stored.positions[None], axis=2)
    nearest = gap.argmin(axis=1)
    # Where a machine rounds otherwise, single points may sit elsewhere on the same surface.
    assert np.median(gap.min(axis=1)) < 1e-4
    assert gap.min(axis=1).max() < 0.15
    assert np.median(np.abs(made_anew.pressure - stored.pressure[nearest])) < 1
    assert made_anew.attrs == stored.attrs
    assert made_anew.name == stored.name


def test_packaged_points_lie_on_the_bodies_of_their_seeds(cars):
    for car in cars[::8]:
        distance = body_distance(draw_shape(car.attrs["seed"]), spacing=0.0175)
        points = car.positions + [car.attrs["length"] / 2, 0, 0]
        points[:, 1] = np.abs(points[:, 1])
        away = np.abs(distance(points))
        assert np.median(away) < 1e-4
        assert np.percentile(away, 99) < 3e-3


def test_same_seed_same_bits():
    first, second = (generate_car(2, num_points=1500) for _ in range(2))
    assert first.num_points == 1500
    check_surface(first.positions, first.faces)
    np.testing.assert_array_equal(first.positions, second.positions)
    np.testing.assert_array_equal(first.faces, second.faces)
    np.testing.assert_array_equal(first.pressure, second.pressure)


def test_index_beyond_the_packaged_ones_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path))
    monkeypatch.setattr(generated, "NUM_POINTS", 1500)
    made = load_generated(1000)
    assert (made.attrs["seed"], made.attrs["style"]) == (1000, list(STYLES)[1000 % len(STYLES)])
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    monkeypatch.setattr(generated, "_generate_half", lambda *_: pytest.fail("made a second time"))
    np.testing.assert_array_equal(load_generated(1000).positions, made.positions)


def test_damaged_cache_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path))
    path = tmp_path / "generated" / f"v{generated._VERSION}-1000.npz"
    path.parent.mkdir()
    path.write_bytes(packaged("cars.npz").read_bytes()[:5000])
    with pytest.raises(BsavizError, match="v1-1000.npz is not a whole file of generated cars .*; remove it"):
        load_generated(1000)


def test_missing_packaged_file_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "packaged", lambda name: tmp_path / name)
    generated._packaged_halves.cache_clear()
    try:
        with pytest.raises(BsavizError, match="packaged cars are missing: .*python -m bsaviz.datasets.generated --out"):
            load_generated(0)
    finally:
        generated._packaged_halves.cache_clear()


@pytest.mark.parametrize("seed", [-1, 1.5, "7", True])
def test_bad_seed_is_named(seed):
    for function in (generate_car, load_generated):
        with pytest.raises(BsavizError, match="must be an integer, zero or more, got"):
            function(seed)


@pytest.mark.parametrize(
    ("num_points", "message"),
    [
        (3587, "must be an even integer .*got 3587"),
        (100, "must be between 1500"),
        (100_000, "got 100000; take Car.subsample"),
    ],
)
def test_bad_number_of_points_is_named(num_points, message):
    with pytest.raises(BsavizError, match=message):
        generate_car(0, num_points)


def test_command_line_writes_a_file_that_loads(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generated, "NUM_POINTS", 1500)
    path = tmp_path / "cars.npz"
    generated.main(["--count", "1", "--out", str(path)])
    assert "wrote 1 cars" in capsys.readouterr().out
    assert list(generated._read(path)) == [0]


def test_command_line_refuses_no_cars(capsys):
    with pytest.raises(SystemExit):
        generated.main(["--count", "0"])
    assert "--count must be at least 1, got 0" in capsys.readouterr().err
