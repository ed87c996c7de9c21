"""Killed jobs left MPICH's segments in /dev/shm (see also tests/comm/test_shared_memory.py for too small a /dev/shm)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from allgrad.comm import shared_memory

SHM = Path("/dev/shm")


def killed():
    import os
    import signal

    from allgrad import comm

    world = comm.init()
    world.barrier()
    if world.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    world.barrier()


def test_a_killed_job_leaves_nothing(mpi_flavour, mpirun) -> None:
    if mpi_flavour[0] != "mpich":
        pytest.skip("about MPICH's segments")
    before = set(SHM.glob("mpich_shm_*"))
    assert mpirun(killed, 3, check=False).code != 0
    left = {path for path in set(SHM.glob("mpich_shm_*")) - before if path.stat().st_uid == os.getuid()}
    assert not left & set(shared_memory.left_behind())
