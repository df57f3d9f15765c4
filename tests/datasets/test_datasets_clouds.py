import re

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import load_car

POINTS = np.array([[0, 0, 0], [4, 0, 0.5], [4, 1, 0], [-1e-3, 1, 2.5e2]])


def load(tmp_path, name, text, **options):
    (tmp_path / name).write_text(text)
    return load_car(tmp_path / name, frame="file", **options)


@pytest.mark.parametrize("mark", [" ", "\t", "   ", ",", ", ", ";"])
@pytest.mark.parametrize("suffix", ["xyz", "txt", "csv"])
def test_columns_of_numbers(tmp_path, mark, suffix):
    car = load(tmp_path, f"a.{suffix}", "\n".join(mark.join(map(str, point)) for point in POINTS))
    assert car.positions == pytest.approx(POINTS)
    assert car.faces is None
    assert not car.fields


@pytest.mark.parametrize(
    "text",
    [
        "x,y,z,p\n0,0,0,1\n4,0,1,2\n",
        "# x y z p\n0 0 0 1\n4 0 1 2\n",
        "p;z;y;x\n1;0;0;0\n2;1;0;4\n",
        '"Points:0","Points:1","Points:2","p"\n0,0,0,1\n4,0,1,2\n',
        "X Y Z Pressure\r\n0 0 0 1\r\n4 0 1 2\r\n",
        "2\n0 0 0 1\n4 0 1 2\n",
        "// scan of a car\n\n0 0 0 1\n\n4 0 1 2\n",
        "\ufeffx,y,z,p\n0,0,0,1\n4,0,1,2,\n",
    ],
)
def test_headers_comments_and_values(tmp_path, text):
    car = load(tmp_path, "a.csv", text)
    assert car.positions.tolist() == [[0, 0, 0], [4, 0, 1]]
    assert car.pressure.tolist() == [1, 2]


def test_named_values_are_kept(tmp_path):
    car = load(tmp_path, "a.csv", "x,y,z,p,T\n0,0,0,1,5\n4,0,1,2,6\n", field="T")
    assert car.pressure.tolist() == [5, 6]
    assert car.fields["p"].tolist() == [1, 2]
    assert load(tmp_path, "b.xyz", "0 0 0 1 5\n4 0 1 2 6\n").fields["column_5"].tolist() == [5, 6]


def test_numpy_files(tmp_path, toy):
    np.save(tmp_path / "a.npy", toy.points)
    assert (load_car(tmp_path / "a.npy", frame="file").positions == toy.points).all()
    np.save(tmp_path / "b.npy", np.concatenate([toy.points, toy.pressure[:, None]], axis=1))
    assert (load_car(tmp_path / "b.npy").pressure == toy.pressure).all()
    np.savez(tmp_path / "c.npz", Points=toy.points, faces=toy.faces, press=toy.pressure, title=np.array("text"))
    car = load_car(tmp_path / "c.npz", frame="file")
    assert (car.faces == toy.faces).all()
    assert (car.pressure == toy.pressure).all()
    assert car.attrs["pressure_field"] == "press"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: it has no points"),
        ("# only words\n", "is empty: it has no points"),
        ("x y z\n", "is empty: it has no points"),
        ("0 0 0\n1 0\n", "is truncated or damaged: row 1 of its numbers is '1 0', expected 3 numbers"),
        ("0 0 0\n1 0 abc\n", "is truncated or damaged: row 1 of its numbers is '1 0 abc', expected 3 numbers"),
        ("0 0\n1 0\n", "has 2 columns; a cloud needs at least x, y and z"),
        ("x,y,z\n0,0,0,1\n", "the header names 3 columns, the rows hold 4"),
        ("0 0 0\nnan 0 0\n", "1 of 2 positions are NaN or infinite, the first at index 1"),
    ],
)
def test_damaged_text(tmp_path, text, message):
    with pytest.raises(BsavizError, match=re.escape(message)):
        load(tmp_path, "a.csv", text)


def test_damaged_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 2)))
    with pytest.raises(BsavizError, match=r"holds an array of shape \(5, 2\); a cloud needs \(points, 3 or more\)"):
        load_car(tmp_path / "a.npy")
    np.savez(tmp_path / "b.npz", values=np.zeros((5, 3)))
    with pytest.raises(BsavizError, match=r"has no positions: its arrays are \['values'\], expected one of positions"):
        load_car(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", points=np.zeros((5, 3)), p=np.zeros(4))
    with pytest.raises(BsavizError, match=r"field 'p' must have one value \(or one row\) a point: expected 5, got 4"):
        load_car(tmp_path / "c.npz")
    np.save(tmp_path / "d.npy", np.zeros((50, 3)))
    for path in (tmp_path / "d.npy", tmp_path / "b.npz"):
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(BsavizError, match=r"cannot read .* as a numpy file .*is it truncated\?"):
            load_car(path)
