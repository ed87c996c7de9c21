"""Trap 24, as the trainer meets it: one rank raises, in its loss, its loader's, its checkpoint's or a user's thread: every rank
ends, soon, the exit code is not 0, and the first cause is allgrad's own last output and stands in the run's folder."""

from __future__ import annotations

import re

import pytest
from small_run import write_config

PLUGIN = """
import numpy as np
import os
from allgrad.comm import init
from allgrad.data import ArrayDataset, DataInfo, DataSource
from allgrad.train import register_dataset, register_loss
from allgrad.train.components.losses import Regression
from allgrad import nn

class Failing(Regression):
    calls = 0
    def sums(self, model, part):
        self.calls += 1
        if init().rank == 1 and self.calls == 4:  # two workers a rank: its second worker in its second step
            raise ZeroDivisionError("the loss of one worker failed")
        return super().sums(model, part)

class FailingData(ArrayDataset):
    def batch(self, indices, *, epoch=0):
        if init().rank == 1 and epoch == 1:
            raise ZeroDivisionError("the loader of one rank failed")
        return super().batch(indices, epoch=epoch)

@register_loss("failing")
def failing(info):
    return Failing(nn.MSELoss())

@register_dataset("failing")
def failing_data(seed):
    x = np.ones((12, 3), np.float32)
    data = {"inputs": x, "targets": x[:, :1]}
    return DataSource(FailingData(data), ArrayDataset(data), DataInfo("values", (3,), 1))
"""


def train_and_fail(config, plugin, run, overrides, where):
    """Train; `where` one rank's checkpoint thread or a thread of the user's shall fail."""
    import shutil
    import threading
    from pathlib import Path

    from allgrad.train.callbacks import Callback
    from allgrad.train.run.build import Options, new_run

    class Fail(Callback):
        def on_step(self, trainer, result):
            if trainer.progress.step == 3 and trainer.world.rank == 0 and where == "checkpoint":
                shutil.rmtree(Path(trainer.directory, "checkpoints"))
            if trainer.progress.step == 3 and trainer.world.rank == 1 and where == "thread":
                threading.Thread(target=lambda: 1 // 0, name="of the user").start()

    options = Options(plugins=[plugin], trainer={"callbacks": [Fail()]})
    trainer, folder = new_run(config, [f"run.dir={run}", *overrides], options)
    trainer.run(folder)


@pytest.mark.parametrize(
    ("where", "overrides", "rank", "cause"),
    [
        ("loss", ["loss.name=failing"], 1, "ZeroDivisionError: the loss of one worker failed"),
        ("loader", ["data.name=failing", "batch.size=6"], 1, "ZeroDivisionError: the loader of one rank failed"),
        ("checkpoint", ["checkpoint.every=3"], 0, "Cannot write the checkpoint"),
        ("thread", [], 1, "ZeroDivisionError: integer division or modulo by zero"),
    ],
)
def test_all_ranks_end_and_the_cause_is_the_last_word(mpirun, tmp_path, where, overrides, rank, cause) -> None:
    config = write_config(tmp_path, checkpoint={"every": 50}, train={"steps": 5000, "early_stopping": None})
    (tmp_path / "plugin.py").write_text(PLUGIN)
    run = tmp_path / "run"
    arguments = [str(config), str(tmp_path / "plugin.py"), str(run), overrides, where]
    job = mpirun(train_and_fail, 2, *arguments, check=False)
    assert job.code != 0
    assert job.values == [None, None]
    ours = re.split(r"\n(?:Abort\(|\x00|-{40})", job.stderr)[0]  # before what MPICH or Open MPI says of the abort
    assert ours.count("allgrad: rank") == 1
    last = ours[ours.index("allgrad: rank") :]
    assert last.startswith(f"allgrad: rank {rank} of 2")
    assert any(cause in line for line in last.rstrip().splitlines()[-2:])  # behind it, where to stop in a debugger
    assert (run / "failure.txt").read_text().rstrip() == last.rstrip()
    assert not (run / "summary.json").exists()
