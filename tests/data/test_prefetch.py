"""Results made ahead of time by a thread: in order, bounded, with errors that stay, and an end that never hangs."""

from __future__ import annotations

import itertools
import threading

import pytest

from allgrad.data.prefetch import Prefetcher


def test_results_come_in_order() -> None:
    numbers = itertools.count()
    ahead = Prefetcher(lambda: next(numbers), depth=3, name="numbers")
    assert [ahead.take() for _ in range(50)] == list(range(50))
    assert ahead.stop(patience=60)
    assert ahead.stop(patience=60)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_every_exception_is_raised_in_its_place_and_stays(kind: type[BaseException]) -> None:
    calls = itertools.count()

    def make() -> int:
        if (call := next(calls)) == 2:
            raise kind("broken")
        return call

    ahead = Prefetcher(make, depth=8, name="broken")
    assert [ahead.take(), ahead.take()] == [0, 1]
    for _ in range(3):
        with pytest.raises(kind, match="broken"):
            ahead.take()
    assert ahead.stop(patience=60)


def test_stopping_does_not_wait_for_a_call_that_hangs() -> None:
    hang = threading.Event()
    ahead = Prefetcher(hang.wait, depth=1, name="hanging")
    assert not ahead.stop(patience=0.01)
    hang.set()
    assert ahead.stop(patience=60)


def test_taking_from_a_stopped_thread_is_an_error() -> None:
    ahead = Prefetcher(lambda: 1, depth=1, name="stopped")
    assert ahead.stop(patience=60)
    ahead._queue.queue.clear()  # a result may have been waiting
    for _ in range(2):
        with pytest.raises(RuntimeError, match="stopped: the thread has ended"):
            ahead.take()
