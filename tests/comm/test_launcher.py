"""What the environment says about the launcher."""

import pytest

from allgrad.comm import launcher


@pytest.mark.parametrize(
    ("environ", "size"),
    [
        ({"PMI_RANK": "0", "PMI_SIZE": "4"}, 4),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"}, 2),
        ({"PMIX_RANK": "0", "SLURM_STEP_NUM_TASKS": "8"}, 8),
        ({"PMI_RANK": "3", "SLURM_STEP_NUM_TASKS": "16"}, 16),
        ({"PMIX_RANK": "0"}, None),
        ({"PALS_RANKID": "0"}, None),
        ({"MV2_COMM_WORLD_RANK": "0", "MV2_COMM_WORLD_SIZE": "2"}, 2),
    ],
)
def test_ranks_of_a_job(environ, size):
    assert launcher.detect(environ).size == size


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"},  # the script of sbatch, a shell of salloc
        {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},  # srun --pty bash
    ],
)
def test_ordinary_processes(environ):
    assert launcher.detect(environ) is None


def test_srun_without_mpi_is_said_in_words():
    with pytest.raises(launcher.LaunchError, match=r"srun started 4 tasks without an MPI plug-in.*--mpi=pmi2"):
        launcher.detect({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"})


def test_a_launcher_of_another_make_is_said_in_words():
    launch = launcher.detect({"PMI_RANK": "0", "PMI_SIZE": "4"})
    with pytest.raises(launcher.LaunchError, match=r"started 4 ranks, but the MPI library sees 1.*'Open MPI v5'"):
        launcher.check_size(launch, 1, "Open MPI v5")
    launcher.check_size(launch, 4, "MPICH")
    launcher.check_size(launcher.Launch("x", 1), 1, "MPICH")
    launcher.check_size(launcher.Launch("x", None), 1, "MPICH")
