"""`comm.init()` dropped the program's own `sys.excepthook`, `threading.excepthook` and faulthandler timer.

A suspended job printed stack dumps when it continued: they came from that timer, which nobody uses any more. And a rank ended
without a word if a hook that was installed later called ours with `sys.stderr` replaced by a buffer, as PyTorch's does.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, threading
from allgrad.comm import failure

class Fake:
    rank, size, host, on_failure = 0, 3, "here", None
    def abort(self, code):
        os._exit(code)

def mine(*arguments):
    print("the program's own hook", file=sys.stderr, flush=True)
    {fails}

sys.excepthook = threading.excepthook = mine
failure.install(Fake())
{body}
"""


@pytest.mark.parametrize("fails", ["pass", "raise OSError('the hook fails')"])
@pytest.mark.parametrize("body", ["1 / 0", "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()"])
def test_the_programs_hook_is_called_and_the_rank_ends(body, fails) -> None:
    program = PROGRAM.format(body=body, fails=fails)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.startswith("the program's own hook\n")
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def test_words_reach_the_error_output_if_a_later_hook_collects_them() -> None:
    collecting = """
import io
ours = sys.excepthook
def prefixed(*arguments):
    before, sys.stderr = sys.stderr, io.StringIO()
    try:
        ours(*arguments)
    finally:
        sys.stderr, text = before, sys.stderr.getvalue()
    sys.stderr.write(text)
sys.excepthook = prefixed
1 / 0
"""
    program = PROGRAM.format(body=collecting, fails="pass")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert done.stderr.endswith("ZeroDivisionError: division by zero\n")


def timer():
    import faulthandler
    import sys
    import time
    from pathlib import Path

    import numpy as np

    from allgrad import comm

    mine = Path(sys.argv[1], f"dump{comm.init().rank}.txt")
    with mine.open("w") as file:
        faulthandler.dump_traceback_later(0.5, file=file)
        world = comm.init()
        world.start_engine(stall_seconds=1.0)
        a = np.ones(1000)
        written = [False]
        while not all(written):  # the ranks leave together: each decides by what all of them have seen
            comm.tree_all_reduce(world.engine, [(0, world.rank, a)], a, virtual_workers=2).wait()
            time.sleep(0.01)
            written = world.all_gather_json(bool(mine.stat().st_size))
    return "Timeout" in mine.read_text()


def test_the_programs_faulthandler_timer_is_left_alone(mpirun) -> None:
    assert mpirun(timer, 2).values == [True, True]
