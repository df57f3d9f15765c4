"""Which implementation runs an operator.

A backend is a module with one function per operator and per backward, as listed in :mod:`bsa_kernels.ops`, and
``unsupported(operator, q, **config) -> str | None``, which says why it cannot run a call (None: it can); `config` holds
the operator's sizes and switches, and ``spatial_dims`` (0 without positions). "torch" is :mod:`bsa_kernels.eager`;
"triton" is :mod:`bsa_kernels.triton`, imported when first asked for.
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
    reason = no_triton()
    if reason is None:
        from bsa_kernels import triton

        reason = triton.unsupported(operator, q, **config)
    if reason is None:
        return triton
    if backend == "triton":
        raise ValueError(
            f"backend='triton' cannot run {operator} here: {reason}; "
            "use backend='torch', or backend='auto' to take Triton only where it can run"
        )
    _say_once(operator, reason)
    return eager


def fused(backend, q, **config):
    """The backend's own ``ball_sparse_attention``, or None where the operators are run one by one."""
    if backend == "torch" or (backend == "auto" and not q.is_cuda) or no_triton() is not None:
        return None
    from bsa_kernels import triton

    whole = getattr(triton, "ball_sparse_attention", None)
    if whole is None or triton.unsupported("ball_sparse_attention", q, **config) is not None:
        return None
    return whole


def no_triton():
    """Why the Triton backend cannot be imported, or None."""
    return _import_error("bsa_kernels.triton")


# torch.compile calls it, since it cannot trace an import that may fail. This is what
# torch.compiler.assume_constant_result does; that would import the whole compiler first, for seconds.
no_triton._dynamo_marked_constant = True


@functools.cache
def _import_error(name):
    try:
        importlib.import_module(name)
    except ImportError as error:
        return f"the Triton backend cannot be imported ({error})"


@functools.cache
def _say_once(operator, reason):
    warnings.warn(f"{operator} runs in plain PyTorch on this GPU: {reason}", RuntimeWarning, stacklevel=2)
