"""What a run's bits depend on beside its configuration: compared between the ranks at the start, and recorded."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import allgrad
from allgrad import kernels
from allgrad.train.config import dump_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence

    from allgrad.train.config.schema import RunConfig

__all__ = ["MILD", "run_facts"]

MILD = ("CPU", "BLAS kernel")
"""Differences that a mixed cluster has, said aloud instead of ending the run: bits are then those of this set of machines."""


def run_facts(config: RunConfig, plugins: Sequence[str | Path] = ()) -> dict[str, str]:
    """Name -> value; equal on all ranks of a sound job."""
    blas = kernels.describe_blas()
    return {
        "configuration": _digest(dump_yaml(config).encode()),
        "allgrad's code": _code(Path(allgrad.__file__).parent),
        "plugins": " ".join(_digest(Path(p).read_bytes()) for p in plugins),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "mpi4py": version("mpi4py"),
        "kernels": kernels.active().name,
        "BLAS": f"{blas['library']} {blas['version']}",
        "BLAS threads": str(blas["threads"]),
        "BLAS kernel": str(blas["architecture"]),
        "CPU": _cpu(),
    }


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _code(package: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        total.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()[:12]


def _cpu() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
