"""The processes that train one model together, each on a device of its own: who reads what, and who says what."""

import os
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import distributed

from bsaviz._checks import BsavizError, require


class Ranks:
    """The processes of a run, seen from one of them; by default there is this one.

    Every process holds the whole set and the same model. It reads its share of each step's cars; gradients and losses
    are summed over all, so that a step does what one process would do with all the cars.

    Attributes
    ----------
    rank, size : int
        Which of how many processes this is; the first one writes and speaks.
    device : torch.device or None
        Where this process trains (None: the configuration says so).
    """

    def __init__(self, rank=0, size=1, device=None):
        self.rank, self.size, self.device = rank, size, device

    @property
    def first(self):
        """Whether this process writes and speaks."""
        return self.rank == 0

    def check(self, batch_size):
        """Refuse a batch that cannot be shared evenly."""
        if batch_size % self.size:
            raise BsavizError(
                f"batch_size is the number of cars in a step on all devices together: {batch_size} cannot be shared "
                f"evenly by {self.size} devices; take a multiple of {self.size}, and no more than there are cars"
            )

    def share(self, chosen):
        """This process's part of a step's cars."""
        return chosen[self.rank :: self.size]

    @torch.no_grad()
    def same_start(self, model):
        """Give every process the first one's weights and buffers."""
        for tensor in model.state_dict().values() if self.size > 1 else ():
            distributed.broadcast(tensor, 0)

    @torch.no_grad()
    def summed(self, parameters, loss):
        """Sum the gradients and the loss over the processes, in one message; gives the loss."""
        if self.size == 1:
            return loss
        held = [parameter for parameter in parameters if parameter.grad is not None]
        message = torch.cat([loss.view(1), *(parameter.grad.flatten() for parameter in held)])
        distributed.all_reduce(message)
        parts = message.split([1, *(parameter.numel() for parameter in held)])
        for parameter, part in zip(held, parts[1:]):
            parameter.grad = part.view_as(parameter)
        return parts[0][0]

    def agree(self, wish, device):
        """Whether any process has this wish; all of them must ask at the same step."""
        if self.size == 1:
            return wish
        wishes = torch.tensor(float(wish), device=device)
        distributed.all_reduce(wishes, distributed.ReduceOp.MAX)
        return bool(wishes)


@contextmanager
def joined(devices=None, device=None):
    """While inside, this is one of `devices` processes with a device of its own each, through Lightning Fabric.

    Under ``torchrun`` the processes are there already; elsewhere Fabric starts the others, which run the same command
    from its beginning.

    Parameters
    ----------
    devices : int, optional
        None: as many as torchrun started, and one without it.
    device : str, optional
        ``"cpu"`` or ``"cuda"`` (None: CUDA where there is a device).

    Yields
    ------
    Ranks

    Raises
    ------
    BsavizError
        When there are fewer GPUs than that, or torchrun started another number of processes.
    """
    started = int(os.environ.get("WORLD_SIZE", 1))
    devices = started if devices is None else devices
    if devices < 1:
        raise BsavizError(f"devices must be a whole number of at least 1, got {devices}")
    if devices == started == 1:
        yield Ranks()
        return
    kind = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if kind.index is not None:
        raise BsavizError(f"device {device!r} is a single one, but {devices} are to be used; say {kind.type!r}")
    if kind.type == "cuda" and int(os.environ.get("LOCAL_WORLD_SIZE", devices)) > torch.cuda.device_count():
        raise BsavizError(f"{devices} devices were asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    if started not in (1, devices):
        raise BsavizError(
            f"{devices} devices were asked for, but torchrun started {started} processes; make them equal"
        )
    nodes = max(1, started // int(os.environ.get("LOCAL_WORLD_SIZE", started)))
    fabric = _fabric()(accelerator=kind.type, devices=devices // nodes, num_nodes=nodes, strategy="ddp")
    fabric.launch()
    try:
        yield Ranks(fabric.global_rank, fabric.world_size, fabric.device)
    finally:
        distributed.destroy_process_group()


def _fabric():
    """Fabric, which is published on its own and as a part of Lightning."""
    try:
        return require("lightning_fabric", "study").Fabric
    except ImportError:
        if find_spec("lightning") is None:
            raise
        return require("lightning.fabric", "study").Fabric
