"""Files are written whole, or not at all."""

import errno

import pytest

from bsaviz._checks import BsavizError
from bsaviz._files import whole_file


def test_the_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "result.txt"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def write():
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise KeyError("the writer broke")

    with pytest.raises(KeyError):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_message(tmp_path):
    def write():
        with whole_file(tmp_path / "result.html") as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(BsavizError, match=r"cannot write .*result.html: No space left on device; free some space"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "a-file").write_text("")
    said = "a-file is a file, not a folder; choose another folder"
    with pytest.raises(BsavizError, match=said), whole_file(tmp_path / "a-file" / "x.png"):
        pass
