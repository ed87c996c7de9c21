"""Set-up of BLAS, of the compiled products' threads, and of the memory allocator at the start of a run, and a record of them.

Nothing happens on import. The command calls `set_up` before it does anything else; a library user may.

Why threads are set: results depend on the number of BLAS threads (another cut of a product, other roundings), and ranks
that share a node must not each start a thread a core. Why the allocator is set: glibc hands large temporaries back to
the kernel at every free, and pays page faults to get them again; keeping them took an MLP's step from 4.4 to 2.6 ms.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

from allgrad.kernels import threads as compiled

THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)
# How builds decorate OpenBLAS's names: NumPy's wheels, plain builds, 64-bit integer builds.
_DECORATIONS = (("scipy_", "64_"), ("scipy_", ""), ("", "64_"), ("", ""))
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP = 1 << 30


class Description(TypedDict):
    """What a run records of its BLAS; `None` where the library does not tell."""

    library: str
    version: str | None
    architecture: str | None
    threads: int | None


def set_up(threads: int = 1, *, keep_memory: bool = True) -> Description:
    """Fix the number of threads of matrix products, BLAS's and the numba kernels', and let the allocator keep freed memory.

    Works before and after NumPy was imported: the environment variables hold for libraries that are still to be loaded
    and for child processes, a call into NumPy's OpenBLAS for the one that is loaded.

    Args:
        threads: threads of this process's matrix products, 1 or more.
        keep_memory: raise glibc's mmap and trim thresholds to 1 GiB (no effect on other C libraries).

    Returns:
        `describe()`, whose `threads` tells whether it worked.

    Raises:
        ValueError: if `threads` is below 1.
    """
    if threads < 1:
        raise ValueError(f"set_up: threads must be 1 or more. Got {threads} instead.")
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    compiled.use(threads)
    library = _openblas()
    if library is not None:
        setter = _function(library, "openblas_set_num_threads")
        if setter is not None:
            setter(ctypes.c_int(threads))
    if keep_memory:
        keep_freed_memory()
    return describe()


def keep_freed_memory() -> bool:
    """Let malloc serve blocks up to 1 GiB from memory that it keeps. True if this C library (glibc) can."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    # mallopt returns 1 for success; musl has no mallopt, so both calls are glibc's.
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEEP))


def describe() -> Description:
    """Name, version, kernel (architecture) and thread count of the BLAS that NumPy uses.

    Example:
        >>> from allgrad.kernels import blas
        >>> sorted(blas.describe())
        ['architecture', 'library', 'threads', 'version']
    """
    import numpy as np

    config: Any = np.show_config(mode="dicts")
    built = config.get("Build Dependencies", {}).get("blas", {})
    found = Description(
        library=str(built.get("name", "unknown")), version=built.get("version"), architecture=None, threads=None
    )
    library = _openblas()
    if library is None:
        return found
    core, threads, configured = (
        _function(library, name)
        for name in ("openblas_get_corename", "openblas_get_num_threads", "openblas_get_config")
    )
    if core is not None:
        core.restype = ctypes.c_char_p
        found["architecture"] = core().decode()
    if threads is not None:
        found["threads"] = int(threads())
    if configured is not None:
        configured.restype = ctypes.c_char_p
        words = configured().decode().split()
        found["library"], found["version"] = words[0], words[1] if len(words) > 1 else found["version"]
    return found


def _openblas() -> ctypes.CDLL | None:
    """The OpenBLAS that NumPy has loaded; None if it has another BLAS."""
    import numpy as np

    package = Path(np.__file__).parent
    for folder in (package.parent / "numpy.libs", package / ".dylibs"):
        for file in sorted(folder.glob("*openblas*")) if folder.is_dir() else ():
            return ctypes.CDLL(str(file))  # already mapped: this gives its handle, it does not load a second copy
    for line in _mapped():
        if "openblas" in line.rpartition("/")[2]:
            return ctypes.CDLL(line)
    return None


def _mapped() -> list[str]:
    """Files mapped into this process, where the system tells."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        return []
    columns = (line.split(maxsplit=5) for line in maps.read_text().splitlines())
    return sorted({c[5] for c in columns if len(c) == 6 and c[5].startswith("/")})


def _function(library: ctypes.CDLL, name: str) -> Any:
    for before, after in _DECORATIONS:
        found = getattr(library, before + name + after, None)
        if found is not None:
            return found
    return None
