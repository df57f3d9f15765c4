"""Which implementation runs an operator.

A backend is a module with one function per operator and per backward, as listed in :mod:`bsa_kernels.ops`, and
``unsupported(operator, q, **config) -> str | None``, which says why it cannot run a call (None: it can). "torch" is
:mod:`bsa_kernels.eager`; "triton" is :mod:`bsa_kernels.triton`, imported when first asked for.
"""

import functools
import importlib
import warnings

from bsa_kernels import eager

NAMES = ("auto", "triton", "torch")


def choose(backend, operator, q, **config):
    """The backend module for one call.

    "auto" takes Triton for CUDA tensors where it can run the call, else torch, and says so once. "triton" is Triton
    or an error.
    """
    if backend == "torch" or (backend == "auto" and not q.is_cuda):
        return eager
    module, reason = load_triton()
    if module is not None:
        reason = module.unsupported(operator, q, **config)
    if reason is None:
        return module
    if backend == "triton":
        raise ValueError(
            f"backend='triton' cannot run {operator} here: {reason}; "
            "use backend='torch', or backend='auto' to take Triton only where it can run"
        )
    _say_once(operator, reason)
    return eager


def fused(backend, q, **config):
    """The backend's own ``ball_sparse_attention``, or None where the operators are run one by one."""
    if backend == "torch" or (backend == "auto" and not q.is_cuda):
        return None
    module, _ = load_triton()
    whole = getattr(module, "ball_sparse_attention", None)
    if whole is None or module.unsupported("ball_sparse_attention", q, **config) is not None:
        return None
    return whole


@functools.cache
def load_triton():
    """``(module, None)``, or ``(None, why not)``."""
    try:
        return importlib.import_module("bsa_kernels.triton"), None
    except ImportError as error:
        return None, f"the Triton backend cannot be imported ({error})"


@functools.cache
def _say_once(operator, reason):
    warnings.warn(f"{operator} runs in plain PyTorch on this GPU: {reason}", RuntimeWarning, stacklevel=2)
