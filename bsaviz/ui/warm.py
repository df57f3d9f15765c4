"""Load beside the event loop what the first count of operations needs: seconds, in which an explorer can be used.

Operators on tensors without data, which are counted, load ``torch._dynamo``.
"""

import sys
import threading
from importlib import import_module

_NEEDED = "torch._dynamo"
_loading = None


def start():
    """Begin to load; returns at once. Later calls do nothing."""
    global _loading
    if _loading is None and _NEEDED not in sys.modules:
        _loading = threading.Thread(target=import_module, args=(_NEEDED,), daemon=True)
        _loading.start()


def ready():
    """Whether a first count would begin at once."""
    return _NEEDED in sys.modules if _loading is None else not _loading.is_alive()


def wait(ticket):
    """Load, and wait for it as long as what the `Ticket` is for is wanted; at once, the count itself will load it."""
    if not ticket.at_once:
        start()
        ticket.until(ready)
