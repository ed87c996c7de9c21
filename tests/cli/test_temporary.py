"""What killed jobs leave in the temporary directory is found, and nothing that somebody may still use."""

from __future__ import annotations

import os
import time

import pytest

from allgrad.cli.temporary import abandoned, remove

TICKS = os.sysconf("SC_CLK_TCK")
NOW = time.time()


@pytest.fixture
def proc(tmp_path):
    """A system in which process 7 has run for an hour, a launcher of MPICH for ten minutes, and this process."""
    place = tmp_path / "proc"
    for number, name, started in (("7", "sleep", -3600), ("8", "hydra_pmi_proxy", -600), ("self", "python", 0)):
        (place / number).mkdir(parents=True)
        after = int((100_000 + started) * TICKS)
        (place / number / "stat").write_text(f"{number} ({name}) S " + "0 " * 18 + f"{after} 0")
    (place / "stat").write_text(f"cpu 1 2 3\nbtime {int(NOW) - 100_000}\n")
    return place


def test_only_what_has_no_owner_is_found(tmp_path, proc) -> None:
    place = tmp_path / "tmp"
    left, used = ["ompi.5", "allgrad-job-5-abc", "allgrad-supervised-6-x_y"], ["ompi.7", "allgrad-job-7-abc"]
    for name in [*left, *used, "ompi.vm.0", "allgrad-job-old", "something"]:
        (place / name / "inside").mkdir(parents=True)
    for name, age in (("old", 3600), ("new", 300)):
        path = place / f"hydra_hwloc_xmlfile_{name}"
        path.write_text("<topology/>")
        os.utime(path, (NOW - age, NOW - age))
    found = abandoned(place, proc)
    assert [path.name for path in found] == sorted([*left, "hydra_hwloc_xmlfile_old"])
    (place / "ompi.5" / "inside" / "file").write_bytes(bytes(100))
    assert [remove(path) for path in found] == [0, 0, len("<topology/>"), 100]
    assert abandoned(place, proc) == []
    assert len(list(place.iterdir())) == 6
    (proc / "8" / "stat").unlink()  # the launcher ends
    assert [path.name for path in abandoned(place, proc)] == ["hydra_hwloc_xmlfile_new"]
    assert abandoned(place, tmp_path / "no proc") == []


def test_what_belongs_to_others_is_left(tmp_path, proc, monkeypatch) -> None:
    (tmp_path / "ompi.5").mkdir()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert abandoned(tmp_path, proc) == []
