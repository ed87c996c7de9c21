"""Trap 30. SIGTERM: a checkpoint at the next step boundary on all ranks together, then a clean end."""

from __future__ import annotations

from small_run import write_config

from allgrad.train.checkpoint.format import list_checkpoints, read_checkpoint


def train_until_told(config, run):
    """The last rank gets the signal in the middle of its 18th step."""
    import os
    import signal
    import time

    from allgrad.train.checkpoint import writer as checkpoint_writer
    from allgrad.train.run.build import Options, new_run

    trainer, write = None, checkpoint_writer.write_synced
    checkpoint_writer.write_synced = lambda *content: (time.sleep(0.2), write(*content))  # a slow disk

    def before_worker(step, worker):
        if step == 17 and trainer.world.rank == 2 and worker == trainer.replica.workers[-1]:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer, folder = new_run(config, [f"run.dir={run}"], Options(trainer={"before_worker": before_worker}))
    found = trainer.run(folder)
    there = (folder / "checkpoints" / "step-000018").exists()
    left_as_found = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    return [trainer.progress.step, found["interrupted"], found["weights_sha256"], left_as_found, there]


def test_all_ranks_end_together_at_the_next_step(mpirun, tmp_path) -> None:
    config = write_config(tmp_path, checkpoint={"every": None}, train={"eval_every": None, "early_stopping": None})
    job = mpirun(train_until_told, 3, str(config), str(tmp_path / "run"))
    assert job.code == 0
    (step, interrupted, digest, left_as_found, there), *others = job.values
    assert others == [job.values[0]] * 2
    assert (step, interrupted, left_as_found) == (18, True, True)
    assert there, "a rank that has left no longer notes signals: what it leaves must be whole"
    (only,) = list_checkpoints(tmp_path / "run" / "checkpoints")
    assert read_checkpoint(only).step == 18
    assert len(digest) == 64
    assert not (tmp_path / "run" / "summary.json").exists()
    assert not (tmp_path / "run" / "failure.txt").exists()
