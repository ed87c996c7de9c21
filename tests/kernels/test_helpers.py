"""Helpers take parts of a job in compiled code, awake or asleep, and its caller waits for exactly those that have begun."""

import subprocess
import sys
import threading
import time
from functools import cache

import numpy as np
import pytest

pytest.importorskip("numba", reason="helpers are threads in compiled code")

from numba import types

from allgrad.kernels import helpers, threads
from allgrad.kernels.helpers import ASLEEP, BUSY, CALLS, ENDED, JOB, SPIN, SYSTEM_CALL, WAITS, share
from allgrad.kernels.jit import CompiledAddress, entry_point
from allgrad.kernels.waiting import add, load, pause, store

ARRIVED, PARTS, CONTROL, SEATS = 0, 8, 16, 24
LOOKS = 30_000_000
"""How often a part looks for the others: ten seconds or more."""


def meet(job, part, seat):
    """A part that waits until every part has a thread, and, on a helper, until the caller sleeps."""
    store(job + SEATS + 8 * part, seat)
    add(job + ARRIVED, 1)
    left = LOOKS
    while left > 0 and load(job + ARRIVED) < load(job + PARTS):
        pause()
        left -= 1
    while left > 0 and seat != 0 and load(load(job + CONTROL) + WAITS) == 0:
        pause()
        left -= 1
    if left == 0:
        store(job + SEATS + 8 * part, -1)


def count(job, part, seat):
    add(job + SEATS + 8 * part, 1)


def share_once(control, function, job, parts):
    return 1 if share(control, function, job, parts) else 0


@cache
def compiled(function):
    if function is share_once:
        return entry_point(function, (types.int64,) * 4)
    return CompiledAddress(function, 3, variant=lambda _: ("", {}))[np.dtype(np.int64)]


def shared(function, parts):
    """Whether the parts were shared, and what they wrote."""
    job = np.array([0, parts, helpers.control, *[0] * parts], np.int64)
    run, address, answers = compiled(share_once), compiled(function), []
    caller = threading.Thread(
        target=lambda: answers.append(run(helpers.control, address, job.ctypes.data, parts)), daemon=True
    )
    caller.start()
    caller.join(120)
    assert answers, "the caller waits for ever"
    return answers[0] == 1, job[3:].tolist()


def word(place):
    return int(helpers._words[place // 8])


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def running():
    return [thread for thread in threading.enumerate() if thread.name.startswith("allgrad-product")]


@pytest.fixture
def setting():
    """Change a word of the control block for a test."""
    before = {}

    def change(place, value):
        before.setdefault(place, word(place))
        helpers._words[place // 8] = value

    yield change
    threads.use(1)
    wait_until(lambda: not running())
    for place, value in before.items():
        helpers._words[place // 8] = value


@pytest.fixture
def three_threads(setting):
    """Two helpers that go to sleep at once."""
    setting(SPIN, 0)
    threads.use(3)
    threads.start()


def test_helpers_that_sleep_take_parts(three_threads):
    for _ in range(3):
        wait_until(lambda: word(ASLEEP) == 2)
        assert sorted(shared(meet, 3)[1]) == [0, 1, 2]
        assert (word(ENDED), word(BUSY)) == (2, 0)


def test_helpers_that_look_for_work_take_parts(setting):
    setting(SPIN, 10**12)
    threads.use(3)
    threads.start()
    for _ in range(3):
        assert sorted(shared(meet, 3)[1]) == [0, 1, 2]
    assert word(ASLEEP) == 0


def test_helpers_that_cannot_be_woken_look_again(setting):
    setting(SPIN, 0)
    setting(SYSTEM_CALL, 0)
    threads.use(3)
    threads.start()
    assert sorted(shared(meet, 3)[1]) == [0, 1, 2]


def test_every_part_runs_once_whoever_takes_it(three_threads):
    for parts in (2, 3, 50, helpers.MOST):
        for _ in range(100):
            assert shared_here(parts) == [1] * parts


def shared_here(parts):
    job = np.array([0, parts, helpers.control, *[0] * parts], np.int64)
    assert compiled(share_once)(helpers.control, compiled(count), job.ctypes.data, parts)
    return job[3:].tolist()


def test_a_second_job_is_refused_and_the_first_one_stays_as_it_is(three_threads, setting):
    setting(BUSY, 1)
    before = word(JOB)
    assert shared(count, 3) == (False, [0, 0, 0])
    assert (word(BUSY), word(JOB)) == (1, before)


def test_without_helpers_nothing_is_shared():
    threads.use(1)
    assert shared(count, 3) == (False, [0, 0, 0])


def test_a_call_of_python_code_wakes_helpers(three_threads):
    wait_until(lambda: word(ASLEEP) == 2)
    everyone, names, before = threading.Barrier(3), [], word(CALLS)

    def part(span):
        everyone.wait(120)
        names.append(threading.current_thread().name)
        return span.start

    assert threads.each(part, [slice(i, i + 1) for i in range(3)]) == 2
    assert len(set(names)) == 3
    assert word(CALLS) == before + 1


def test_helpers_leave_when_fewer_threads_are_wanted(three_threads):
    wait_until(lambda: word(ASLEEP) == 2)
    first = running()
    assert len(first) == 2
    threads.use(2)
    wait_until(lambda: not any(thread.is_alive() for thread in first))
    threads.start()
    assert len(running()) == 1
    assert sorted(shared(meet, 2)[1]) == [0, 1]


AT_THE_END = """
import atexit, sys, threading, time
atexit.register(lambda: print(threading.active_count()))  # runs after what is registered later
from allgrad.kernels import helpers, threads
spin = int(sys.argv[1])
helpers._words[helpers.SPIN // 8] = spin
threads.use(4)
threads.start()
if not spin:
    while helpers._words[helpers.ASLEEP // 8] < 3:
        time.sleep(0.001)
"""


@pytest.mark.parametrize("spin", [10**12, 0], ids=["awake", "asleep"])
def test_helpers_have_left_when_their_process_ends(spin):
    """What they look at, and their code, would be freed under them."""
    command = [sys.executable, "-c", AT_THE_END, str(spin)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")
