"""A rank that was stuck, or had ended, before the first step: the others waited for ever, without a report.

The stall monitor now runs from `comm.init()` on.
"""

from __future__ import annotations


def building(how):
    import sys
    import time

    from allgrad import comm, nn, parallel

    world = comm.init(stall_seconds=3.0)

    def reads_its_data():
        if how == "exits":
            sys.exit(0)
        time.sleep(3600)  # the line that is to be named

    if world.rank == 1:
        reads_its_data()
    parallel.DataParallel(nn.Linear(2, 2, rng=0), world, virtual_workers=3)


def test_a_rank_that_is_stuck_while_building_is_reported(mpirun) -> None:
    job = mpirun(building, 3, "is stuck", check=False)
    assert job.code != 0
    assert "Stall: nothing has moved for 3 s in all_gather (collective number" in job.stderr
    assert "Missing: rank 1" in job.stderr
    assert "time.sleep(3600)  # the line that is to be named" in job.stderr
    assert "Waiting in it: ranks 0, 2." in job.stderr
    assert "raise stall_seconds" in job.stderr


def test_a_rank_that_ends_while_building_ends_the_job(mpirun) -> None:
    job = mpirun(building, 3, "exits", check=False)
    assert job.code != 0
    assert "The program of rank 1 is over, while rank 0 needs it for all_gather" in job.stderr
