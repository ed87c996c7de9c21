"""How many cores a node's ranks can really use: affinity, cgroup quota, physical cores rather than hyper-threads."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


def affinity() -> list[int]:
    """The logical CPUs on which this process may run."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def physical_cores(cpus: Collection[int], sysfs: Path = Path("/sys/devices/system/cpu")) -> int:
    """The number of physical cores of some logical CPUs; if the system does not say, each counts as one."""
    cores = set()
    for cpu in cpus:
        siblings = sysfs / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        cores.add(siblings.read_text().strip() if siblings.is_file() else str(cpu))
    return len(cores)


def quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float:
    """The CPUs that cgroups grant this process (version 2: the tightest of its group and its parents; or version 1).

    Infinity if nothing limits it.
    """
    group = ""
    if membership.is_file():
        group = next((line[3:] for line in membership.read_text().splitlines() if line.startswith("0::")), "")
    limits = [math.inf]
    directory = root / group.strip("/")
    for candidate in (directory, *directory.parents):
        if candidate != root and root not in candidate.parents:
            break
        file = candidate / "cpu.max"
        if file.is_file():
            granted, period = file.read_text().split()
            if granted != "max":
                limits.append(int(granted) / int(period))
    old = root / "cpu" / "cpu.cfs_quota_us"
    if old.is_file() and int(old.read_text()) > 0:
        limits.append(int(old.read_text()) / int((root / "cpu" / "cpu.cfs_period_us").read_text()))
    return min(limits)


def shortage(node: str, ranks: int, threads: int, cores: float) -> str | None:
    """The warning for a node with fewer cores than its ranks have BLAS threads, or None.

    >>> shortage("n1", 2, 1, 2) is None
    True
    >>> shortage("n1", 4, 2, 6)[:59]
    'Node n1 runs 4 ranks of 2 BLAS threads, 8 in all, on 6 phys'
    """
    if ranks * threads <= cores:
        return None
    plural = "s" if threads > 1 else ""
    return (
        f"Node {node} runs {ranks} ranks of {threads} BLAS thread{plural}, {ranks * threads} in all, on {cores:g} "
        "physical cores (as affinity and cgroup allow), so they must take turns. "
        f"Start at most {max(1, int(cores // threads))} ranks per node, or bind the ranks to more cores."
    )
