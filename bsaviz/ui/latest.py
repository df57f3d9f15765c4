"""The newest request wins: slow work behind controls that never wait for it."""

import asyncio
import threading
import time

PATIENCE = 0.3  # seconds for which work goes on although a newer request has come, so that a long drag is seen to move
BUSY = 0.5  # seconds of work after which it is told: a mark that came and went at every step of a drag would slow it
_DONE = object()


class Superseded(Exception):
    """A newer request has come; what was being computed is no longer wanted."""


class Ticket:
    """A request's place in the order of requests.

    Call it wherever long work can stop: it raises `Superseded` once a newer request has come and the work has gone on
    for longer than `PATIENCE`. With `at_once` someone stands and waits for all of the work.
    """

    def __init__(self, latest, number, wanted, at_once=False):
        self._latest, self.number, self.wanted, self._started = latest, number, wanted, time.monotonic()
        self.at_once = at_once

    @property
    def superseded(self):
        """Whether a newer request has come."""
        return self.number != self._latest.newest

    def rest(self, seconds):
        """Wait before work that would stand in the way of a drag; raises `Superseded` at once."""
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def until(self, ready):
        """Wait until `ready` gives true; raises `Superseded` at once. Where someone waits for the work, it does not."""
        while not self.at_once and not ready():
            if self.superseded:
                raise Superseded
            time.sleep(0.01)

    def __call__(self):
        if self.superseded and time.monotonic() - self._started > PATIENCE:
            raise Superseded


class Latest:
    """Compute what was asked for last, off the thread that asks, and show the results in the order of the requests.

    A request only notes what is wanted. One worker computes the newest note; notes that were overtaken before their
    turn are dropped, so there is no queue and the last one always gets its turn. A result appears only while nothing
    newer has been shown. Results are shown on the event loop that asked, since widgets are not made for several
    threads at once. (JupyterLab hands widget events to a thread of their own, with a loop of its own; other front ends
    use the kernel's main loop. Both are loops that asked.) Without a running loop, as in a script, a request is
    computed and shown before it returns.

    Parameters
    ----------
    steps : callable
        ``steps(wanted, ticket)`` is a generator that yields results, the quick ones first. It runs in a worker thread;
        between two results, and where it calls `ticket`, it is given up when a newer request has come.
    show : callable
        Called with each result.
    fail : callable
        Called with the exception of a request that failed. Whatever it is, the next request is served.
    busy : callable, optional
        Called with True once work on an event loop has gone on for `BUSY`, and with False when there is none left.

    Attributes
    ----------
    shown : object
        What was wanted when the newest result that is shown was asked for.
    """

    def __init__(self, steps, show, fail, busy=lambda working: None):
        self._steps, self._show, self._fail, self._busy = steps, show, fail, busy
        self.newest, self.shown = 0, None
        self._wanted, self._pending, self._working, self._shown = None, False, False, 0
        self._notes = threading.Lock()  # guards the fields above
        self._computing = threading.RLock()  # one computation at a time, whoever asks
        self._task = None
        self.closed = False

    def request(self, wanted):
        """Note what is wanted now; the newest note is computed as soon as the worker is free."""
        with self._notes:
            if self.closed:
                return
            self.newest += 1
            self._wanted, self._pending = wanted, True
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.wait()
            return
        with self._notes:
            idle, self._working = not self._working, True
        if idle:
            self._task = loop.create_task(self._work())

    def begin(self, wanted):
        """Compute and show the first result here and now; the others follow, on a running loop in its own time."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            loop = None
        with self._notes:
            self.newest += 1
            self._wanted, self._working = wanted, True
            ticket = Ticket(self, self.newest, wanted, at_once=loop is None)
        results = self._guarded(ticket)
        result = self._advance(results)
        if result is not _DONE:
            self._show_in_order(ticket, result)
        if loop is None:
            self._finish(ticket, results)
            self._working = False
        else:
            self._task = loop.create_task(self._work(ticket, results))

    def wait(self):
        """Compute and show what was asked for last, here and now; returns at once when that has been done."""
        with self._notes:
            if not (self._pending or self._working) or self.closed:
                return
            self.newest += 1
            ticket, self._pending = Ticket(self, self.newest, self._wanted, at_once=True), False
        self._finish(ticket, self._guarded(ticket))

    def _finish(self, ticket, results):
        with self._computing:
            for result in results:
                self._show_in_order(ticket, result)

    @property
    def working(self):
        """Whether something that was asked for is still to be shown."""
        return self._pending or self._working

    def close(self):
        """Forget what was asked for; later requests are ignored."""
        with self._notes:
            self.closed, self._pending = True, False
            self.newest += 1

    async def _work(self, ticket=None, results=None):
        """Compute what is noted until nothing is; at first the rest of `results`, where they have begun."""
        alarm = asyncio.get_running_loop().call_later(BUSY, self._busy, True)
        while ticket is not None or (ticket := self._next_ticket()) is not None:
            await self._show_all(ticket, self._guarded(ticket) if results is None else results)
            ticket = results = None
        alarm.cancel()
        self._busy(False)

    async def _show_all(self, ticket, results):
        loop = asyncio.get_running_loop()
        while (result := await loop.run_in_executor(None, self._advance, results)) is not _DONE:
            self._show_in_order(ticket, result)
            if ticket.superseded:
                break

    def _next_ticket(self):
        with self._notes:
            if not self._pending:
                self._working = False
                return None
            self._pending = False
            return Ticket(self, self.newest, self._wanted)

    def _advance(self, results):
        with self._computing:
            return next(results, _DONE)

    def _guarded(self, ticket):
        """The results of a request; an error is the last of them."""
        try:
            yield from self._steps(ticket.wanted, ticket)
        except Superseded:
            return
        except Exception as error:  # whatever went wrong, the explorer must stay alive and say so
            yield error

    def _show_in_order(self, ticket, result):
        with self._notes:
            if ticket.number < self._shown or self.closed:
                return
            self._shown = ticket.number
        if isinstance(result, Exception):
            self._fail(result)
            return
        try:
            self._show(result)
            self.shown = ticket.wanted
        except Exception as error:  # a picture that cannot be drawn is a problem to show like any other
            self._fail(error)
