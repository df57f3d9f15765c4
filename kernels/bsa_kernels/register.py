"""Registering an operator with torch: what `torch.library.custom_op` does, without what that does at every call.

There, each call searches its results for aliases of its inputs, and the first one imports all of torch.compile (three
to four seconds) to keep it from tracing the body. Bodies lie behind the dispatcher, which torch.compile does not enter;
that nothing aliases is what `torch.library.opcheck` is for in the tests.
"""

import torch


def operator(name):
    """Decorator: the function as the operator ``name``, "namespace::name", on CPU and CUDA; it mutates no input."""

    def register(body):
        torch.library.define(name, torch.library.infer_schema(body, mutates_args=()))
        torch.library.impl(name, ("cpu", "cuda"), body)
        namespace, own = name.split("::")
        return getattr(getattr(torch.ops, namespace), own).default

    return register
