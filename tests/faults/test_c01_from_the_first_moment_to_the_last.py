"""A rank that was stopped while the job started, or at its very end, made the others wait for ever, without a word.

Nothing of ours runs inside MPI_Init and MPI_Finalize, which keep the GIL: the kernel's alarm ends the ranks that wait there.
Nobody said which rank they had waited for, and a configuration could not change the limit of 300 seconds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_run import write_config

from allgrad.train.config import startup_seconds


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
        assert "has not started within 2 s" in job.stderr
        assert re.search(r"Missing: rank 1 \(process \d+\) is stopped, on ", job.stderr)
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


STUCK = """
import os, time
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    time.sleep(10000)
"""


def test_a_configuration_says_how_long_a_start_may_take(mpi_flavour, tmp_path, clean_environment) -> None:
    """It does so before the ranks join, and until the model is built: here, one rank is stuck in a plugin."""
    config = write_config(tmp_path, parallel={"startup_seconds": 4, "stall_seconds": 1000})
    (tmp_path / "plugin.py").write_text(STUCK)
    words = ["train", str(config), "-n", "2", "--plugin", str(tmp_path / "plugin.py"), f"run.dir={tmp_path / 'run'}"]
    # The parent of the ranks reads the configuration as well, and has no rank's number.
    command = [sys.executable, "-P", "-m", "allgrad", *words]
    done = subprocess.run(command, env=clean_environment({}), capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 1
    assert "nothing has moved for 4 s" in done.stderr
    assert "Missing: rank 1 (on " in done.stderr
    assert "parallel.startup_seconds until the model is built" in done.stderr


@pytest.mark.parametrize(
    ("changes", "found"),
    [("", 300.0), ("parallel.startup_seconds=9", 9.0), ("parallel.startup_seconds=-1", 300.0), ("a.b=c", 300.0)],
)
def test_a_rank_knows_the_limit_before_it_joins(tmp_path, changes, found) -> None:
    """Mistakes are reported later, by all ranks together."""
    assert startup_seconds(write_config(tmp_path), changes.split()) == found
    assert startup_seconds(tmp_path / "is-not-there.yaml") == 300.0
