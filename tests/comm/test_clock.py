"""Clocks of several ranks that drift apart, simulated as threads with clocks of their own."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from allgrad.comm.clock import drift


def corrections(offsets: list[float], delay: float = 0.001, rounds: int = 10) -> list[float]:
    """What each rank finds, if its clock differs by `offsets[rank]` and a message takes up to `delay` seconds."""
    size = len(offsets)
    true_time, lock = [0.0], threading.Lock()
    rng = np.random.default_rng(0)
    barrier = threading.Barrier(size)
    rows = np.zeros((size, 2))
    found = [0.0] * size

    def passed() -> float:
        with lock:
            true_time[0] += (
                float(rng.uniform(0.5, 1)) * delay / (4 * size)
            )  # more than a clock that is right may be off
            return true_time[0]

    def program(rank: int) -> None:
        def all_gather(values):
            rows[rank] = values
            barrier.wait()
            copy = rows.copy()
            barrier.wait()
            return copy

        found[rank] = drift(lambda: passed() + offsets[rank], all_gather, rank, rounds)

    threads = [threading.Thread(target=program, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("wrong", [0.05, -0.05, 3600.0, -2.0])
def test_a_clock_that_went_wrong_is_put_right(wrong) -> None:
    found = corrections([0.0, wrong, 0.0])
    assert found[0] == found[2] == 0.0
    assert found[1] == pytest.approx(-wrong, abs=0.001)


def test_a_clock_that_is_right_is_left_alone() -> None:
    assert corrections([0.0, 1e-5, -1e-5]) == [0.0, 0.0, 0.0]


def test_one_rank() -> None:
    assert corrections([0.0]) == [0.0]
