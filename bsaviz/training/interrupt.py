"""Ctrl-C, or the kernel's Stop in a notebook, as a wish that the loop grants between two steps."""

import signal
import threading


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
