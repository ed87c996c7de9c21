"""A command that had started a job was killed by SIGKILL, and left mpirun and the ranks running.

Whatever starts processes is killed here: `train -n`, a supervisor, `allgrad.launch`, the guard's caller, and mpirun itself.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_run import write_config

from allgrad.cli.processes import marked

MARK = "ALLGRAD_TEST_JOB"
ALLGRAD = [sys.executable, "-P", "-m", "allgrad"]
PATIENCE = 200  # seconds


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextlib.contextmanager
def started(command, environment, folder, ready):
    """A command whose processes are marked, once `ready()`; afterwards nothing of it may be left."""
    mark = str(folder)
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, env=environment({MARK: mark}), stdout=output, stderr=output, start_new_session=True, cwd=folder
        )
    try:
        wait_until(lambda: ready() or process.poll() is not None, "it does not start")
        assert process.poll() is None, (folder / "output").read_text()
        yield process
        wait_until(lambda: not marked(MARK, mark), f"left running: {marked(MARK, mark)}")
    finally:
        for one in marked(MARK, mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        process.wait()


def endless(folder: Path) -> list[str]:
    """The words of a training that does not end."""
    config = write_config(folder, train={"steps": 10**7, "early_stopping": None, "eval_every": None, "log_every": 1})
    return ["train", str(config), "-n", "2", f"run.dir={folder / 'run'}"]


def test_train(mpi_flavour, tmp_path, clean_environment) -> None:
    lines = tmp_path / "run" / "metrics.jsonl"
    with started([*ALLGRAD, *endless(tmp_path)], clean_environment, tmp_path, lines.exists) as process:
        process.kill()
    assert "what started this job was killed" in (tmp_path / "output").read_text()


def test_train_while_the_ranks_start(mpi_flavour, tmp_path, clean_environment) -> None:
    def ranks() -> bool:
        environments = [Path(f"/proc/{one}/environ") for one in marked(MARK, str(tmp_path))]
        with contextlib.suppress(OSError):
            return any(b"_RANK=1" in one.read_bytes() for one in environments)
        return False

    with started([*ALLGRAD, *endless(tmp_path)], clean_environment, tmp_path, ranks) as process:
        process.kill()


def test_a_supervisor(tmp_path, clean_environment) -> None:
    """With what it supervises, and with what that has started in sessions of its own."""
    script = "setsid sleep 1000 & touch up; sleep 1000"
    command = [*ALLGRAD, "supervise", "--", "sh", "-c", script]
    with started(command, clean_environment, tmp_path, (tmp_path / "up").exists) as process:
        process.kill()


def test_launch(mpi_flavour, tmp_path, clean_environment) -> None:
    program = """
        import allgrad

        def wait(place):
            import time
            from pathlib import Path
            Path(place).touch()
            while True:
                time.sleep(1)

        allgrad.launch(wait, "up", ranks=2)
    """
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    command = [sys.executable, "program.py"]
    with started(command, clean_environment, tmp_path, (tmp_path / "up").exists) as process:
        process.kill()


def test_mpirun(mpi_flavour, tmp_path, clean_environment) -> None:
    """Nothing of ours watches it; the ranks see that they have no launcher any more."""
    words = endless(tmp_path)
    del words[2:4]
    flavour, path = mpi_flavour
    options = ["--oversubscribe"] if flavour == "openmpi" else []
    more = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    command = [path, *options, "-n", "2", *ALLGRAD, *words]
    lines = tmp_path / "run" / "metrics.jsonl"
    with started(command, lambda extra: clean_environment(more | extra), tmp_path, lines.exists) as process:
        process.kill()


GUARDED = """
import os, signal, subprocess, sys
from allgrad.cli.processes import guarded
with guarded("ALLGRAD_TEST_INNER", sys.argv[1]):
    mark = os.environ | {"ALLGRAD_TEST_INNER": sys.argv[1]}
    subprocess.Popen(["sleep", "1000"], env=mark, start_new_session=True)
    other = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    open("up", "w").write(str(other.pid))
    sys.stdin.read()
"""


@pytest.mark.parametrize("killed", [True, False])
def test_the_guard_ends_what_is_marked_if_its_starter_has_not(tmp_path, clean_environment, killed) -> None:
    environment, mark = clean_environment({}), str(tmp_path)
    command = [sys.executable, "-c", GUARDED, mark]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, cwd=tmp_path)
    wait_until(lambda: (tmp_path / "up").exists() and (tmp_path / "up").read_text(), "it does not start")
    left = [int((tmp_path / "up").read_text()), *marked("ALLGRAD_TEST_INNER", mark)]
    try:
        assert len(left) == 2
        if killed:
            process.kill()
            wait_until(lambda: not marked("ALLGRAD_TEST_INNER", mark), "the guard does nothing")
            os.kill(left[0], 0)  # it had no mark
        else:
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
            assert marked("ALLGRAD_TEST_INNER", mark) == left[1:]  # ended by itself: its own business
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        for one in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
