"""`allgrad sweep --submit`: what is submitted, what a task does, and what is said. The executor is submitit's local one."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from small_run import summary, write_config

from allgrad.cli import submit
from allgrad.cli.main import main
from allgrad.errors import AllgradError

PATIENCE = 300  # seconds
submitit = pytest.importorskip("submitit", reason="--submit needs submitit, an extra")


@pytest.fixture
def sweep(tmp_path, mpi_flavour, clean_environment, monkeypatch):
    """The words of a sweep of one run, with submitit's local executor."""
    for name in set(os.environ) - set(clean_environment({})):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", clean_environment({})["PATH"])
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    config = write_config(tmp_path, train={"steps": 10, "early_stopping": None})
    words = ["sweep", str(config), "seed=1", "-n", "1", "--to", str(tmp_path / "out"), "--submit", "local"]
    return [*words, "--job", "timeout_min=5"], tmp_path / "out"


@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")  # the job outlives the command
def test_a_run_is_submitted_and_then_the_table_is_printed(sweep, capsys) -> None:
    words, place = sweep
    assert main(words) == 0
    jobs = json.loads((place / "jobs" / "submitted.json").read_text())
    assert list(jobs) == [str(place / "seed=1")]
    job = submitit.LocalJob(folder=place / "jobs", job_id=jobs[str(place / "seed=1")])
    until = time.monotonic() + PATIENCE
    while not job.paths.result_pickle.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert job.result() == summary(place / "seed=1")
    capsys.readouterr()
    assert main(words) == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [["seed", "steps"], ["1", "10"]]


def test_what_is_in_the_queue_is_not_submitted_again(tmp_path, monkeypatch, capsys) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "squeue").write_text("#!/bin/sh\necho 7_0\necho 7_1\n")
    (programs / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "submitted.json").write_text(json.dumps({"runs/a": "7_0"}))
    submit.submit([(Path("runs/a"), 2, [])], tmp_path, "slurm", {})
    assert capsys.readouterr().out == "runs/a is in the queue: job 7_0\n"


@pytest.mark.parametrize(
    ("code", "state", "requeued"), [(4, "RUNNING", True), (4, "COMPLETING", False), (1, "RUNNING", False)]
)
def test_a_stopped_run_goes_back_into_the_queue_unless_somebody_is_cancelling_it(
    code, state, requeued, tmp_path, monkeypatch
) -> None:
    calls = tmp_path / "calls"
    (tmp_path / "scontrol").write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\necho "JobId=5 JobState={state} Reason=None"\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setattr("allgrad.cli.main.main", lambda words: code)
    with pytest.raises(AllgradError, match=rf"The run in .*/a did not finish \(exit code {code}\)"):
        submit.train_in_job(["train"], str(tmp_path / "a"))
    assert (calls.exists() and "requeue 5" in calls.read_text()) == requeued


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--submit", "local"], "--submit needs -n RANKS"),
        (["--job", "a=1"], "--job is for --submit"),
        (["--submit", "local", "-n", "2", "--job", "nodes=2"], "a task of the array has one node"),
        (["--submit", "local", "-n", "2", "--job", "partition"], "expected key=value, such as slurm_partition=main"),
        (["--submit", "local", "-n", "2", "--job", "patience=2"], "submitit refuses the array job"),
    ],
)
def test_mistakes(words, said, run, tmp_path, capsys) -> None:
    assert main(["sweep", *run, "seed=1,2", "--to", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
