"""Studies that were run and are kept: open one, list them, load its models."""

from pathlib import Path

import numpy as np
import xarray as xr

from bsaviz._checks import BsavizError
from bsaviz.study.measured import measurements_folder
from bsaviz.training import load_model

FORMAT_VERSION = 1


def studies():
    """Names of the stored studies."""
    return sorted(path.stem for path in folder().glob("*.nc"))


def folder():
    """Where they lie: inside an installed wheel, or in the checkout's ``data/measurements/studies``."""
    return measurements_folder() / "studies"


def open_study(name):
    """Open a stored study.

    Parameters
    ----------
    name : str or path
        One of :func:`studies`, or a netCDF file of the same format.

    Returns
    -------
    xarray.Dataset
        Errors ``relative_l2``, ``mse``, ``mae_area`` and ``mse_x100`` (variant, seed) on the test cars, and of each
        (``sample_relative_l2``); ``loss`` (variant, seed, step); costs ``gflops``, ``parameters``, ``forward_ms``,
        ``training_ms``, ``forward_mib``, ``training_mib`` (variant); ``gate``, ``gate_spread``, ``points_read``,
        ``surface_read``, ``mean_distance``, ``mass``, ``mass_distance``, ``mass_outside_ball`` (variant, seed, layer,
        branch), and of beacons ``recall`` and ``recall_mass``; ``checkpoint`` (variant) for :func:`open_model`. What a
        variant does not have is NaN. Coordinates along ``variant`` are its settings. ``attrs`` say the question, the
        training, device, versions, command, notes, and the papers' numbers.

    Raises
    ------
    BsavizError
        For an unknown name (lists those there are), a file that is no study, and one of another version.
    """
    path = Path(name)
    if not path.is_file():
        path = folder() / f"{name}.nc"
    if not path.is_file():
        raise BsavizError(f"there is no study {str(name)!r}; stored are {', '.join(studies()) or 'none'}")
    try:
        with xr.open_dataset(path, engine="h5netcdf") as file:
            ds = file.load()
    except (OSError, ValueError) as error:
        raise BsavizError(f"{path} is no readable netCDF file ({error}); copy it again from where it came") from error
    version = ds.attrs.get("bsaviz_study_version")
    if version is None or "variant" not in ds.dims:
        raise BsavizError(f"{path} is no study: it has no dim 'variant' or no version; sweeps open with open_sweep")
    if int(version) != FORMAT_VERSION:
        raise BsavizError(
            f"{path} is a study of format {int(version)}, made by bsaviz {ds.attrs.get('bsaviz_version')}; this bsaviz "
            f"reads format {FORMAT_VERSION}: run the study again, or use that version"
        )
    ds.attrs["folder"] = str(path.parent)
    return ds


def open_model(study, variant):
    """The kept model of a variant, on the CPU.

    Parameters
    ----------
    study : xarray.Dataset
        Of :func:`open_study`.
    variant : str

    Raises
    ------
    BsavizError
        For an unknown variant, and where none was kept (lists those of which one was).
    """
    known = [str(name) for name in study["variant"].values]
    if variant not in known:
        raise BsavizError(f"there is no variant {variant!r}; there are {', '.join(known)}")
    kept = dict(zip(known, study["checkpoint"].values.tolist())) if "checkpoint" in study else {}
    if not kept.get(variant):
        there = [name for name in known if kept.get(name)]
        raise BsavizError(f"no weights of {variant!r} are kept; they are of {', '.join(there) or 'none'}")
    return load_model(Path(study.attrs.get("folder", folder())) / kept[variant], device="cpu")


def as_grid(study, *settings):
    """The study over some of its settings in place of its variants.

    Variants that lack one of the settings are left out, and where several have the same, the first is taken.

    Parameters
    ----------
    study : xarray.Dataset
    *settings : str
        Coordinates along ``variant``, e.g. ``"block_size", "group_size"``.
    """
    missing = [name for name in settings if name not in study.coords or study[name].dims != ("variant",)]
    if missing or not settings:
        there = [name for name, coord in study.coords.items() if coord.dims == ("variant",) and name != "variant"]
        raise BsavizError(f"{missing or 'nothing'} is no setting of the variants; there are {', '.join(there)}")
    have = np.logical_and.reduce([study[name].notnull().values for name in settings])
    ds = study.isel(variant=have)
    ds = ds.drop_vars([name for name in ds.coords if ds[name].dims == ("variant",) and name not in settings])
    ds = ds.set_index(variant=list(settings))
    ds = ds.isel(variant=~ds.indexes["variant"].duplicated(keep="first"))
    return ds.unstack("variant") if len(settings) > 1 else ds.rename(variant=settings[0])
