"""Inside a step of `srun`, `train -n`, `resume -n` and `doctor` hung: mpirun asked Slurm for nodes that the step held."""

from __future__ import annotations

import pytest

from allgrad.cli.mpirun import job_environment


@pytest.mark.parametrize(
    ("step", "kept"), [("0", False), (str(0xFFFFFFFA), True)], ids=["srun", "the shell of salloc, or a batch script"]
)
def test_the_job_gets_the_nodes_that_the_step_has(monkeypatch, step, kept) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_STEP_ID", step)
    assert ("SLURM_JOB_ID" in job_environment()) is kept
