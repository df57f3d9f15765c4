"""Sets to train and test on, by name: cars and everything else through one door."""

import os
from pathlib import Path

from bsaviz._checks import BsavizError
from bsaviz._files import cache_dir
from bsaviz.datasets.named import training_cars

SETS = ("cars", "shapenet-car", "elasticity", "md", "cosmology")
_PUBLIC = {  # environment variable that names the folder, and what the folder must hold
    "elasticity": ("BSAVIZ_ELASTICITY", "Random_UnitCell_XY_10.npy and Random_UnitCell_sigma_10.npy"),
    "md": ("BSAVIZ_MD", "polymer_train, polymer_test and splits"),
    "cosmology": ("BSAVIZ_COSMOLOGY", "halos_train_1.tfrecord, ..., halos_val_1.tfrecord, halos_test_1.tfrecord"),
}


def load_set(name, root=None, *, generated=None, num_train=None, num_test=None, part="test", seed=0, progress=True):
    """Samples to train and to test on.

    ``bsaviz.training.train(model, *load_set(name))`` trains with the set's published loss and normalisation.

    Parameters
    ----------
    name : str
        ================== ==========================================================================================
        ``"cars"``          generated cars and the pressure of potential flow (packaged)
        ``"shapenet-car"``  cars and their pressure (Umetani and Bickel, 2018)
        ``"elasticity"``    stress in a plate with a hole (arXiv 2207.05209): 1000 and 200 samples of 972 points in 2D
        ``"md"``            accelerations of polymer beads (Fu et al., TMLR 2023): windows of 16 frames
        ``"cosmology"``     velocities of the 5000 heaviest halos (arXiv 2410.20516): 2048 and 512 samples
        ================== ==========================================================================================
    root : path, optional
        Folder of the public files. Default: the one that ``$BSAVIZ_ELASTICITY``, ``$BSAVIZ_MD``, ``$BSAVIZ_COSMOLOGY``
        or ``$BSAVIZ_SHAPENET`` names, else the cache, where ``bsaviz.datasets.fetch(name)`` puts them.
    generated : bool, optional
        True: the generated stand-in, whose samples have ``attrs["generated"] = True``. False: the public files. None:
        the public files where they are found, else the stand-in. The stand-in of ShapeNet-Car is the generated cars.
    num_train, num_test : int, optional
        How many samples. Default: the published numbers; of molecular dynamics 2048 and 256 windows drawn at random
        (there are more than fit in memory); of stand-ins fewer.
    part : {"test", "val"}
        Which part to give as the second: molecular dynamics and cosmology have a validation part too.
    seed : int
        Of stand-ins, and of the draw of windows.
    progress : bool
        Show a bar while a stand-in is made.

    Returns
    -------
    train, test : sequence of Sample (or of Car)

    Raises
    ------
    BsavizError
        For an unknown name or part, and for missing or damaged files: says what was expected, and what to do.
    """
    if name not in SETS:
        raise BsavizError(f"unknown set {name!r}; there are {', '.join(SETS)}")
    for what, count in (("num_train", num_train), ("num_test", num_test)):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise BsavizError(f"{what} must be a whole number of at least 1, or None, got {count!r}")
    if part not in (("test", "val") if name in ("md", "cosmology") else ("test",)):
        raise BsavizError(f"part must be 'test', or 'val' for md and cosmology; got {part!r} for {name!r}")
    if generated and root is not None:
        raise BsavizError(f"generated=True makes the stand-in and reads no folder, but root={str(root)!r} was given")
    if name in ("cars", "shapenet-car"):
        train, test = training_cars("generated") if name == "cars" else _shapenet(root, generated)
        return train[:num_train], test[:num_test]
    folder = None if generated else _public_folder(name, root, must=generated is False)
    if folder is None:
        from bsaviz.datasets.standins import SIZES, stand_in

        folder = stand_in(name, num_train, num_test, seed, progress)
        num_train, num_test = (count or default for count, default in zip((num_train, num_test), SIZES[name]))
    return _read(name, folder, num_train, num_test, part, seed)


def _read(name, folder, num_train, num_test, part, seed):
    from bsaviz.datasets import cosmology, elasticity, polymers
    from bsaviz.datasets.standins import label

    attrs = label(folder)
    if name == "elasticity":
        return elasticity.read(folder, num_train, num_test, attrs)
    if name == "md":
        return (polymers.read(folder, "train", num_train or polymers.NUM_TRAIN, seed, attrs),
                polymers.read(folder, part, num_test or polymers.NUM_TEST, seed, attrs))  # fmt: skip
    return cosmology.read(folder, "train", num_train, attrs), cosmology.read(folder, part, num_test, attrs)


def _public_folder(name, root, must):
    """The folder with a set's public files; None where there is none and none was asked for."""
    from bsaviz.datasets import cosmology, elasticity, polymers
    from bsaviz.datasets.download import REGISTRY

    find = {"elasticity": elasticity.find, "md": polymers.find, "cosmology": cosmology.find}[name]
    variable, files = _PUBLIC[name]
    given = root or os.environ.get(variable)
    place = Path(given).expanduser() if given else cache_dir() / name
    if found := find(place) if place.is_dir() else None:
        return found
    if given:
        there = sorted(entry.name for entry in place.iterdir())[:5] if place.is_dir() else None
        came = "does not exist" if there is None else f"has {', '.join(there) or 'no files'}"
        raise BsavizError(f"the folder {place} of {name!r} must hold {files}; it {came}. Check root= or ${variable}")
    if must:
        raise BsavizError(
            f"the public files of {name!r} are not here: neither root= nor ${variable} is given, and the cache {place} "
            f"has none. Download them with bsaviz.datasets.fetch({name!r}) ({REGISTRY[name].size} from "
            f"{REGISTRY[name].url}), or name the folder that holds {files}; generated=True gives a stand-in"
        )
    return None


def _shapenet(root, generated):
    from bsaviz.datasets.shapenet import ROOT_VARIABLE, ShapeNetCar

    if generated is None and not root and not os.environ.get(ROOT_VARIABLE):
        from bsaviz.datasets.shapenet import CACHED, root_in

        generated = not any(root_in(cache_dir() / place) for place in CACHED)
    if generated:
        return training_cars("generated")
    return ShapeNetCar(root, "train"), ShapeNetCar(root, "test")
