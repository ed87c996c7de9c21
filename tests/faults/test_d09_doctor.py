"""`allgrad doctor`: ranks bound to a core each counted as two on one core, and Debian's MPICH had no way out named."""

from __future__ import annotations

import subprocess
import warnings
from types import SimpleNamespace

from allgrad.cli import doctor, mpirun
from allgrad.comm import world


def test_bound_ranks_have_all_their_cores(monkeypatch) -> None:
    bound = [[0, [0], float("inf")], [0, [1], float("inf")]]
    monkeypatch.setattr(world.cores, "physical_cores", len)
    here = SimpleNamespace(
        node=0, host="here", local_size=2, local_rank=0, is_mpi=True, all_gather_json=lambda mine: bound
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world._count_cores(here, 1)
    assert not here.oversubscribed


def test_a_library_of_another_name_has_its_way_out(monkeypatch) -> None:
    said = "ImportError: libmpi.so.12: cannot open shared object file: No such file or directory"
    failed = SimpleNamespace(stdout="", stderr=said, returncode=1)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    monkeypatch.setattr(mpirun, "find_mpirun", lambda: "mpirun")
    monkeypatch.setattr(mpirun, "_is_open_mpi", lambda _: False)
    assert "Debian and Ubuntu call it libmpich.so.12" in str(doctor.small_job())
