"""An exception in the communication engine was forgotten, and the next wait returned with wrong sums.

Now it fails the engine of that rank: every unfinished handle and every later post and wait raises it, and it ends the job.
"""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.comm import Collective, World, tree_all_reduce


def broken() -> Collective:
    def transfer(lane):
        yield []
        raise ZeroDivisionError("in a transfer")

    return Collective({"collective": "broken"}, iter([transfer]), 8)


@pytest.fixture
def world():
    world = World()
    world.start_engine()
    yield world
    world.close()


def test_every_later_post_raises_it(world) -> None:
    with pytest.raises(ZeroDivisionError, match="in a transfer"):
        world.engine.submit(broken())
    a = np.ones(3)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="in a transfer"):
            tree_all_reduce(world.engine, [(0, 0, a)], a, virtual_workers=1)
    assert world.engine.unfinished() is None


def test_every_wait_raises_it(world) -> None:
    with world.engine._mpi:  # so that both are posted before anything moves
        handles = [world.engine.submit(broken()), world.engine.submit(Collective({"collective": "b"}, iter(()), 0))]
    with pytest.raises(ZeroDivisionError):
        handles[0].wait()
    for handle in handles:
        with pytest.raises(ZeroDivisionError, match="in a transfer"):
            handle.wait()


def test_an_exception_of_the_stall_monitor_is_one_too(world) -> None:
    class Monitor:
        busy = None

        def tick(self):
            raise OSError("no message can be sent")

    world.engine.monitor = Monitor()
    with pytest.raises(OSError, match="no message"):
        world.engine.drive()
    world.engine.monitor = None
    with pytest.raises(OSError, match="no message"):
        world.engine.submit(broken())


def failing(where):
    import time

    import numpy as np

    from allgrad import comm

    world = comm.init()

    def transfer(lane):
        yield []
        raise ZeroDivisionError("in the communication thread")

    a = np.ones(100_000)
    if world.rank == 1:
        with world.engine._mpi:
            broken = comm.Collective({"collective": "x"}, iter([transfer]), 8)
            broken.what["collective"] = "x"
            world.engine.submit(broken)
        time.sleep(3600)  # the main thread never asks for the result
    world.engine.submit(comm.Collective({"collective": "x"}, iter(()), 8)).wait()
    comm.tree_all_reduce(world.engine, [(0, world.rank, a)], a, virtual_workers=2).wait()


def test_on_the_communication_thread_it_ends_the_job(mpirun) -> None:
    job = mpirun(failing, 2, "thread", check=False)
    assert job.code != 0
    assert "allgrad: rank 1 of 2" in job.stderr
    assert "in thread 'allgrad-communication'" in job.stderr
    assert "ZeroDivisionError: in the communication thread" in job.stderr
