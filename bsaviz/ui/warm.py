"""Load beside the event loop what the first count of operations needs: seconds, in which an explorer can be used.

Operators on tensors without data, which are counted, load ``torch._dynamo``.
"""

import sys
import threading
from importlib import import_module

_NEEDED = "torch._dynamo"
_loading = None


def wait(ticket):
    """Load, and wait for it as long as what the `Ticket` is for is wanted; at once, the count itself will load it."""
    global _loading
    if ticket.at_once:
        return
    if _loading is None and _NEEDED not in sys.modules:
        _loading = threading.Thread(target=import_module, args=(_NEEDED,), daemon=True)
        _loading.start()
    ticket.until(lambda: _loading is None or not _loading.is_alive())
