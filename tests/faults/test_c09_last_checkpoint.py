"""A last checkpoint that took longer than `stall_seconds` ended a finished job with nothing saved.

While a rank is in a long task that it has announced, waiting for it is no stall.
"""

from __future__ import annotations

import pytest


def writing(who, mode, seconds, then):
    import time

    from allgrad import comm

    world = comm.init()
    engine = world.start_engine(mode=mode, stall_seconds=0.5)
    world.barrier()
    if world.rank == who:
        with world.long_task("writing a checkpoint"):
            start = time.monotonic()
            while time.monotonic() - start < seconds:
                time.sleep(0.1)
        if then == "stuck":
            time.sleep(3600)
    world.barrier()
    return engine.monitor.limit


@pytest.mark.parametrize(("who", "mode", "seconds"), [(0, "thread", 3.0), (1, "thread", 3.0), (0, "poll", 7.5)])
def test_the_others_wait_as_long_as_it_takes(mpirun, who, mode, seconds) -> None:
    """They would report rank 0, which polls only now and then, after twice the limit and 5 s; any other rank after 1 s."""
    job = mpirun(writing, 3, who, mode, seconds, "done")
    assert job.values == [0.5] * 3
    assert "Stall" not in job.stderr


def test_after_it_a_rank_that_stays_away_is_a_stall_again(mpirun) -> None:
    job = mpirun(writing, 2, 0, "thread", 1.0, "stuck", check=False)
    assert job.code != 0
    assert "Stall: nothing has moved for 0.5 s in barrier" in job.stderr
    assert "time.sleep(3600)" in job.stderr


def test_the_trainer_announces_its_checkpoints(tmp_path, monkeypatch) -> None:
    from small_run import write_config

    from allgrad.comm import World
    from allgrad.train.run.build import new_run

    announced, before = [], World.long_task
    monkeypatch.setattr(World, "long_task", lambda self, what: announced.append(what) or before(self, what))
    trainer, folder = new_run(write_config(tmp_path), [f"run.dir={tmp_path / 'run'}", "train.steps=2"])
    trainer.run(folder)
    assert announced[-2:] == ["writing a checkpoint", "waiting for the checkpoint to be written"]
