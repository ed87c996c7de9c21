"""Ctrl-C while a worker computed, in a model whose layers communicate across workers, blocked for ever.

The main thread waited for the worker to end, and the worker for its next turn, which nobody gave it.
"""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext

import numpy as np
import pytest

from allgrad.comm import World
from allgrad.parallel.worker_threads import WorkerThreads


def workers(count: int) -> WorkerThreads:
    return WorkerThreads(World(), count, lambda index: nullcontext())


@pytest.mark.parametrize("how", ["communicates", "ends", "computes on"])
def test_an_interrupt_while_a_worker_computes(how) -> None:
    threads, unwound = workers(2), []

    def task() -> None:
        try:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            while how == "computes on":
                sum(range(100))
            if how == "communicates":
                threads.all_reduce(np.ones(3))
                threads.all_reduce(np.ones(3))
        finally:
            unwound.append(how)

    with pytest.raises(KeyboardInterrupt):
        threads.run([task, task], [False, False])
    assert unwound
    assert not any(thread.thread.is_alive() for thread in threads._threads)


def test_a_worker_that_waits_for_its_turn_is_unwound() -> None:
    threads, unwound = workers(2), []

    def waits() -> None:
        try:
            threads.all_reduce(np.ones(3))
        finally:
            unwound.append("waits")

    def fails() -> None:
        raise ValueError("in a layer")

    with pytest.raises(ValueError, match="in a layer"):
        threads.run([waits, fails], [False, False])
    assert unwound == ["waits"]
    assert not any(thread.thread.is_alive() for thread in threads._threads)
