"""What a run's results depend on besides its configuration: compared between the ranks at the start, and recorded."""

from __future__ import annotations

import hashlib
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import allgrad
from allgrad import kernels
from allgrad.train.atomic import write_json_atomic
from allgrad.train.config import dump_yaml
from allgrad.train.config.plugins import plugin_digests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from allgrad.train.config.schema import RunConfig

__all__ = ["environment", "hardware", "write_provenance"]


def environment(config: RunConfig, plugins: Sequence[str | Path] = ()) -> dict[str, str]:
    """Name -> value of everything that must be equal on all ranks of a sound job."""
    blas = kernels.describe_blas()
    return {
        # Only rank 0 uses the run's directory, and ranks may be in different working directories.
        "configuration": _digest(dump_yaml(config.model_copy(update={"run": type(config.run)()})).encode()),
        "allgrad's code": _code(Path(allgrad.__file__).parent),
        "plugins": " ".join(plugin_digests(plugins).values()),
        "Python": platform.python_version(),
        "NumPy": np.__version__,
        "mpi4py": version("mpi4py"),
        "kernels": kernels.active().name,
        "BLAS": f"{blas['library']} {blas['version']}",
        "BLAS threads": str(blas["threads"]),
    }


def hardware() -> dict[str, str]:
    """Name -> value of what may differ in a mixed cluster. The bits of a portable run do not depend on it (portability.py)."""
    return {"BLAS kernel": str(kernels.describe_blas()["architecture"]), "CPU": _cpu()}


def write_provenance(path: Path, values: Mapping[str, str], plugins: Sequence[str | Path], **more: Any) -> None:
    """Write `provenance.json`: the environment, the plugins with their digests, and `more`.

    Raises:
        OSError: it cannot be written.
    """
    write_json_atomic(path, {"environment": dict(values), "plugins": plugin_digests(plugins), **more})


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


def _code(package: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def _cpu() -> str:
    """The processor's name, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
