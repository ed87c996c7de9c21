"""A request to stop is a flag, and signals are afterwards handled as before."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from allgrad.train.signals import StopRequest


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_sets_the_flag(number) -> None:
    before = signal.getsignal(number)
    with StopRequest() as stop:
        assert not stop.asked
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)
        assert stop.asked
    assert signal.getsignal(number) == before


def test_off_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def run() -> None:
        with StopRequest() as stop:
            seen.append((stop.asked, signal.getsignal(signal.SIGTERM)))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
