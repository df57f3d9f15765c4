"""Kernels in Triton's interpreter, in a process of their own: whether they are is decided when a module is imported."""

import functools
import inspect
import json
import os
import subprocess
import sys
from dataclasses import replace


def results(file, seconds=900):
    """What a file prints last, as JSON, when it is run where kernels are interpreted."""
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, file], capture_output=True, text=True, env=environment, timeout=seconds)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def quicken():
    """Take from this process's interpreter what costs half of its time and tells our tests nothing.

    At every call of a function it searches Triton's modules for what to replace: they are searched once. And it looks
    whether whole numbers overflow, which those of clouds this small do not.
    """
    from triton.language.core import is_builtin
    from triton.runtime import interpreter

    @functools.cache
    def builtins(place):
        return [name for name, member in inspect.getmembers(place) if is_builtin(member)]

    def patch(place, builder, scope):
        for name in builtins(place):
            member = getattr(place, name)
            if is_builtin(member):  # not replaced yet
                interpreter._patch_attr(place, name, member, builder, scope)

    interpreter._patch_builtin = patch
    builder = interpreter.interpreter_builder
    builder.options = replace(builder.options, sanitize_overflow=False)
