"""The end of a rank, in a process of its own: what is said, by whom, and the exit code."""

import subprocess
import sys

PROGRAM = """
import os, sys, threading
from allgrad.comm import failure

class Fake:
    rank, size, host, on_failure = {rank}, 3, "here", None
    def abort(self, code):
        os._exit(code)

world = Fake()
failure.install(world)
{body}
"""


def run(body, rank=0):
    program = PROGRAM.format(body=body, rank=rank)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    return done.returncode, done.stderr


def test_an_uncaught_exception_is_told_and_ends_the_rank():
    code, err = run("1 / 0", rank=1)
    assert code == 1
    assert err.startswith("allgrad: rank 1 of 3 on here failed. Traceback")
    assert err.endswith("ZeroDivisionError: division by zero\n")


def test_the_first_thread_speaks_though_the_main_thread_fails_while_it_does():
    """A daemon thread dies with the main thread: that one must not leave before the cause is told."""
    code, err = run("""
def told(text):
    speaking.set()
    main.join(0.5)  # returns sooner only where the main thread does not wait

speaking, main = threading.Event(), threading.main_thread()
world.on_failure = told
threading.Thread(target=lambda: [][0], name="loader", daemon=True).start()
speaking.wait()
raise KeyError("a consequence")
""")
    assert code == 1
    assert err.startswith("allgrad: rank 0 of 3 on here failed. in thread 'loader'")
    assert err.endswith("IndexError: list index out of range\n")
    assert "a consequence" not in err


def test_of_a_failure_everywhere_rank_0_speaks():
    assert "the same" in run("raise failure.CollectiveError('the same')")[1]
    waits = "failure.time.sleep = lambda seconds: (print(seconds, file=sys.stderr), os._exit(9))\n"  # aborted meanwhile
    assert run(waits + "raise failure.CollectiveError('the same')", rank=1) == (9, "30.0\n")


def test_where_saying_so_fails_the_rank_ends_all_the_same():
    code, err = run("world.on_failure = lambda text: open('/nowhere/at/all', 'w')\n1 / 0")
    assert code == 1
    assert "ZeroDivisionError: division by zero\n(on_failure failed as well: FileNotFoundError" in err
