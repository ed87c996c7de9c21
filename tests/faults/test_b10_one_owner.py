"""Two jobs in one run directory interleaved their metrics and pruned each other's checkpoints."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runs import resume, train
from small_run import write_config

from allgrad.errors import UsageError

HOLD = """
import sys
from pathlib import Path
from allgrad.train.run.directory import lock_run
lock_run(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_job_is_refused_and_a_dead_one_is_no_obstacle(tmp_path) -> None:
    config = write_config(tmp_path, train={"steps": 4, "early_stopping": None, "eval_every": None})
    train(config, tmp_path / "run")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
        with pytest.raises(UsageError, match=rf"run is in use by process {process.pid} on "):
            resume(tmp_path / "run", "train.steps=6")
        assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
        process.kill()
    assert resume(tmp_path / "run", "train.steps=6")["steps"] == 6
