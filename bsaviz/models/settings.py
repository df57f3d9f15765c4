"""Checks of settings that the configurations of several models share."""

from math import isfinite

from bsaviz._checks import BsavizError

POSITION_SCALINGS = ("length", "none")


def check_count(name, value, least):
    """Refuse what is no integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BsavizError(f"{name} must be an integer of at least {least}, got {value!r}")


def check_counts(config, least, *names):
    """`check_count` of several settings."""
    for name in names:
        check_count(name, getattr(config, name), least)


def check_choices(config, **known):
    """Refuse a setting that is none of those known."""
    for name, values in known.items():
        if getattr(config, name) not in values:
            raise BsavizError(f"{name} must be one of {', '.join(map(repr, values))}, got {getattr(config, name)!r}")


def check_points(config):
    """Refuse settings by which points cannot be placed, turned or told apart."""
    check_choices(config, position_scaling=POSITION_SCALINGS, spatial_dims=(2, 3))
    check_counts(config, 0, "in_features", "out_features", "fourier_features")
    if config.fourier_features % 2:
        raise BsavizError(f"fourier_features must be even (a cos and a sin each), got {config.fourier_features}")
    if config.inputs == 0:
        sources = "fourier_features, in_features or coordinates" if hasattr(config, "coordinates") else (
            "fourier_features or in_features above 0")  # fmt: skip
        raise BsavizError(f"a point has nothing to start from: give {sources}")
    if config.rotation_angle is not None and not isfinite(config.rotation_angle):
        raise BsavizError(f"rotation_angle must be finite degrees or None, got {config.rotation_angle}")


def check_messages(config):
    """Refuse settings by which no graph of neighbours can be made."""
    check_count("mp_steps", config.mp_steps, 0)
    check_count("neighbours", config.neighbours, 1)
    if config.radius is not None and (not isfinite(config.radius) or config.radius <= 0):
        raise BsavizError(f"radius must be a finite length above 0, or None, got {config.radius}")
