"""The scheduler of the explorers: the newest request wins, whatever happens on the way."""

import asyncio
import threading
import time

from bsaviz.ui.latest import PATIENCE, Latest


class Recorder:
    """Work that takes `seconds` and keeps what was computed, shown, failed, and on which threads."""

    def __init__(self, seconds=0.0):
        self.seconds, self.computed, self.shown, self.failed, self.busy, self.threads = seconds, [], [], [], [], set()
        self.latest = Latest(self.steps, self.show, self.failed.append, self.busy.append)

    def steps(self, wanted, ticket):
        self.computed.append(wanted)
        self.threads.add(threading.current_thread())
        if isinstance(wanted, Exception):
            raise wanted
        time.sleep(self.seconds)
        yield wanted
        yield f"more of {wanted}"

    def show(self, result):
        self.shown.append((result, threading.current_thread()))

    @property
    def results(self):
        return [result for result, _ in self.shown]


async def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.002)


def test_without_a_loop_a_request_is_shown_before_it_returns():
    recorder = Recorder()
    recorder.latest.request(1)
    assert recorder.results == [1, "more of 1"]
    assert recorder.busy == [], "someone who waits sees that it works"


def test_twenty_fast_requests_end_on_the_last_with_no_queue():
    recorder = Recorder(seconds=0.05)

    async def drag():
        started = time.monotonic()
        for value in range(20):
            recorder.latest.request(value)
            await asyncio.sleep(0.002)
        noted = time.monotonic() - started
        await until(lambda: not recorder.latest.working)
        return noted

    noted = asyncio.run(drag())
    firsts = [result for result in recorder.results if isinstance(result, int)]
    assert recorder.results[-2:] == [19, "more of 19"]
    assert firsts == sorted(firsts), "never an older result after a newer one"
    assert len(recorder.computed) < 12, "overtaken requests are dropped before their turn"
    assert noted < 20 * 0.05, "asking does not wait for the work"
    assert recorder.busy[-1] is False
    assert recorder.latest.shown == 19


def test_work_is_off_the_loop_and_shown_on_it():
    recorder = Recorder()

    async def one():
        recorder.latest.request(1)
        await until(lambda: len(recorder.shown) == 2)
        return threading.current_thread()

    here = asyncio.run(one())
    assert here not in recorder.threads
    assert {thread for _, thread in recorder.shown} == {here}


def test_long_work_is_given_up_for_a_newer_request():
    reached = []

    def steps(wanted, ticket):
        for layer in range(100):
            time.sleep(0.02)
            ticket()
            reached.append((wanted, layer))
            if wanted == "new":
                yield wanted
                return
        yield wanted

    shown = []
    latest = Latest(steps, shown.append, shown.append)

    async def two():
        latest.request("old")
        await asyncio.sleep(0.05)
        latest.request("new")
        await until(lambda: shown)

    started = time.monotonic()
    asyncio.run(two())
    assert shown == ["new"], "given up quietly: neither a result nor an error"
    assert time.monotonic() - started < 100 * 0.02
    assert max(layer for wanted, layer in reached if wanted == "old") * 0.02 < PATIENCE + 0.2


def test_an_error_is_told_and_the_next_request_is_served():
    recorder = Recorder()
    problem = ValueError("block does not divide ball")
    recorder.latest.request(problem)
    recorder.latest.request(2)
    assert recorder.failed == [problem]
    assert recorder.results == [2, "more of 2"]


def test_an_error_while_showing_is_told_too():
    problem, failed = OSError("no picture"), []

    def show(result):
        raise problem

    Latest(lambda wanted, ticket: iter([wanted]), show, failed.append).request(1)
    assert failed == [problem]


def test_the_error_of_an_overtaken_request_is_not_told():
    recorder = Recorder(seconds=0.05)

    async def two():
        recorder.latest.request(1)
        await asyncio.sleep(0.01)
        recorder.latest.request(ValueError("a passing bad value"))
        recorder.latest.request(2)
        await until(lambda: "more of 2" in recorder.results)

    asyncio.run(two())
    assert recorder.failed == []


def test_wait_shows_the_newest_at_once_and_nothing_older_follows():
    recorder = Recorder(seconds=0.03)

    async def cell():
        recorder.latest.request(1)
        await asyncio.sleep(0.01)  # under way by now
        recorder.latest.request(2)
        recorder.latest.wait()
        at_once = list(recorder.results)
        await asyncio.sleep(0.1)
        return at_once

    assert asyncio.run(cell())[-2:] == [2, "more of 2"]
    assert recorder.results[-2:] == [2, "more of 2"]


def test_wait_with_nothing_asked_does_nothing():
    recorder = Recorder()
    recorder.latest.wait()
    assert recorder.computed == []


def test_requests_from_another_thread_are_shown_by_the_loop_at_work():
    recorder = Recorder(seconds=0.03)

    async def main():
        recorder.latest.request(1)
        await asyncio.sleep(0.01)
        other = threading.Thread(target=asyncio.run, args=(ask(2),))
        other.start()
        await until(lambda: "more of 2" in recorder.results)
        other.join()
        return threading.current_thread()

    async def ask(value):
        recorder.latest.request(value)

    here = asyncio.run(main())
    assert {thread for _, thread in recorder.shown} == {here}


def test_beginning_shows_the_first_result_at_once_and_the_others_later():
    recorder = Recorder()
    recorder.latest.begin(1)
    assert recorder.results == [1, "more of 1"], "without a loop all at once"

    async def cell():
        recorder.latest.begin(2)
        at_once = list(recorder.results[2:])
        await until(lambda: not recorder.latest.working)
        return at_once

    assert asyncio.run(cell()) == [2]
    assert recorder.results[2:] == [2, "more of 2"]
    assert recorder.busy[-1] is False


def test_beginning_is_overtaken_like_any_request():
    recorder = Recorder()

    async def cell():
        recorder.latest.begin(1)
        recorder.latest.request(2)
        await until(lambda: "more of 2" in recorder.results)

    asyncio.run(cell())
    assert recorder.results[0] == 1
    assert recorder.results[-2:] == [2, "more of 2"]


def test_nothing_is_shown_after_close():
    recorder = Recorder(seconds=0.03)

    async def closed():
        recorder.latest.request(1)
        await asyncio.sleep(0.01)
        recorder.latest.close()
        recorder.latest.request(2)
        await asyncio.sleep(0.1)

    asyncio.run(closed())
    assert recorder.shown == []
    assert recorder.computed == [1]
