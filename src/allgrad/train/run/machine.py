"""The machine that a process runs on: its name, its cores, its memory, and how much of that this process uses."""

from __future__ import annotations

import os
import platform
import resource
from pathlib import Path
from typing import Any

__all__ = ["describe_machine", "peak_bytes", "resident_bytes"]

_PAGE = os.sysconf("SC_PAGE_SIZE")


def describe_machine() -> dict[str, Any]:
    """Host, system, the cores that this process may use, and the memory of the machine in bytes.

    >>> sorted(describe_machine())
    ['cores', 'host', 'memory_bytes', 'system']
    """
    return {
        "host": platform.node(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * _PAGE,
    }


def resident_bytes() -> int:
    """How much memory this process has now, in bytes; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return 0


def peak_bytes() -> int:
    """The most memory that this process ever had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
