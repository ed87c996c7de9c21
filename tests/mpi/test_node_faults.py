"""`memory: node` when something goes wrong: stopped and killed ranks, steps that are rolled back, optimizers that do not fit."""

from __future__ import annotations

import os

import pytest
from small_run import write_config


def interrupted(how):
    """A rank is lost inside a step, where the others wait for it in shared memory."""
    import os
    import signal

    import numpy as np

    from allgrad import comm, nn, optim, parallel

    world = comm.init()
    model = nn.Linear(300, 40, rng=0)
    replica = parallel.DataParallel(model, world, memory="node", stall_seconds=2)
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)
    number, sum_in_memory = 0, world.sum_in_memory

    def lost(kind, additions):
        if world.rank == 1 and number == 2:
            world._barrier(kind)
            os.kill(os.getpid(), getattr(signal, how))  # it holds its slice: the others have passed the first barrier
        return sum_in_memory(kind, additions)

    world.sum_in_memory = lost
    for number in range(4):
        parts = replica.split(np.ones((8, 300), np.float32))
        result = replica.step(lambda part: np.mean(model(part) ** 2), parts, number)
        optimizer.step(result.unused)


@pytest.mark.parametrize("how", ["SIGSTOP", "SIGKILL"])
def test_a_rank_is_lost_while_it_holds_a_slice(mpirun, how):
    before = set(os.listdir("/dev/shm"))
    job = mpirun(interrupted, 3, how, check=False)
    assert job.code != 0
    assert all(value is None for value in job.values)
    names_of_mpi = ("mpich_shm_", "sm_segment.")  # those of other jobs of this machine too
    assert not [name for name in set(os.listdir("/dev/shm")) - before if not name.startswith(names_of_mpi)]
    if how == "SIGSTOP":
        assert "Stall: " in job.stderr
        assert "all-reduce (node)" in job.stderr
        assert "rank 1" in job.stderr


PLUGIN = """
import numpy as np
from allgrad import comm, nn
from allgrad.train import register_loss
from allgrad.train.components.losses import Regression

class Poisoned(Regression):
    '''The loss is infinite in the seventh step; every rank runs the same number of the four workers.'''
    calls = 0

    def sums(self, model, batch):
        step, self.calls = self.calls // (4 // comm.init().size), self.calls + 1
        out = super().sums(model, batch)["loss"]
        return {"loss": out + np.inf if step == 6 else out}

@register_loss("poisoned")
def poisoned(info):
    return Poisoned(nn.MSELoss())
"""


def rolled_back(config, plugin, directory, overrides):
    """The digest of a run that returns to a checkpoint, and what its summary says about that."""
    from allgrad.train.run.build import Options, new_run

    trainer, run = new_run(config, [f"run.dir={directory}", *overrides], Options([plugin]))
    found = trainer.run(run)
    return [found["weights_sha256"], found["rollbacks"], found["memory"]]


def test_rollback(mpirun, tmp_path):
    """In shared memory too, training returns to the checkpoint, and ends in the bits of one process."""
    (tmp_path / "poison.py").write_text(PLUGIN)
    config = write_config(
        tmp_path, loss={"name": "poisoned"}, checkpoint={"every": 5},
        train={"nonfinite": "rollback", "steps": 20, "eval_every": None, "early_stopping": None},
    )  # fmt: skip
    words = str(config), str(tmp_path / "poison.py")
    digest, rollbacks, _ = rolled_back(*words, str(tmp_path / "one"), [])
    assert rollbacks == [[6, 5]]
    for name, overrides in {"node": [], "shards": ["parallel.shard=optimizer"]}.items():
        overrides.append("parallel.memory=node")
        job = mpirun(
            rolled_back, 4, *words, str(tmp_path / name), overrides,
            env={"ALLGRAD_PRETEND_NODES": "1" if name == "node" else "2"},
        )  # fmt: skip
        assert job.values == [[digest, rollbacks, "node"]] * 4
