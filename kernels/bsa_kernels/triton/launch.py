"""Launches that cost little on the host.

Triton looks at every argument of every launch to find the kernel compiled for it, which takes longer than a small
kernel runs. Here the operators of one configuration (shapes, dtypes, switches, device) share a plan: the launches and
the room for what they hand each other, worked out once. From the second call on a launch is one call into the driver,
with addresses instead of tensors.
"""

import itertools

import torch
import triton
from triton.runtime.jit import JITFunction

ALIGN = 256


class Room:
    """One allocation for many tensors: {name: (shape, dtype)}, in order."""

    def __init__(self, parts):
        self.parts = parts
        sizes = [_count(shape) * dtype.itemsize for shape, dtype in parts.values()]
        starts = itertools.accumulate(((size + ALIGN - 1) // ALIGN * ALIGN for size in sizes), initial=0)
        *self.starts, self.bytes = starts

    def allocate(self, device):
        return torch.empty(self.bytes, dtype=torch.uint8, device=device)

    def views(self, memory):
        """{name: tensor} over the bytes of an allocation."""
        made = {}
        for start, (name, (shape, dtype)) in zip(self.starts, self.parts.items()):
            made[name] = memory[start : start + _count(shape) * dtype.itemsize].view(dtype).view(shape)
        return made

    def addresses(self, memory):
        base = memory.data_ptr()
        return zip(self.parts, [base + start for start in self.starts])


def _count(shape):
    count = 1
    for size in shape:
        count = count * size
    return count


class Launch:
    """One kernel: its grid, the names of the tensors it takes first, the numbers that follow, and its constants."""

    def __init__(self, kernel, grid, tensors, numbers=(), **constants):
        self.kernel, self.grid, self.tensors, self.numbers, self.constants = kernel, grid, tensors, numbers, constants
        self.compiled = None

    def plain(self, tensors):
        """Through Triton's own launcher, with tensors; it compiles what is not compiled yet."""
        self.compiled = self.kernel[self.grid](*(tensors[name] for name in self.tensors), *self.numbers,
                                               **self.constants)

    def prepare(self):
        """What stays the same from call to call."""
        rest = self.kernel.arg_names[len(self.tensors) + len(self.numbers) :]
        self.tail = (*self.numbers, *(self.constants[name] for name in rest))
        self.grid = (*self.grid, 1, 1)[:3]
        self.run, self.function = self.compiled.run, self.compiled.function
        self.metadata = self.compiled.packed_metadata

    def fast(self, addresses, stream):
        self.run(*self.grid, stream, self.function, self.metadata, None, None, None,
                 *[addresses[name] for name in self.tensors], *self.tail)


class Plan:
    """The launches of one operator in one configuration. `before` runs ahead of them, on tensors."""

    def __init__(self, launches, rooms, before=None):
        self.launches = [launch for launch in launches if launch is not None]
        self.rooms = rooms
        self.before = before
        self.ready = False

    def __call__(self, tensors, memories):
        """tensors: {name: tensor or None}; memories: {name of a room: its allocation}."""
        device = next(iter(memories.values())).device
        if device.type == "cuda" and torch.cuda.current_device() != device.index:
            with torch.cuda.device(device):
                return self(tensors, memories)
        if self.ready and not _watched():
            addresses = {name: None if x is None else x.data_ptr() for name, x in tensors.items()}
            addresses[None] = None
            for name, memory in memories.items():
                addresses.update(self.rooms[name].addresses(memory))
            stream = torch._C._cuda_getCurrentRawStream(device.index)
            for launch in self.launches:
                launch.fast(addresses, stream)
            return
        tensors = {None: None, **tensors}
        for name, memory in memories.items():
            tensors.update(self.rooms[name].views(memory))
        for launch in self.launches:
            launch.plain(tensors)
        if device.type == "cuda" and _can_be_fast():
            for launch in self.launches:
                launch.prepare()
            self.ready = True


def _watched():
    """Whether somebody wants to hear of launches: a profiler's hook."""
    hook = triton.knobs.runtime.launch_enter_hook
    return hook is not None and bool(getattr(hook, "calls", True))


def _can_be_fast():
    """Whether this Triton's compiled kernels take the arguments that `Launch.fast` gives: 3.6 to 3.9 do."""
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    return (3, 6) <= version <= (3, 9)


def compiles(kernel):
    """Whether a kernel is compiled, not interpreted."""
    return isinstance(kernel, JITFunction)


def addressable(*tensors):
    """Whether every tensor begins where 16-byte loads may: what a plan's kernels are compiled for."""
    return all(x is None or x.data_ptr() % 16 == 0 for x in tensors)
