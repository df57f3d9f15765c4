"""Public sets of cars: downloaded once, checked, and unpacked into the cache."""

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
    """An archive on the web and what to take from it.

    Parameters
    ----------
    name : str
        Also the folder of the cache it is unpacked into.
    file, url : str
        Name of the archive, and its address.
    known_hash : str or None
        ``"md5:..."`` or ``"sha256:..."``. None where the publisher gives none: then the checksums inside the archive
        (CRC-32 of each zip member and gzip stream) are what is checked, while unpacking.
    size : str
        For people.
    wanted : str
        Regular expression with which the end of a member's path must agree, from its folder on; the first group is
        the path it is unpacked to. Archives within the archive are looked into.
    """

    name: str
    file: str
    url: str
    known_hash: str | None
    size: str
    wanted: str


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
    )
}


def fetch(name, *, progress=True):
    """Download a public set into the cache, unless it is there, and unpack it.

    Parameters
    ----------
    name : str or PublicSet
        ``"shapenet-car"`` (the released layout, 889 cars) or ``"shapenet-car-meshes"`` (triangulated, 611 of them in
        a split of their own).
    progress : bool
        Show bars.

    Returns
    -------
    Path
        The folder with the cars, as `ShapeNetCar` takes it.

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
        archive = cache_dir() / "downloads" / public.file
        if archive.is_file():
            _check(archive, public)
        else:
            _download(archive, public, progress)
        _unpack(archive, folder, public, progress)
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


def _download(archive, public, progress):
    import pooch
    import requests

    by_hand = f"download it elsewhere and put it at {archive}, then fetch again"
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 20)
        pooch.retrieve(public.url, public.known_hash, public.file, archive.parent, downloader=downloader)
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


def _unpack(archive, folder, public, progress):
    """Unpack what is wanted beside `folder` and rename it, so that a folder that is there is whole."""
    from tqdm.auto import tqdm

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{public.name}-"))
    try:
        with tqdm(desc=f"unpacking {public.file}", unit=" files", disable=not progress) as bar:
            for member, stream in _members(archive):
                found = re.search(public.wanted, member)
                if found and not PurePosixPath(member).name.startswith("._") and "__MACOSX" not in member:
                    _save(stream, temporary, found.group(1))
                    bar.update()
        if not any(temporary.iterdir()):
            raise BsavizError(f"{archive} holds none of the files of {public.name}; is it the file from {public.url}?")
        temporary.rename(folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
        raise BsavizError(f"{archive} is damaged or incomplete ({error}); remove it and fetch again") from error
    except OSError as error:
        raise BsavizError(f"cannot unpack {archive} into {folder}: {error.strerror or error}; free some space, or set "
                          "BSAVIZ_CACHE to another folder") from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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
