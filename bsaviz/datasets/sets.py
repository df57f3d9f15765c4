"""Cars to train and test on, by the name of a set."""

from pathlib import Path

from bsaviz._checks import BsavizError


def training_cars(name="generated"):
    """The training and the test cars of a set.

    Parameters
    ----------
    name : str or path
        ``"generated"``: the packaged cars, 48 to train on and 16 to test on. ``"generated:200"``: that many generated
        cars, the last fifth for testing; those beyond the packaged ones are made first (seconds each) and kept in the
        cache. ``"shapenet"``: ShapeNet-Car where ``$BSAVIZ_SHAPENET`` or the cache holds it, or the path of its folder,
        with the published split.

    Returns
    -------
    train, test : sequence of Car
    """
    from bsaviz.datasets.generated import TEST_INDICES, TRAIN_INDICES, generated_cars
    from bsaviz.datasets.shapenet import ShapeNetCar

    kind, colon, count = str(name).partition(":")
    if kind == "generated" and not colon:
        return generated_cars(TRAIN_INDICES), generated_cars(TEST_INDICES)
    if kind == "generated":
        if not count.isdigit() or int(count) < 2:
            raise BsavizError(f"cars {str(name)!r}: expected a count of at least 2, as in 'generated:200'")
        cars = generated_cars(range(int(count)))
        first_test = len(cars) - max(1, len(cars) // 5)
        return cars[:first_test], cars[first_test:]
    if kind == "shapenet" or Path(name).is_dir():
        root = None if kind == "shapenet" else name
        return ShapeNetCar(root, "train"), ShapeNetCar(root, "test")
    raise BsavizError(
        f"unknown set of cars {str(name)!r}; give 'generated', 'generated:COUNT', 'shapenet' or a ShapeNet-Car folder"
    )
