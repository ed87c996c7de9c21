"""Finding mpirun, and the words and the environment with which it starts ranks of allgrad.

mpirun is the one beside this Python (the wheel's), else the one on PATH. Ranks run `python -P -m allgrad ...`, so that no file
in the working directory can take the place of a package.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from allgrad.errors import AllgradError, UsageError

__all__ = ["find_mpirun", "job_command", "job_environment"]

_SPECIAL_STEP = 0xFFFFFFF0  # from here on Slurm numbers the steps that are no srun's, such as the shell of salloc


def find_mpirun() -> str:
    """The mpirun beside this Python, else the one on PATH.

    Raises:
        AllgradError: if there is no mpirun in either place.
    """
    found = shutil.which("mpirun", path=str(Path(sys.executable).parent)) or shutil.which("mpirun")
    if found is None:
        raise AllgradError(
            "There is no mpirun beside this Python or on PATH. Install an MPI library (`pip install allgrad[mpich]`), or, on a "
            "cluster, load its MPI module."
        )
    return found


def job_command(ranks: int, module: str, *arguments: str, survive: bool = False) -> list[str]:
    """The words that run a module of allgrad on `ranks` ranks; `survive`: in a job that outlives some of them.

    Raises:
        AllgradError: there is no mpirun.
        UsageError: the job shall survive, and this mpirun cannot do that.
    """
    mpirun = find_mpirun()
    open_mpi = _is_open_mpi(mpirun)
    if survive and not open_mpi:
        raise UsageError(
            f"--survive needs Open MPI, and {mpirun} belongs to another MPI library, whose jobs end with the first rank that "
            "dies. Use `launch/local.sh --mpi openmpi --survive`, or `allgrad supervise`, which starts the job again."
        )
    options = ["--oversubscribe", "--bind-to", "none"] if open_mpi else []
    words = [mpirun, *options, *(["--with-ft", "ulfm"] if survive else []), "-n", str(ranks)]
    return [*words, sys.executable, "-P", "-m", module, *arguments]


def job_environment() -> dict[str, str]:
    """The environment of a job: this process's, with one BLAS thread per rank unless it says otherwise.

    Inside a step that `srun` started, the job gets that step's node: a mpirun that asked Slurm for nodes would wait for the step,
    which holds them. Outside a scheduler's allocation such a job has one machine, so its ranks open no ports: MPICH's UCX gets
    shared memory only.
    """
    environment = dict(os.environ)
    if 0 <= int(environment.get("SLURM_STEP_ID", -1)) < _SPECIAL_STEP:
        environment = {name: value for name, value in environment.items() if not name.startswith("SLURM_")}
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"):
        environment.setdefault(name, "1")
    if not any(name in environment for name in ("SLURM_JOB_ID", "PBS_NODEFILE", "LSB_HOSTS", "PE_HOSTFILE")):
        environment.setdefault("UCX_TLS", "sm,self")
    with contextlib.suppress(AllgradError):
        if _is_open_mpi(find_mpirun()):
            environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
            environment.setdefault("HOME", str(Path.cwd()))  # Open MPI does not start without one
            environment.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    return environment


def _is_open_mpi(mpirun: str) -> bool:
    said = subprocess.run([mpirun, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in said or "PRRTE" in said
