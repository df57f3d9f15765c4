"""Public sets: downloaded once, checked, and unpacked into the cache."""

import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir
from bsaviz.datasets.shapenet import CACHED


@dataclass(frozen=True)
class PublicSet:
    """An archive on the web and what to take from it, or a plain file.

    Parameters
    ----------
    name : str
        Also the folder of the cache it is unpacked into.
    file, url : str
        Name of the archive, and its address. Of a plain file, its path in the folder.
    known_hash : str or None
        ``"md5:..."`` or ``"sha256:..."``. None where the publisher gives none: then the checksums inside the archive
        (CRC-32 of each zip member and gzip stream) are what is checked, while unpacking.
    size : str
        For people.
    wanted : str or None
        Regular expression with which the end of a member's path must agree, from its folder on; the first group is
        the path it is unpacked to. Archives within the archive are looked into. None: a plain file, taken as it is.
    more : tuple of PublicSet
        Further archives and files of the same folder.
    """

    name: str
    file: str
    url: str
    known_hash: str | None
    size: str
    wanted: str | None
    more: tuple["PublicSet", ...] = ()


def _split(part, known_hash):
    """A split file of the polymers, as published with their paper's code."""
    commit = "1e3c717b2a78238fa24337eced288c9a7ee7b1d8"
    url = f"https://raw.githubusercontent.com/kyonofx/mlcgmd/{commit}/graphwm/splits/chain/{part}.txt"
    return PublicSet("md", f"splits/{part}.txt", url, known_hash, "1 kB", None)


REGISTRY = {
    one.name: one
    for one in (
        PublicSet(
            name=CACHED[0],
            file="mlcfd_data.zip",
            url="http://www.nobuyuki-umetani.com/publication/mlcfd_data.zip",
            known_hash=None,  # its author publishes none
            size="about 2 GB, of which the surfaces, about 0.2 GB, are unpacked",
            wanted=r"(?:^|/)(param\d+/[^/]+/(?:quadpress_smpl\.vtk|press\.npy))$",
        ),
        PublicSet(
            name=CACHED[1],
            file="processed-car-pressure-data.tar.gz",
            url="https://zenodo.org/records/13936501/files/processed-car-pressure-data.tar.gz",
            known_hash="md5:24a46fe791085201d48ee5db7b6cfc86",
            size="198 MB",
            wanted=r"^[^/]+/(data/(?:mesh_[^/]+\.ply|press_[^/]+\.npy|[^/]+/(?:tri_mesh\.ply|press\.npy))|\w+\.txt)$",
        ),
        PublicSet(  # from the folder of Google Drive that the benchmark of arXiv 2207.05209 names; no checksums
            name="elasticity",
            file="Random_UnitCell_XY_10.npy",
            url="https://drive.google.com/uc?export=download&id=1I-fO-RsFvD3nqBuFrg67R0yqTFdD_gpA",
            known_hash=None,
            size="31 MB",
            wanted=None,
            more=(
                PublicSet(
                    name="elasticity",
                    file="Random_UnitCell_sigma_10.npy",
                    url="https://drive.google.com/uc?export=download&id=1Ia5izgUum-IQLdO6PW70HO8AdAqA_IVb",
                    known_hash=None,
                    size="16 MB",
                    wanted=None,
                ),
            ),
        ),
        PublicSet(
            name="md",
            file="polymers.zip",
            url="https://zenodo.org/api/records/6764836/files-archive",
            known_hash=None,  # the archive is packed when asked for
            size="about 13 GB",
            wanted=r"(?:^|/)(polymer_(?:train|test)/[^/]+/(?:position|bond|ptype)\.h5)$",
            more=(
                _split("train", "sha256:8f68b10f8b5213d7af7c53e9130fa67553855000a24c6b05af4d4967b6d5bdb7"),
                _split("val", "sha256:b03244a5a07dba31756bc9f1a660ca630fc05860a73dc4ad6a8a516812dabcb5"),
                _split("test_class2", "sha256:b825bc2665eb7fc2a3bc45eef3047f56c7f806c4a30c2e276969b708c443f637"),
            ),
        ),
        PublicSet(
            name="cosmology",
            file="quijote_records.zip",
            url="https://zenodo.org/api/records/11479419/files-archive",
            known_hash=None,  # the archive is packed when asked for
            size="about 7 GB",
            wanted=r"(?:^|/)(halos[^/]*\.tfrecord)$",
        ),
    )
}


def fetch(name, *, progress=True):
    """Download a public set into the cache, unless it is there, and unpack it.

    Parameters
    ----------
    name : str or PublicSet
        ``"shapenet-car"`` (the released layout, 889 cars), ``"shapenet-car-meshes"`` (triangulated, 611 of them in
        a split of their own), ``"elasticity"``, ``"md"`` or ``"cosmology"``.
    progress : bool
        Show bars.

    Returns
    -------
    Path
        The folder with the cars, as `ShapeNetCar` takes it, or with the files, as `load_set` takes it.

    Raises
    ------
    BsavizError
        Without a connection (says which file, its address, and where to put it by hand), for a file with another
        checksum, for a damaged archive, and for a full disk. Nothing half-unpacked is left.
    """
    public = name if isinstance(name, PublicSet) else REGISTRY.get(name)
    if public is None:
        raise BsavizError(f"no public set {name!r}; known are {', '.join(REGISTRY)}")
    folder = cache_dir() / public.name
    if not folder.is_dir():
        parts = [(cache_dir() / "downloads" / part.file, part) for part in (public, *public.more)]
        for archive, part in parts:
            if archive.is_file():
                _check(archive, part)
            else:
                _download(archive, part, progress)
            _refuse_page(archive, part)
        _unpack(parts, folder, progress)
    return folder


def _check(archive, public):
    """A file that lies there already, perhaps put there by hand, must be the right one."""
    import pooch

    if public.known_hash is None:
        return
    algorithm, _, expected = public.known_hash.partition(":")
    found = pooch.file_hash(str(archive), alg=algorithm)
    if found != expected:
        raise BsavizError(
            f"{archive} has the {algorithm} checksum {found}, expected {expected}: it is damaged or another version; "
            f"remove it and fetch again, or put the file from {public.url} there"
        )


def _refuse_page(archive, public):
    """A server that is asked too often answers with a page in place of the file."""
    with open(archive, "rb") as file:
        if file.read(64).lstrip()[:1] != b"<":
            return
    archive.unlink()
    raise BsavizError(
        f"{public.url} gave a web page in place of {public.file}; open that address in a browser, and put the file at "
        f"{archive}, then fetch again"
    )


def _download(archive, public, progress):
    import pooch
    import requests

    by_hand = f"download it elsewhere and put it at {archive}, then fetch again"
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 20)
        pooch.retrieve(public.url, public.known_hash, archive.name, archive.parent, downloader=downloader)
    except requests.RequestException as error:
        raise BsavizError(
            f"cannot download {public.file} ({public.size}) from {public.url} ({_short(error)}); {by_hand}"
        ) from error
    except ValueError as error:  # how pooch reports a wrong checksum; it has removed the file
        raise BsavizError(
            f"{public.file} from {public.url} has another checksum than {public.known_hash}; try again, or {by_hand}"
        ) from error
    except OSError as error:
        raise BsavizError(f"cannot write {archive}: {error.strerror or error}; free space ({public.size}), or set "
                          "BSAVIZ_CACHE to another folder") from error  # fmt: skip


def _short(error):
    """The innermost cause of a connection error in a few words."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return f"the server answers {status}" if status else f"no connection: {type(error).__name__}"


def _unpack(parts, folder, progress):
    """Unpack what is wanted beside `folder` and rename it, so that a folder that is there is whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-"))
    try:
        for archive, public in parts:
            _unpack_one(archive, temporary, public, progress)
        temporary.rename(folder)
    except OSError as error:
        raise BsavizError(f"cannot unpack {archive} into {folder}: {error.strerror or error}; free some space, or set "
                          "BSAVIZ_CACHE to another folder") from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack_one(archive, target, public, progress):
    from tqdm.auto import tqdm

    if public.wanted is None:
        with open(archive, "rb") as stream:
            _save(stream, target, public.file)
        return
    unpacked = 0
    try:
        with tqdm(desc=f"unpacking {public.file}", unit=" files", disable=not progress) as bar:
            for member, stream in _members(archive):
                found = re.search(public.wanted, member)
                if found and not PurePosixPath(member).name.startswith("._") and "__MACOSX" not in member:
                    _save(stream, target, found.group(1))
                    bar.update()
                    unpacked += 1
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise BsavizError(f"{archive} is damaged or incomplete ({error}); remove it and fetch again") from error
    if not unpacked:
        raise BsavizError(f"{archive} holds none of the files of {public.name}; is it the file from {public.url}?")


def _save(stream, root, path):
    target = root.joinpath(*(part for part in PurePosixPath(path).parts if part != ".."))
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target, "wb") as file:
        shutil.copyfileobj(stream, file)


def _members(archive):
    """Path and stream of each file of a zip or tar archive, looking into tar.gz files of a zip."""
    if not zipfile.is_zipfile(archive):
        with open(archive, "rb") as file:
            yield from _tar_members(file)
        return
    with zipfile.ZipFile(archive) as outer:
        for name in outer.namelist():
            if name.endswith("/"):
                continue
            with outer.open(name) as stream:
                if name.endswith(".tar.gz") and not PurePosixPath(name).name.startswith("._"):
                    yield from _tar_members(stream)
                    while stream.read(1 << 20):  # the checksum is compared at the member's very end
                        pass
                else:
                    yield name, stream


def _tar_members(file):
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            if member.isfile():
                yield member.name, archive.extractfile(member)
