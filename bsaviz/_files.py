"""Files that are written whole or not at all, and where packaged data lies."""

import os
import tempfile
from contextlib import contextmanager
from pathlib import Path

from bsaviz._checks import BsavizError


@contextmanager
def whole_file(path):
    """Give a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Parameters
    ----------
    path : str or Path
        The file wanted. Its folder is made if need be. The temporary file keeps the suffix, since writers go by it.

    Yields
    ------
    Path
        Where to write.

    Raises
    ------
    BsavizError
        When the disk is full or the folder cannot be written; nothing half-written is left.
    """
    path = Path(path)
    blocked = next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None)
    if blocked is not None:
        raise BsavizError(f"cannot write {path}: {blocked} is a file, not a folder; choose another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise BsavizError(f"cannot write {path}: {error.strerror}; choose another folder or free some space") from error
    temporary = Path(temporary)
    try:
        yield temporary
        if temporary.stat().st_size == 0:
            raise OSError(28, "the writer left an empty file, as happens on a full disk")
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise BsavizError(f"cannot write {path}: {reason}; free some space or choose another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def packaged(name=""):
    """Path of a packaged data file: inside an installed wheel, or in the checkout's ``data/packaged``."""
    here = Path(__file__).resolve().parent
    installed = here / "_data"
    root = installed if installed.is_dir() else here.parent / "data" / "packaged"
    return root / name


def cache_dir():
    """Where downloads and finished work are kept: ``$BSAVIZ_CACHE``, or the user's cache folder."""
    root = os.environ.get("BSAVIZ_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bsaviz"
