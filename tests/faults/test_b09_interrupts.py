"""Ctrl-C saved nothing, and no checkpoint was written by default. Under mpirun: tests/cli/test_mpirun.py."""

from __future__ import annotations

import subprocess
import sys

import pytest
from notices import without_notices
from small_run import STEPS, write_config

from allgrad.cli.main import main
from allgrad.train.checkpoint.format import list_checkpoints
from allgrad.train.config import resolve


def test_checkpoints_are_written_by_default(tmp_path) -> None:
    config = resolve(write_config(tmp_path, checkpoint={"every": None}), ["checkpoint.keep=2"])
    assert config.checkpoint.every_minutes == 10


def limited(words: list[str], *, before: str) -> subprocess.CompletedProcess:
    """The command in a process of its own, in which `before` is run first."""
    program = f"import os, resource, signal, sys\n{before}\nfrom allgrad.cli.main import main\nsys.exit(main({words}))"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(("times", "code"), [(1, 4), (2, 130)])
def test_ctrl_c_saves_and_a_second_one_ends_at_once(tmp_path, times, code) -> None:
    config = write_config(tmp_path, train={"early_stopping": None}, checkpoint={"every": None})
    # A job in the background of a shell is started with SIGINT ignored, and Python then leaves it so.
    program = "signal.signal(signal.SIGINT, signal.default_int_handler); " \
        "import allgrad.train.trainer as t; step = t.Trainer._train_step; " \
        "t.Trainer._train_step = lambda s: [os.kill(os.getpid(), signal.SIGINT) " \
        f"for _ in range({times} * (s.progress.step == 25))] and None or step(s)"  # fmt: skip
    run = tmp_path / "run"
    done = limited(["train", str(config), f"run.dir={run}"], before=program)
    assert done.returncode == code, done.stderr
    if times == 1:
        assert f"stopped after 26 of {STEPS} steps, and saved. Continue with `allgrad resume {run}`." in done.stdout
        assert list_checkpoints(run / "checkpoints")[0].name == "step-000026"
    else:
        assert without_notices(done.stderr) == "allgrad: interrupted\n"
    assert main(["resume", str(run)]) == 0
