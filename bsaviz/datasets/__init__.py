"""Cars and other sets to look at and to train on: public files, generated stand-ins, any mesh or cloud.

The public names are imported at first use, so that importing this package reads no mesh library.
"""

from importlib import import_module

_PUBLIC = {
    "Car": "bsaviz.datasets.car",
    "Sample": "bsaviz.datasets.sample",
    "load_car": "bsaviz.datasets.load",
    "load_set": "bsaviz.datasets.sets",
    "ShapeNetCar": "bsaviz.datasets.shapenet",
    "fetch": "bsaviz.datasets.download",
    "load_generated": "bsaviz.datasets.generated",
    "generated_cars": "bsaviz.datasets.generated",
    "generate_car": "bsaviz.datasets.generated",
    "training_cars": "bsaviz.datasets.named",
    "with_flow": "bsaviz.datasets.flows",
    "with_influence": "bsaviz.datasets.flows",
    "tandem": "bsaviz.datasets.flows",
    "with_potential": "bsaviz.datasets.regimes",
    "with_heat": "bsaviz.datasets.regimes",
    "beacon_cloud": "bsaviz.datasets.beacons",
    "beacon_clouds": "bsaviz.datasets.beacons",
    "recall": "bsaviz.datasets.beacons",
}

__all__ = list(_PUBLIC)


def __getattr__(name):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'bsaviz.datasets' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__():
    return sorted(__all__)
