"""Trap 12: threads differentiate at once and do not see each other's tape or modes."""

import threading

import numpy as np

import allgrad as ag
from allgrad.autodiff.modes import CURRENT


def run_all(*functions):
    failures = []

    def guarded(f):
        try:
            f()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failures


def test_derivatives_in_many_threads_are_right():
    x = np.linspace(0.1, 1.0, 7)

    def work():
        for _ in range(30):
            assert np.allclose(ag.grad(lambda x: np.sum(np.sin(x) * x))(x), np.cos(x) * x + np.sin(x))
            assert np.allclose(ag.derivative(ag.derivative(np.sin))(x), -np.sin(x))

    run_all(*[work] * 4)


def test_modes_and_armed_events_stay_in_their_thread():
    entered, leave = threading.Event(), threading.Event()
    events = []
    w = ag.tensor([1.0], requires_grad=True)

    def holds_modes():
        ag.FinalGradients([w], lambda leaf, used: events.append(used)).arm()
        with ag.no_grad():
            entered.set()
            leave.wait(60)

    def differentiates():
        entered.wait(60)
        try:
            assert CURRENT.get().recording
            v = ag.tensor([2.0], requires_grad=True)
            np.sum(v * w).backward()
            assert v.grad == 1.0
        finally:
            leave.set()

    run_all(holds_modes, differentiates)
    assert events == []
