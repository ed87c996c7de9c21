"""When the cable between two hosts was cut, the ranks that were cut off stayed in MPI_Abort, in C code that holds the GIL."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, time
from allgrad.comm import failure

class Fake:
    rank, size, host, on_failure = 0, 2, "here", None
    def abort(self, code):
        {waits}

failure._GRACE = failure._HOLDING = 0.2
failure.install(Fake())
1 / 0
"""


@pytest.mark.parametrize(
    "waits", ["ctypes.PyDLL(None).sleep(10000)", "time.sleep(10000)"], ids=["with the GIL", "without"]
)
def test_the_process_ends_all_the_same(waits) -> None:
    command = [sys.executable, "-c", PROGRAM.format(waits=waits)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "rank 0 of 2 on here failed." in done.stderr
    assert "ZeroDivisionError" in done.stderr
