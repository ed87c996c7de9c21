"""`resume -n`, `sweep` and `doctor` started `python -m`, which ran a pydantic.py that was in the working directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from small_run import write_config

from allgrad.cli.mpirun import job_command


def test_files_in_the_working_directory_take_no_packages_place(mpi_flavour, tmp_path, clean_environment) -> None:
    """`python -m` would import a pydantic.py that is there."""
    (tmp_path / "pydantic.py").write_text("raise SystemExit('the wrong pydantic')")
    config = write_config(tmp_path, train={"steps": 3, "early_stopping": None})
    command = [str(Path(sys.executable).with_name("allgrad")), "train", "-n", "2", str(config), "run.dir=run"]
    done = subprocess.run(
        command, env=clean_environment({}), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "-P" in job_command(2, "allgrad")
