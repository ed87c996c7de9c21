"""A rank that was stopped while the job started, or at its very end, made the others wait for ever, without a word.

Nothing of ours runs inside MPI_Init and MPI_Finalize, which keep the GIL: the kernel's alarm ends the ranks that wait there.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest


def stopping(when):
    import os
    import signal

    from allgrad import comm

    rank = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")))

    def stop():
        os.kill(os.getpid(), signal.SIGSTOP)

    if when == "start" and rank == 1:
        stop()
    world = comm.init(stall_seconds=2.0)
    if when == "end" and rank == 1:
        close = world.close

        def and_stop():
            close()
            stop()

        world.close = and_stop


@pytest.mark.parametrize("when", ["start", "end"])
def test_a_rank_that_is_stopped_then_ends_the_job(mpirun, when) -> None:
    job = mpirun(stopping, 3, when, check=False)
    assert job.code != 0
    if when == "start":
        assert "comm/topology.py" in job.stderr  # where the others wait
        assert "in join" in job.stderr
    else:
        assert "signal 14" in job.stdout + job.stderr or "EXIT CODE: 14" in job.stdout


def orphaned(place):
    import os
    import signal
    import time
    from pathlib import Path

    from allgrad import comm

    world = comm.init()
    pids = [int(pid) for pid, _ in world.all_gather_json([os.getpid(), 0])]
    if world.rank == 0:
        Path(place).write_text(" ".join(map(str, pids)))
        os.kill(os.getppid(), signal.SIGKILL)
    while True:
        world.barrier()
        time.sleep(0.01)


def test_ranks_do_not_outlive_their_launcher(mpirun, mpi_flavour, tmp_path) -> None:
    if mpi_flavour[0] != "mpich":
        pytest.skip("Open MPI's mpirun is the parent of local ranks: killing it ends what this test looks at")
    job = mpirun(orphaned, 2, str(tmp_path / "pids"), check=False)
    assert job.code != 0
    deadline = time.monotonic() + 200
    while any(Path(f"/proc/{pid}").exists() for pid in (tmp_path / "pids").read_text().split()):
        assert time.monotonic() < deadline, "the ranks live on"
        time.sleep(0.05)
