"""Transfers are resumed when all that they wait for is complete, whatever the order in which it completes."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.comm.requests import RequestPool


class Request:
    """Stands for MPI's: `complete` is set by the test; who asks twice for a complete one made a mistake.

    Time passes only while it looks: `seconds` for each look in turn.
    """

    looks, now = 0, 0.0
    seconds: tuple[float, ...] = ()

    def __init__(self) -> None:
        self.complete = self.taken = False

    @classmethod
    def Testsome(cls, requests):
        cls.now += cls.seconds[cls.looks] if cls.looks < len(cls.seconds) else 0.0
        cls.looks += 1
        assert not any(request.taken for request in requests)
        found = [i for i, request in enumerate(requests) if request.complete]
        for i in found:
            requests[i].taken = True
        return found


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(Request, "looks", 0)
    monkeypatch.setattr(Request, "seconds", ())
    monkeypatch.setattr("allgrad.comm.requests.time", SimpleNamespace(perf_counter=lambda: Request.now))


def transfer(rounds, log):
    """Waits for each list of requests in turn, and notes when it may go on."""
    for number, requests in enumerate(rounds):
        yield requests
        assert all(request.taken for request in requests)
        log.append(number)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5), st.randoms(use_true_random=False))
def test_every_transfer_ends_in_any_order_of_completion(shapes, random):
    pool = RequestPool()
    rounds = [[[Request() for _ in range(count)] for count in shape] for shape in shapes]
    logs = [[] for _ in rounds]
    running = [pool.start(transfer(mine, log)) for mine, log in zip(rounds, logs, strict=True)]
    waiting = [request for mine in rounds for requests in mine for request in requests]
    random.shuffle(waiting)
    while waiting:
        waiting.pop().complete = True
        pool.test()
        for one in running:
            pool.resume(one)
    for _ in range(5):  # what had completed before it was waited for
        pool.test()
        for one in running:
            pool.resume(one)
    assert all(one.ended for one in running)
    assert logs == [list(range(len(mine))) for mine in rounds]


def test_a_transfer_whose_requests_are_not_all_complete_is_not_resumed():
    pool, log = RequestPool(), []
    first, second = Request(), Request()
    running = pool.start(transfer([[first, second]], log))
    first.complete = True
    pool.test()
    assert not pool.resume(running)
    assert log == []
    second.complete = True
    pool.test()
    assert pool.resume(running)
    assert running.ended


@pytest.mark.parametrize(("seconds", "looks"), [((), 1), ((1e-3, 1e-3), 3), ((1e-3,) * 100, 16)])
def test_it_looks_again_while_a_look_was_busy_but_not_for_ever(monkeypatch, seconds, looks):
    pool = RequestPool()
    pool.start(transfer([[Request()]], []))
    monkeypatch.setattr(Request, "seconds", seconds)
    pool.test()
    assert Request.looks == looks


def test_with_nothing_under_way_mpi_is_not_asked():
    RequestPool().test()
    assert Request.looks == 0


def test_what_a_transfer_raises_comes_out_of_resume():
    def failing():
        yield [request]
        raise ValueError("the ranks differ")

    pool, request = RequestPool(), Request()
    running = pool.start(failing())
    request.complete = True
    pool.test()
    with pytest.raises(ValueError, match="the ranks differ"):
        pool.resume(running)


def test_sums_that_overflow_do_not_warn():
    def adding():
        np.add(np.float32([3e38]), np.float32([3e38]))
        yield []

    assert RequestPool().start(adding()).ended
