"""Ways to end a run early that leave it whole: Ctrl-C between two steps, and a wish that is granted within one."""

import signal
import threading
from contextlib import ExitStack, contextmanager

import torch


class StopAsked(Exception):
    """A step was given up on the way: nothing of it has reached the weights."""


@contextmanager
def stopping(model, event):
    """While inside, passes through the model end with `StopAsked` soon after `event` is set (None: never).

    It is looked at before each layer, forward and backward, so that the wish is granted in a fraction of a step.
    """

    def look(*_):
        # A step that is being recorded as a CUDA graph is recorded to its end.
        if event.is_set() and not (torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()):
            raise StopAsked

    def look_on_the_way_back(part, inputs, output):
        if isinstance(output, torch.Tensor) and output.requires_grad:
            output.register_hook(look)

    with ExitStack() as hooks:
        for part in model.modules() if event is not None else ():
            if next(part.children(), None) is not None:
                hooks.callback(part.register_forward_pre_hook(look).remove)
                hooks.callback(part.register_forward_hook(look_on_the_way_back).remove)
        yield


class Interrupt:
    """While inside, the first SIGINT only sets `came`; a second one raises KeyboardInterrupt at once, as ever.

    Only the main thread can catch signals; in another thread nothing is changed, and ``should_stop`` is the way.
    """

    def __enter__(self):
        self.came = False
        self._catching = threading.current_thread() is threading.main_thread()
        if self._catching:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def _note(self, number, frame):
        self.came = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *error):
        if self._catching:
            signal.signal(signal.SIGINT, self._before)
