"""Counting the cores that ranks can really use."""

import math

from allgrad.comm import cores


def test_hyper_threads_are_one_core(tmp_path):
    for cpu, siblings in enumerate(["0,4", "1,5", "2,6", "3,7"] * 2):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert cores.physical_cores(range(8), tmp_path) == 4
    assert cores.physical_cores([0, 4], tmp_path) == 1
    assert cores.physical_cores([20, 21], tmp_path) == 2


def test_the_tightest_cgroup_counts(tmp_path):
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a/b\n")
    root = tmp_path / "fs"
    (root / "a" / "b").mkdir(parents=True)
    assert cores.quota(root, membership) == math.inf
    (root / "a" / "b" / "cpu.max").write_text("max 100000\n")
    assert cores.quota(root, membership) == math.inf
    (root / "a" / "cpu.max").write_text("150000 100000\n")
    assert cores.quota(root, membership) == 1.5
    (root / "cpu").mkdir()
    (root / "cpu" / "cpu.cfs_quota_us").write_text("50000")
    (root / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cores.quota(root, membership) == 0.5


def test_shortage():
    assert cores.shortage("n1", 4, 2, 8) is None
    assert "Start at most 2 ranks per node" in cores.shortage("n1", 4, 2, 5.5)
    assert cores.affinity()
