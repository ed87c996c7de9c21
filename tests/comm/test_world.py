"""The world of one process: everything works, and MPI is not imported."""

import subprocess
import sys

import numpy as np
import pytest

from allgrad.comm.world import World


def test_one_process_needs_no_mpi():
    code = """
import sys, numpy as np
from allgrad import comm
hook = sys.excepthook
w = comm.init()
assert (w.rank, w.size, w.local_size, w.nodes, w.is_mpi, w.comm) == (0, 1, 1, 1, False, None)
a = np.arange(3.0)
assert w.broadcast(a) is a and w.all_gather(a).tolist() == [[0, 1, 2]]
assert w.broadcast_json({"a": [1]}) == {"a": [1]} and w.all_gather_json("x") == ["x"]
w.barrier(); w.verify({"code": "1"}); w.verify_arrays({"w": a})
assert sys.excepthook is hook
assert not any(name.startswith("mpi4py") for name in sys.modules)
w.abort(3)
"""
    environ = {"PATH": "/usr/bin:/bin"}
    run = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=300)
    assert run.returncode == 3, run.stderr


def test_broadcast_wants_memory_that_it_can_fill():
    with pytest.raises(ValueError, match="C-contiguous and writable"):
        World().broadcast(np.zeros((3, 3)).T[:2])
    frozen = np.zeros(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="C-contiguous and writable"):
        World().broadcast(frozen)
