import hashlib
import http.server
import io
import re
import tarfile
import threading
import zipfile

import numpy as np
import pytest

from bsaviz._checks import BsavizError
from bsaviz.datasets import ShapeNetCar, fetch, load_car
from bsaviz.datasets.download import REGISTRY, PublicSet


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BSAVIZ_SHAPENET", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path):
    """Serves the files of a folder on 127.0.0.1, and remembers what was asked for."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        asked = []

        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def do_GET(self):
            self.asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    running.folder, running.url = folder, f"http://127.0.0.1:{running.server_address[1]}"
    running.asked = Handler.asked
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def tar(path, files, mode="w:gz"):
    with tarfile.open(fileobj=path, mode=mode) if hasattr(path, "write") else tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def released_zip(server, released):
    """The released archive: a zip with a tar.gz for each param folder, and what macOS adds."""
    path = server.folder / "mlcfd_data.zip"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("__MACOSX/mlcfd_data/training_data/._param0.tar.gz", b"junk")
        for param in ("param0", "param1"):
            root = released / "training_data"
            files = {str(file.relative_to(root)): file.read_bytes() for file in (root / param).glob("*/*")}
            files |= {f"{param}/cc/hexvelo_smpl.vtk": b"large", f"{param}/cc/._press.npy": b"junk"}
            inner = io.BytesIO()
            tar(inner, files)
            outer.writestr(f"mlcfd_data/training_data/{param}.tar.gz", inner.getvalue())
    return path


def public(server, path, known_hash=None, name="shapenet-car"):
    return PublicSet(name, path.name, f"{server.url}/{path.name}", known_hash, "1 MB", REGISTRY[name].wanted)


def md5(path):
    return "md5:" + hashlib.md5(path.read_bytes()).hexdigest()


def test_a_set_is_downloaded_checked_and_unpacked_once(cache, server, released_zip, toy, capfd):
    one = public(server, released_zip, md5(released_zip))
    folder = fetch(one)
    assert folder == cache / "shapenet-car"
    assert "unpacking mlcfd_data.zip" in capfd.readouterr().err
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(
        f"{name}/{file}" for name in ("param0/cc", "param0/dd", "param1/aa", "param1/bb")
        for file in ("press.npy", "quadpress_smpl.vtk"))  # fmt: skip
    assert fetch(one) == folder
    assert server.asked == ["/mlcfd_data.zip"]
    assert load_car("shapenet:cc").pressure == pytest.approx(toy.pressure)


def test_progress_can_be_silent(cache, server, released_zip, capfd):
    fetch(public(server, released_zip, md5(released_zip)), progress=False)
    assert "|" not in capfd.readouterr().err


def test_the_set_of_meshes(cache, server, toy, tmp_path):
    ply = io.BytesIO()
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(toy.points)}"]
    header += [*(f"property float {axis}" for axis in "xyz"), f"element face {len(toy.faces)}"]
    ply.write("\n".join([*header, "property list uchar int vertex_indices", "end_header", ""]).encode())
    ply.write(toy.points[:, [1, 2, 0]].astype("<f4").tobytes())
    ply.write(b"".join(b"\3" + face.astype("<i4").tobytes() for face in toy.faces))
    press = io.BytesIO()
    np.save(press, toy.rows()[2])
    path, top = server.folder / "processed-car-pressure-data.tar.gz", "processed-car-pressure-data"
    tar(path, {f"{top}/train.txt": b"001", f"{top}/test.txt": b"002", f"{top}/data/._mesh_001.ply": b"junk",
               **{f"{top}/data/mesh_{i}.ply": ply.getvalue() for i in ("001", "002")},
               **{f"{top}/data/press_{i}.npy": press.getvalue() for i in ("001", "002")},
               f"{top}/data/data/mesh_001.ply": b"twice"})  # fmt: skip
    fetch(public(server, path, md5(path), "shapenet-car-meshes"), progress=False)
    assert [car.name for car in ShapeNetCar(split="test")] == ["002"]
    assert ShapeNetCar()[0].pressure == pytest.approx(toy.pressure)


def test_another_checksum_leaves_nothing(cache, server, released_zip):
    one = public(server, released_zip, "md5:" + "0" * 32)
    message = "mlcfd_data.zip from .* has another checksum than md5:0+; try again, or download it elsewhere and put it"
    with pytest.raises(BsavizError, match=message + ".*cache/downloads/mlcfd_data.zip"):
        fetch(one, progress=False)
    assert not [file for file in cache.rglob("*") if file.is_file()]


def test_without_a_connection_the_message_says_what_to_do(cache, server, released_zip):
    one = public(server, released_zip)
    server.shutdown()
    server.server_close()
    with pytest.raises(BsavizError, match=rf"cannot download mlcfd_data.zip \(1 MB\) from {server.url}/mlcfd_data.zip "
                                          r"\(no connection: .*\); download it elsewhere and put it at "
                                          r".*cache/downloads/mlcfd_data.zip, then fetch again"):  # fmt: skip
        fetch(one, progress=False)
    assert not (cache / "shapenet-car").exists()
    (cache / "downloads/mlcfd_data.zip").write_bytes(released_zip.read_bytes())
    assert len(ShapeNetCar(fetch(one, progress=False))) == 4  # put there by hand


def test_an_address_that_is_gone(cache, server):
    with pytest.raises(BsavizError, match=r"cannot download gone.zip .* \(the server answers 404\)"):
        fetch(public(server, server.folder / "gone.zip"), progress=False)


def test_a_file_put_there_by_hand_is_checked(cache, server, released_zip):
    one = public(server, released_zip, md5(released_zip))
    (cache / "downloads").mkdir(parents=True)
    (cache / "downloads/mlcfd_data.zip").write_bytes(b"something else")
    with pytest.raises(BsavizError, match=r"has the md5 checksum \w+, expected \w+: it is damaged"):
        fetch(one, progress=False)
    assert server.asked == []
    (cache / "downloads/mlcfd_data.zip").write_bytes(released_zip.read_bytes())
    fetch(one, progress=False)
    assert server.asked == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "inner cut"])
def test_a_damaged_archive_without_a_published_checksum_is_still_noticed(cache, server, released_zip, damage):
    content = bytearray(released_zip.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    else:
        with zipfile.ZipFile(released_zip) as whole, zipfile.ZipFile(cache.parent / "other.zip", "w") as other:
            for name in whole.namelist():
                other.writestr(name, whole.read(name)[:-200])
        content = (cache.parent / "other.zip").read_bytes()
    released_zip.write_bytes(content)
    with pytest.raises(BsavizError, match=r"mlcfd_data.zip is damaged or incomplete .*; remove it and fetch again"):
        fetch(public(server, released_zip), progress=False)
    assert [entry.name for entry in cache.iterdir()] == ["downloads"]


def test_an_archive_of_something_else(cache, server):
    with zipfile.ZipFile(server.folder / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(BsavizError, match=r"other.zip holds none of the files of shapenet-car; is it the file"):
        fetch(public(server, server.folder / "other.zip"), progress=False)
    assert [entry.name for entry in cache.iterdir()] == ["downloads"]


def test_members_cannot_leave_the_cache(cache, server):
    path = server.folder / "evil.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("param0/../../../press.npy", "x")
        archive.writestr("param0/../press.npy", "x")
    folder = fetch(public(server, path), progress=False)
    assert all(folder in file.parents for file in cache.parent.rglob("press.npy"))


def test_a_cache_that_cannot_be_written(server, released_zip, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("BSAVIZ_CACHE", str(tmp_path / "file"))
    with pytest.raises(BsavizError, match=r"cannot write .*; free space \(1 MB\), or set BSAVIZ_CACHE"):
        fetch(public(server, released_zip), progress=False)


def test_a_full_disk_while_unpacking_leaves_nothing(cache, server, released_zip, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bsaviz.datasets.download._save", full)
    with pytest.raises(BsavizError, match=r"cannot unpack .* into .*: No space left on device; free some space"):
        fetch(public(server, released_zip), progress=False)
    assert [entry.name for entry in cache.iterdir()] == ["downloads"]


def plain(server, name, content, **changed):
    (server.folder / name).write_bytes(content)
    return PublicSet("cells", name, f"{server.url}/{name}", None, "1 kB", **({"wanted": None} | changed))


def test_a_set_of_plain_files_and_an_archive(cache, server):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("all/halos_train_1.tfrecord", b"records")
    more = plain(server, "records.zip", buffer.getvalue(), wanted=r"(?:^|/)(halos[^/]*)$")
    folder = fetch(plain(server, "xy.npy", b"points", more=(more, plain(server, "splits.txt", b"a b"))), progress=False)
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert found == {"xy.npy": b"points", "halos_train_1.tfrecord": b"records", "splits.txt": b"a b"}


def test_nothing_is_left_when_one_of_several_files_cannot_be_had(cache, server):
    (server.folder / "gone.txt").unlink(missing_ok=True)
    gone = PublicSet("cells", "gone.txt", f"{server.url}/gone.txt", None, "1 kB", None)
    with pytest.raises(BsavizError, match="cannot download gone.txt"):
        fetch(plain(server, "xy.npy", b"points", more=(gone,)), progress=False)
    assert not (cache / "cells").exists()


def test_a_web_page_in_place_of_a_file(cache, server):
    with pytest.raises(BsavizError, match=r"xy.npy gave a web page in place of xy.npy; open that address in a browser, "
                                          r"and put the file at .*downloads/xy.npy, then fetch again"):  # fmt: skip
        fetch(plain(server, "xy.npy", b"<!DOCTYPE html><title>Quota exceeded</title>"), progress=False)
    assert not (cache / "downloads/xy.npy").exists()


@pytest.mark.parametrize(
    ("name", "member", "path"),
    [
        ("md", "polymer_train/poly00951/position.h5", "polymer_train/poly00951/position.h5"),
        ("md", "a/polymer_test/rand001/bond.h5", "polymer_test/rand001/bond.h5"),
        ("md", "polymer_train/poly00951/lattice.h5", None),
        ("cosmology", "halos_train_12.tfrecord", "halos_train_12.tfrecord"),
        ("cosmology", "readme.md", None),
    ],
)
def test_what_is_taken_of_the_archives(name, member, path):
    found = re.search(REGISTRY[name].wanted, member)
    assert (found and found.group(1)) == path


def test_unknown_sets_list_the_known():
    with pytest.raises(BsavizError, match="no public set 'shapenet'; known are shapenet-car, .*, md, cosmology"):
        fetch("shapenet")


def test_the_registry_says_where_things_come_from():
    for one in [part for public in REGISTRY.values() for part in (public, *public.more)]:
        assert one.url.startswith("http")
        assert one.wanted is None or one.file in one.url or "zenodo.org/api" in one.url
        assert one.known_hash is None or one.known_hash.partition(":")[0] in ("md5", "sha256")
