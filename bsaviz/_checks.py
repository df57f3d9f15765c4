"""What every public boundary checks, with one wording for what came, what was expected and what to do."""

from importlib import import_module


class BsavizError(ValueError):
    """Bad input. The message says what was expected, what came and what to do."""


def require(name, extra):
    """Import an optional module, or say which extra brings it.

    Parameters
    ----------
    name : str
        Module to import, e.g. ``"pyvista"``.
    extra : str
        Extra of this package that installs it, e.g. ``"view"``.
    """
    try:
        return import_module(name)
    except ImportError as missing:
        raise ImportError(
            f"this needs the optional package {name.split('.')[0]!r}, which is not installed; "
            f"install it with: pip install 'bsaviz[{extra}]'"
        ) from missing
