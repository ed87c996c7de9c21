"""Commands that are one process, started by mpirun as if they were ranks: they say so, or do what they do, and end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_run import write_config

PRINT_CONFIG = """
import os, sys
from allgrad.cli.main import main
rank = next(os.environ[name] for name in ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK") if name in os.environ)
sys.exit(main(["config", sys.argv[1] if rank == "1" else "no.yaml"]))
"""
COMMAND = Path(sys.executable).with_name("allgrad")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "{config}", "--debug"], "--debug is one process, and"),
        (["resume", "nowhere", "-n", "2"], "resume -n, which starts mpirun itself, is one process, and"),
        (["sweep", "{config}", "seed=1,2"], "sweep is one process, and"),
    ],
)
def test_what_would_be_done_twice_is_refused(mpirun, tmp_path, words, said) -> None:
    config = write_config(tmp_path)
    job = mpirun(COMMAND, 2, *(word.format(config=config) for word in words), check=False)
    assert job.code == 2
    assert said in job.stderr
    assert "started 2 of it. Start it without." in job.stderr
    assert "Traceback" not in job.stderr


def test_debug_on_one_rank_is_one_process(mpirun, tmp_path) -> None:
    config = write_config(tmp_path)
    words = [str(config), "train.steps=2", "train.early_stopping=null", f"run.dir={tmp_path / 'run'}", "--debug"]
    assert "weights sha256" in mpirun(COMMAND, 1, "train", *words).stdout


def test_a_mistake_of_one_process_does_not_wait_for_the_other(mpirun, tmp_path) -> None:
    """Rank 1 finds its file, is done and gone: rank 0, which does not, must not join a job with it to say so."""
    (tmp_path / "print_config.py").write_text(PRINT_CONFIG)
    job = mpirun(tmp_path / "print_config.py", 2, write_config(tmp_path), check=False)
    assert job.code == 2
    assert "no.yaml: expected a configuration file" in job.stderr
