"""`allgrad doctor`: what it shows, and that each kind of trouble is named with its remedy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from allgrad.cli import doctor, mpirun
from allgrad.cli.main import main
from allgrad.cli.probe import Findings, measure
from allgrad.comm import cores
from allgrad.comm.world import World
from allgrad.errors import AllgradError

GOOD = Findings("MPICH 5", "5.0", "MULTIPLE", 2, 1, 2e-6, 5e9, 0.0)


def mpirun_or_skip() -> str:
    try:
        return mpirun.find_mpirun()
    except AllgradError:
        pytest.skip("there is no mpirun on this machine")


@pytest.fixture
def report() -> doctor.Report:
    return doctor.Report()


def test_without_mpi_it_shows_software_machine_and_blas(capsys) -> None:
    assert main(["doctor", "--no-mpi"]) == 0
    out = capsys.readouterr().out
    for words in ("numpy ", "cores ", "physical", "kernel ", "_NUM_THREADS"):
        assert words in out
    assert "all-reduce" not in out


def test_it_measures_a_job_of_two_ranks() -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py and an mpirun")
    mpirun_or_skip()
    found = doctor.small_job()
    assert isinstance(found, Findings), found
    assert (found.ranks, found.nodes) == (2, 1)
    assert 1e-8 < found.latency < 10  # seconds, and bytes a second, on whatever is left of this machine
    assert 1e4 < found.bandwidth < 1e12
    assert 0 <= found.hidden <= 1


def test_a_job_that_cannot_start_is_an_exit_code_and_the_launchers_words(monkeypatch, capsys, tmp_path) -> None:
    fake = tmp_path / "mpirun"
    fake.write_text("#!/bin/sh\necho 'no hosts left' >&2\nexit 3\n")
    fake.chmod(0o755)
    monkeypatch.setattr(mpirun, "find_mpirun", lambda: str(fake))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "exit code 3" in out
    assert "no hosts left" in out


def test_a_job_that_hangs_is_given_up(monkeypatch) -> None:
    def run(command, **options):
        if "--version" in command:
            return SimpleNamespace(stdout="HYDRA")
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(mpirun, "find_mpirun", lambda: "mpirun")
    assert f"did not end within {doctor.PATIENCE} s" in str(doctor.small_job())


def test_a_launcher_of_another_mpi_is_named(monkeypatch, tmp_path) -> None:
    """Each process then sees a job of one, which all-reduces at the speed of thought."""
    fake = tmp_path / "mpirun"
    found = {"library": "Some MPI", "standard": "4.0", "threads": "MULTIPLE", "ranks": 1, "nodes": 1}
    found |= {"latency": 1e-9, "bandwidth": 2.7e13, "hidden": 1.0}
    fake.write_text(f"#!/bin/sh\necho '{json.dumps(found)}'\n")
    fake.chmod(0o755)
    monkeypatch.setattr("allgrad.cli.mpirun.find_mpirun", lambda: str(fake))
    said = doctor.small_job()
    assert isinstance(said, str)
    assert "each sees a job of 1" in said
    assert f"{fake} belongs to another MPI library than the one that mpi4py loads (Some MPI)" in said


def test_clean_removes_what_nobody_uses(monkeypatch, tmp_path, capsys) -> None:
    left = [tmp_path / "mpich_shm_1", tmp_path / "mpich_shm_2"]
    for path in left:
        path.write_bytes(bytes(1 << 20))
    monkeypatch.setattr(doctor, "left_behind", lambda: [path for path in left if path.exists()])
    monkeypatch.setattr(doctor.temporary, "abandoned", list)
    assert main(["doctor", "--clean"]) == 0
    assert capsys.readouterr().out == "".join(f"removed {path} (1.0 MiB)\n" for path in left)
    assert not any(path.exists() for path in left)
    assert main(["doctor", "--clean"]) == 0
    assert capsys.readouterr().out == "nothing to remove\n"


def test_open_mpi_gets_what_it_needs(monkeypatch) -> None:
    seen = {}

    def run(command, **options):
        seen["command"], seen["environment"] = command, options.get("env")
        return SimpleNamespace(stdout="mpirun (Open MPI) 5.0.11", stderr="", returncode=1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(mpirun, "find_mpirun", lambda: "mpirun")
    monkeypatch.delenv("HOME", raising=False)
    doctor.small_job()
    assert "--oversubscribe" in seen["command"]
    assert {"HOME", "OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"} <= seen["environment"].keys()


def test_no_mpirun_says_how_to_get_one(monkeypatch) -> None:
    monkeypatch.setattr(mpirun.shutil, "which", lambda *given, **options: None)
    assert "pip install allgrad[mpich]" in str(doctor.small_job())


@pytest.mark.parametrize(
    ("findings", "words"),
    [
        (Findings("X", "3.1", "SERIALIZED", 2, 1, 1e-6, 1e9, 0.0), "MPI_THREAD_SERIALIZED only"),
        (Findings("X", "3.1", "MULTIPLE", 1, 1, 1e-6, 1e9, 0.0), "one rank"),
    ],
)
def test_a_weak_mpi_is_warned_of(report, findings, words) -> None:
    doctor.message_passing(report, findings, own_job=True)
    assert words in report.warnings[0]


def test_a_good_mpi_is_not(report) -> None:
    doctor.message_passing(report, GOOD, own_job=False)
    assert report.warnings == []
    assert "no warnings" in report.text()
    assert "8 B in 2.0 us, 16 MiB at 5.00 GB/s" in report.text()


def test_both_wheels_in_one_environment_are_warned_of(report, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "1.0")
    doctor.software(report)
    assert "overwrite each other's mpirun" in report.warnings[0]


def test_a_container_that_grants_less_than_its_cores_is_warned_of(report, monkeypatch) -> None:
    monkeypatch.setattr(cores, "quota", lambda: 0.5)
    doctor.machine(report)
    assert any("grants 0.5 CPUs' time" in text and "at most 1 ranks" in text for text in report.warnings)


def test_little_shared_memory_is_warned_of(report, monkeypatch) -> None:
    if not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20, total=64 << 20))
    doctor.machine(report)
    assert any("--shm-size" in text for text in report.warnings)


def test_a_held_down_kernel_is_warned_of(report, monkeypatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    doctor.linear_algebra(report)
    assert any("unset OPENBLAS_CORETYPE" in text for text in report.warnings)


def test_a_broken_srun_is_named(monkeypatch, capsys) -> None:
    for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert main(["doctor"]) == 2
    assert "srun --mpi=pmi2" in capsys.readouterr().err


def test_measuring_alone_is_an_error() -> None:
    with pytest.raises(ValueError, match="needs an MPI job"):
        measure(World())


def test_every_rank_may_call_it_and_one_speaks() -> None:
    command = [mpirun_or_skip(), "-n", "2", sys.executable, "-m", "allgrad.cli.main", "doctor"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 ranks on 1 node(s)") == 1
