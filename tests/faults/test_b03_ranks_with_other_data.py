"""Ranks that saw different data of one shape trained on in silence, and the summary claimed the same bits."""

from __future__ import annotations

import sys
from pathlib import Path

from small_run import write_config

PLUGIN = """
import numpy as np
from allgrad.comm import init
from allgrad.data import ArrayDataset, DataInfo, DataSource
from allgrad.train import register_dataset

@register_dataset("own")
def own(seed, *, same: bool):
    x = np.ones((12, 3), np.float32)
    if not same:
        x[3, 2] += init().rank
    data = {"inputs": x, "targets": x[:, :1]}
    return DataSource(ArrayDataset(data), ArrayDataset(data), DataInfo("values", (3,), 1), digest=str(x.sum()))
"""


def test_they_are_told_before_the_first_step(mpirun, tmp_path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    config = write_config(tmp_path, train={"steps": 3, "early_stopping": None, "eval_every": None})
    command = [Path(sys.executable).with_name("allgrad"), 2, "train", str(config), "data.name=own"]
    words = ["--plugin", str(tmp_path / "plugin.py"), f"run.dir={tmp_path / 'run'}"]
    job = mpirun(*command, "data.same=false", *words, check=False)
    assert job.code == 1
    assert not (tmp_path / "run").exists()
    assert job.stderr.count("training data: '36.0' on rank 0; '37.0' on rank 1") == 1
    assert "Traceback" not in job.stderr
    assert mpirun(*command, "data.same=true", *words).code == 0
