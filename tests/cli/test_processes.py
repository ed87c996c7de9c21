"""Finding and ending the processes of a job."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys

from allgrad.cli.processes import FirstToEnd, alive, end_processes, marked


def sleeper(environment: dict[str, str]) -> subprocess.Popen[str]:
    """A process that has started and sleeps."""
    program = "import time; print('here', flush=True); time.sleep(1000)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], env=os.environ | environment, text=True, stdout=subprocess.PIPE, start_new_session=True
    )  # fmt: skip
    assert process.stdout.readline() == "here\n"
    return process


def test_only_marked_processes_are_found_and_ended() -> None:
    ours, other = sleeper({"ALLGRAD_TEST_MARK": "/a/b"}), sleeper({"ALLGRAD_TEST_MARK": "/a/bc"})
    with ours, other:
        assert marked("ALLGRAD_TEST_MARK", "/a/b") == [ours.pid]
        end_processes(marked("ALLGRAD_TEST_MARK", "/a/b"))
        assert not alive(ours.pid)  # a zombie, until its parent has asked
        assert alive(other.pid)
        assert marked("ALLGRAD_TEST_MARK", "/a/b") == []
        other.kill()


def test_this_process_is_never_found(monkeypatch) -> None:
    with open("/proc/self/environ") as file:
        name, _, value = file.read().split("\0")[0].partition("=")
    assert os.getpid() not in marked(name, value)


def test_a_process_that_is_gone() -> None:
    assert not alive(2**22 + 1)
    end_processes([2**22 + 1])


def test_the_first_of_some_processes_that_ends() -> None:
    first, second, third = (sleeper({}) for _ in range(3))
    with first, second, third:
        with contextlib.closing(FirstToEnd()) as ends:
            ends.watch([first.pid, second.pid])
            ends.watch([second.pid, third.pid])
            ends.look(0.0)
            assert ends.process is None
            for process in (second, third):
                process.kill()
                ends.look(60.0)
            assert ends.process == second.pid
        first.kill()


def test_ends_at_the_same_time_are_not_told_apart() -> None:
    with sleeper({}) as first, sleeper({}) as second, contextlib.closing(FirstToEnd()) as ends:
        ends.watch([first.pid, second.pid])
        for process in (first, second):
            process.kill()
            process.wait()
            ends.watch([process.pid])  # it is gone
        ends.look(60.0)
        assert ends.process is None
