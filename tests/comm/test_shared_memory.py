"""MPI's shared memory: too little is a message before the start, and a job leaves nothing, even when it is killed."""

from __future__ import annotations

import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest

from allgrad.comm import shared_memory
from allgrad.comm.launcher import LaunchError


def test_too_little_room_is_a_message(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda path: SimpleNamespace(free=16 << 20))
    shared_memory.check_limits({}, tmp_path)  # one rank exchanges nothing
    with pytest.raises(
        LaunchError, match=r"Only 16\.0 MiB are free in .*, through which the 4 ranks .* needs about 36 MiB"
    ):
        shared_memory.check_limits({"MPI_LOCALNRANKS": "4"}, tmp_path)


def test_too_few_open_files_is_a_message(monkeypatch) -> None:
    monkeypatch.setattr(shared_memory.resource, "getrlimit", lambda kind: (64, 64))
    with pytest.raises(LaunchError, match="only 64 open files here; a rank needs 128"):
        shared_memory.check_limits({})


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (70, {hard}))\n"
        "from allgrad.comm.shared_memory import check_limits; check_limits({})\n"
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    if hard < 128:
        pytest.skip("this system allows fewer open files than a rank needs")
    assert int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == soft


def test_only_mapped_segments_are_unlinked(tmp_path) -> None:
    for name in ("mpich_shm_ours", "mpich_shm_others", "something"):
        (tmp_path / name).touch()
    maps = tmp_path / "maps"
    maps.write_text(
        f"7f00-7f01 rw-s 0 00:1 5 {tmp_path}/mpich_shm_ours\n7f02-7f03 r--p 0 00:1 6 {tmp_path}/something\n"
    )
    assert shared_memory.unlink_segments(tmp_path, maps) == ["mpich_shm_ours"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "mpich_shm_others", "something"]
    assert shared_memory.unlink_segments(tmp_path, tmp_path / "nowhere") == []


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_what_nobody_uses_is_removed_at_the_next_start(tmp_path) -> None:
    dead = ["mpich_shm_dead", "sm_segment.host.0.1f.0", "vader_segment.host.0.1f.1"]
    for name in (*dead, "mpich_shm_mapped", "something"):
        (tmp_path / name).write_bytes(bytes(4096))
    code = (
        "import mmap, os, sys\n"
        "file = os.open(sys.argv[1], os.O_RDWR); memory = mmap.mmap(file, 4096); os.close(file)\n"
        "print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "mpich_shm_mapped")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    other.stdout.readline()
    assert [path.name for path in shared_memory.remove_left_behind(tmp_path)] == dead
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mpich_shm_mapped", "something"]
    other.kill()
    other.communicate()
    assert [path.name for path in shared_memory.left_behind(tmp_path)] == ["mpich_shm_mapped"]
