"""Which ranks a job waits for, from what the system shows of its processes; tests/faults/test_c01_* has real jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from allgrad.comm.join_report import missing, report

if TYPE_CHECKING:
    from pathlib import Path

LAUNCHER, MPI = 10, "7f0 r-xp 0 /venv/lib/libmpi.so.12\n"


@pytest.fixture
def process(tmp_path):
    """process(number, parent, rank=None, state="R", maps="") adds one to a /proc of its own."""

    def add(number, parent, rank=None, state="R", maps="") -> None:
        place = tmp_path / str(number)
        place.mkdir()
        (place / "stat").write_text(f"{number} (a (b) c) {state} {parent} 1 1 0")
        (place / "environ").write_bytes(b"A=1\0" + (b"" if rank is None else b"PMI_RANK=%d\0" % rank))
        (place / "maps").write_text(maps)

    add(LAUNCHER, 1)
    return add


def found(tmp_path: Path, size: int = 3, here: int = 3) -> list[str]:
    return missing(11, {"PMI_SIZE": str(size), "MPI_LOCALNRANKS": str(here)}, tmp_path)


def test_all_are_there(process, tmp_path) -> None:
    for rank in range(3):
        process(11 + rank, LAUNCHER, rank, maps=MPI)
    assert found(tmp_path) == []
    assert "All ranks of this machine have started MPI" in report([], 5.0)


def test_what_each_one_does(process, tmp_path) -> None:
    process(11, LAUNCHER, 0, maps=MPI)
    process(12, LAUNCHER, 1, "T", MPI)
    process(13, LAUNCHER, 2, "D")
    assert found(tmp_path) == [
        "rank 1 (process 12) is stopped",
        "rank 2 (process 13) has not started MPI yet; it waits for a disk or a network file system",
    ]


def test_one_that_has_ended(process, tmp_path) -> None:
    process(11, LAUNCHER, 0, maps=MPI)
    process(13, LAUNCHER, 2, maps=MPI)
    assert found(tmp_path) == ["rank 1 has no process any more"]
    assert found(tmp_path, size=6) == ["1 of the 3 ranks of this machine have no process any more"]


def test_shells_around_ranks_and_children_of_ranks(process, tmp_path) -> None:
    for rank in range(3):
        process(21 + rank, LAUNCHER, rank, "S")  # the shell
        process(11 + rank, 21 + rank, rank, maps=MPI)
        process(31 + rank, 11 + rank, rank, "S")  # something that the rank has started
    assert found(tmp_path) == []


def test_ranks_of_another_job_do_not_count(process, tmp_path) -> None:
    process(40, 1)
    for rank in range(3):
        process(11 + rank, LAUNCHER, rank, maps=MPI)
        process(41 + rank, 40, rank, "T")
    assert found(tmp_path) == []
