"""The runs of a sweep as one array job, through submitit (`pip install allgrad[submitit]`): `allgrad sweep --submit slurm`.

Each task of the array is one run on one node, supervised as by `allgrad supervise`: after a failure it continues from its newest
checkpoint. When Slurm takes the node away, or before the time limit, the run saves its state and the task goes back into the
queue. `scancel` ends a task with its state saved. The same command again submits what is neither finished nor in the queue, and
prints the table of results once everything is finished.

submitit's own signal is SIGUSR2, which asks a run for a trace; so SIGUSR1 is chosen, which asks it to save and end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from allgrad.errors import EXIT_STOPPED, AllgradError, UsageError
from allgrad.train.atomic import write_atomic
from allgrad.train.loggers.summary import read_summary

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CLUSTERS", "parameters", "submit", "train_in_job"]

CLUSTERS = ("slurm", "local")
_SIGNAL = "SUBMITIT_PREEMPT_SIGNAL"
_MINUTES = 240  # submitit's default is 5


def submit(runs: Sequence[tuple[Path, int, list[str]]], folder: Path, cluster: str, settings: dict[str, Any]) -> None:
    """Submit runs as one array job, except those that are in the queue already.

    Args:
        runs: (directory, ranks, arguments of `allgrad` that start or continue it) of each.
        folder: for submitit's files, and the record of what was submitted.
        cluster: "slurm", or "local": all runs at once, as processes of this machine.
        settings: parameters of submitit's `update_parameters`.

    Raises:
        UsageError: submitit is missing, or refuses the settings.
    """
    os.environ.setdefault(_SIGNAL, "USR1")  # read when submitit is imported
    try:
        import submitit
    except ImportError as error:
        raise UsageError("--submit needs submitit: pip install allgrad[submitit]") from error

    record = folder / "submitted.json"
    submitted: dict[str, str] = json.loads(record.read_text()) if record.is_file() else {}
    queued = _queued() if cluster == "slurm" else set()
    todo = []
    for one in runs:
        if submitted.get(str(one[0])) in queued:
            print(f"{one[0]} is in the queue: job {submitted[str(one[0])]}")
        else:
            todo.append(one)
    if not todo:
        return
    ranks = max(count for _, count, _ in todo)
    given = {"name": "allgrad-sweep", "timeout_min": _MINUTES, "cpus_per_task": ranks} | settings
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**given, nodes=1, tasks_per_node=1)
        jobs = executor.map_array(train_in_job, [words for *_, words in todo], [str(one) for one, *_ in todo])
    except (NameError, RuntimeError, TypeError, ValueError) as error:
        raise UsageError(f"submitit refuses the array job: {error}") from error
    for (directory, *_), job in zip(todo, jobs, strict=True):
        submitted[str(directory)] = job.job_id
        print(f"{directory}: job {job.job_id}")
    write_atomic(record, json.dumps(submitted, indent=1).encode())


def train_in_job(words: list[str], directory: str) -> dict[str, Any]:
    """What a task of the array does: train one run to its end.

    Args:
        words: arguments of `allgrad`.
        directory: the run's.

    Returns:
        The run's summary.

    Raises:
        AllgradError: the run did not finish; the job counts as failed, unless it went back into the queue.
    """
    from allgrad.cli.main import main

    summary = Path(directory) / "summary.json"
    code = 0
    if not summary.is_file():
        allgrad = [sys.executable, "-P", "-m", "allgrad"]
        code = main(["supervise", "--run", directory, "--", *allgrad, *words])
    if code == EXIT_STOPPED and (job := _running_job()) is not None:
        print(f"allgrad: the run was stopped and saved; job {job} goes back into the queue", flush=True)
        subprocess.run(["scontrol", "requeue", job], check=True)
    if code:
        raise AllgradError(f"The run in {directory} did not finish (exit code {code}).")
    return read_summary(summary)


def parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Settings of the array job, as `key=value` texts.

    Raises:
        UsageError: one is no `key=value`, or sets what is decided here.

    >>> parameters(["slurm_partition=main", "timeout_min=60"])
    {'slurm_partition': 'main', 'timeout_min': 60}
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value):
            raise UsageError(f"--job {text}: expected key=value, such as slurm_partition=main.")
        if key in ("nodes", "tasks_per_node"):
            raise UsageError(f"--job {text}: a task of the array has one node. For more, use --print sbatch.")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            found[key] = value
    return found


def _queued() -> set[str]:
    """The tasks of this user's array jobs that wait or run, as submitit names them."""
    words = ["squeue", "--noheader", "--array", "--me", "--format=%F_%K"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError("--submit slurm: there is no squeue here. Submit on a login node of the cluster.") from error
    if done.returncode:
        raise UsageError(f"--submit slurm: squeue does not answer: {done.stderr.strip()}")
    return set(done.stdout.split())


def _running_job() -> str | None:
    """The number of this Slurm job, if nobody is ending it."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    said = subprocess.run(["scontrol", "show", "job", job, "--oneliner"], capture_output=True, text=True, check=False)
    return job if "JobState=RUNNING" in said.stdout else None
