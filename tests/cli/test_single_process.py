"""Commands that run in a single process, started by mpirun as if they were ranks: they refuse, on every rank, and end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_run import write_config

COMMAND = Path(sys.executable).with_name("allgrad")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "{config}", "--debug"], "--debug runs in a single process; start it without mpirun"),
        (["resume", "nowhere", "-n", "2"], "-n, which starts mpirun itself, runs in a single process"),
        (["eval", "nowhere"], "eval runs in a single process"),
        (["config", "{config}"], "config runs in a single process"),
        (["sweep", "{config}", "seed=1,2"], "sweep runs in a single process"),
    ],
)
def test_what_would_be_done_twice_is_refused(mpirun, tmp_path, words, said) -> None:
    config = write_config(tmp_path)
    job = mpirun(COMMAND, 2, *(word.format(config=config) for word in words), check=False)
    assert job.code == 2
    assert said in job.stderr
    assert "launched 2 ranks)." in job.stderr
    assert "Traceback" not in job.stderr


def test_debug_on_one_rank_is_one_process(mpirun, tmp_path) -> None:
    config = write_config(tmp_path)
    words = [str(config), "train.steps=2", "train.early_stopping=null", f"run.dir={tmp_path / 'run'}", "--debug"]
    assert "weights sha256" in mpirun(COMMAND, 1, "train", *words).stdout
