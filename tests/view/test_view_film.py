"""Films: they turn, hold the whole car, close on themselves, and leave nothing behind when they fail."""

import imageio.v3 as iio
import numpy as np
import pytest
import view_cases

from bsaviz._checks import BsavizError
from bsaviz.view import export_film

SMALL = dict(seconds=1, fps=6, window_size=(602, 301))


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "field.mp4"
    export_film(view_cases.field(layers=1, heads=1), path, camera="side", **SMALL)
    return iio.imread(path)


def test_film_has_the_frames_and_an_even_size(frames):
    assert frames.shape == (6, 300, 602, 3)


def test_film_turns_and_does_not_repeat_its_first_frame(frames):
    drawing = frames[:, 60:230].astype(int)
    assert all(np.abs(a - b).mean() > 1 for a, b in zip(drawing, drawing[1:]))
    assert np.abs(drawing[-1] - drawing[0]).mean() > 1  # the loop goes on, it does not stand still


def test_no_frame_cuts_the_car(frames):
    side = 602 // 3
    for frame in frames:
        for panel in range(3):
            edge = frame[50:235, [panel * side + 1, (panel + 1) * side - 2]]
            assert edge.min() > 200


def test_gif_of_gates_through_the_accessor(tmp_path):
    path = view_cases.gates().bsa.export_film(tmp_path / "gates.gif", camera="top", **SMALL)
    assert iio.imread(path, index=None).shape[0] == 6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (dict(path="film.avi"), r"ending in .mp4 or .gif, got 'film.avi'"),
        (dict(fps=0), "fps must be a whole number of frames a second from 1 to 60, got 0"),
        (dict(seconds=0), "seconds x fps must be 2 to 3600 frames, got 0"),
        (dict(seconds=1000, fps=60), "got 1000 s at 60 frames"),
        (dict(turns=0), "turns must be a number other than 0"),
        (dict(kind="nothing"), "nothing"),
    ],
)
def test_errors_say_what_was_expected(tmp_path, options, words):
    options = dict(path="film.mp4") | options
    path = tmp_path / options.pop("path")
    with pytest.raises(BsavizError, match=words):
        export_film(view_cases.field(layers=1, heads=1), path, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".gif", ".mp4"])
def test_full_disk_leaves_nothing(tmp_path, full_disk, suffix):
    with full_disk(limit=2048), pytest.raises(BsavizError, match="cannot write"):
        export_film(view_cases.field(layers=1, heads=1), tmp_path / f"film{suffix}", **SMALL)
    assert not list(tmp_path.iterdir())
