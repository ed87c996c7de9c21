"""Compiling with numba: one signature a function, lazily, with a cache on disk that many ranks may share.

Why not `@njit(cache=True)`: numba keeps one index file a function and numbers its entries. Two processes that compile
*different* entries at once (float32 and float64, or two kinds of CPU on one shared home) both take the next number, and
the index can end up naming one and holding the other. Here that cannot happen:

- each (function, dtype) is compiled as a function of its own, for exactly one signature, so its index has one entry;
- the folder's name is a hash of the CPU, the versions and these sources, so that whoever writes a file writes the same one;
- numba writes each file beside its place and renames it, which is atomic.

A folder that cannot be written (a cache baked into a container image, a read-only home) is copied to a temporary one first.
Nothing compiles before it is called.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import shutil
import tempfile
import threading
import types as python_types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite  # type: ignore[import-untyped]
import llvmlite.binding  # type: ignore[import-untyped]
import numba
import numpy as np
from numba import types
from numba.core.ccallback import CFunc  # type: ignore[import-untyped]
from numba.extending import register_jitable

from allgrad.kernels.compile_cache import compiling

CACHE_VARIABLE = "ALLGRAD_CACHE"
_lock = threading.RLock()
_folder: Path | None = None


class PerDtype(dict[np.dtype[Any], Callable[..., Any]]):
    """A loop over arrays, compiled for a dtype at its first use: a table by dtype, which costs no Python call once it is filled.

    numba's look-up of argument types, which takes as long as a small loop, is left out: an array of another dtype or layout than
    the signature says gives nonsense, so the methods of `Kernels` prepare their arrays.

    Args:
        function: plain Python in numba's subset.
        signature: one letter an argument. Of the dtype: `r` read-only array, `w` written array, both followed by the
            number of dimensions; `s` a scalar. Besides: `d` a float64, `k` a read-only int64 vector, `m` a read-only bool
            matrix, `i` read-only and `o` written bytes with the number of dimensions, `u` read-only and `v` written uint16
            likewise, `n` an int64, `b` a bool.
            For example `"w1 r1 s"`. Arrays are C-contiguous, except in capitals (`R2`, `W2`): those have any strides.
        references: whether the function makes arrays or assigns one to another; see `compiled`.
        variant: a name and global constants for a dtype, where one function is compiled in several ways.

    Example:
        >>> import numpy as np
        >>> from allgrad.kernels.jit import PerDtype
        >>> def double(x, out):
        ...     for i in range(x.size):
        ...         out[i] = 2 * x[i]
        >>> x = np.arange(3.0)
        >>> PerDtype(double, "r1 w1", cache=False)[x.dtype](x, x)
        >>> x.tolist()
        [0.0, 2.0, 4.0]
    """

    def __init__(
        self,
        function: Callable[..., Any],
        signature: str,
        *,
        cache: bool = True,
        references: bool = False,
        variant: Callable[[np.dtype[Any]], tuple[str, dict[str, Any]]] | None = None,
    ) -> None:
        self.function, self._signature, self._variant = function, signature, variant
        self._options = {"cache": cache, "references": references}

    def __missing__(self, dtype: np.dtype[Any]) -> Callable[..., Any]:
        with _lock:
            if dtype not in self:
                name, constants = self._variant(dtype) if self._variant else ("", {})
                function = specialised(self.function, dtype.name + name, constants)
                self[dtype] = _entry_point(function, signature(self._signature, dtype), **self._options)
            return self[dtype]


def per_dtype(letters: str, **options: Any) -> Callable[[Callable[..., Any]], PerDtype]:
    """A decorator that makes a loop a `PerDtype` with these options."""
    return lambda function: PerDtype(function, letters, **options)


def entry_point(
    function: Callable[..., Any], signature: tuple[Any, ...], *, cache: bool = True, references: bool = False
) -> Callable[..., Any]:
    """A function compiled for one signature, without numba's look-up of argument types: what does not fit may crash."""
    return _entry_point(specialised(function, "direct", {}), signature, cache=cache, references=references)


def _entry_point(
    function: Callable[..., Any], signature: tuple[Any, ...], *, cache: bool, references: bool
) -> Callable[..., Any]:
    dispatcher = compiled(function, references=references)
    if cache:
        _enable_cache(dispatcher)
        with compiling(cache_folder(), f"{function.__module__}.{function.__qualname__}"):
            dispatcher.compile(signature)
    else:
        dispatcher.compile(signature)
    [found] = dispatcher.overloads.values()
    entry: Callable[..., Any] = found.entry_point
    return entry


class CompiledAddress(dict[np.dtype[Any], int]):
    """A function of 64-bit integers without a result, compiled for each dtype at its first use; gives its address.

    Compiled code calls it there (`matmul.llvm.call`), so that it is not compiled again as a part of each caller.

    Args:
        function, cache, variant: see `PerDtype`.
        arguments: how many.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        arguments: int,
        *,
        cache: bool = True,
        variant: Callable[[np.dtype[Any]], tuple[str, dict[str, Any]]],
    ) -> None:
        self._function, self._arguments, self._cache, self._variant = function, arguments, cache, variant
        self._alive: list[Any] = []

    def __missing__(self, dtype: np.dtype[Any]) -> int:
        with _lock:
            if dtype not in self:
                name, constants = self._variant(dtype)
                function = specialised(self._function, dtype.name + name, constants)
                signature = types.void(*[types.int64] * self._arguments)
                found = CFunc(function, (signature.args, signature.return_type), {}, dict(_OPTIONS))
                if self._cache:
                    _enable_cache(found)
                    with compiling(cache_folder(), f"{function.__module__}.{function.__qualname__}"):
                        found.compile()
                else:
                    found.compile()
                assert found.address is not None
                self._alive.append(found)
                self[dtype] = found.address
            return self[dtype]


_OPTIONS = {"error_model": "numpy", "nogil": True, "nopython": True}


def compiled(function: Callable[..., Any], *, references: bool = False) -> Any:
    """numba's compiler with our settings.

    "numpy" errors: x / 0 is inf, not an exception, whose check would keep LLVM from vectorising any division. No GIL: the
    communication thread and other threads of products run meanwhile. Nothing in C calls these functions, so no wrapper is made
    for that, which took a tenth of the compile time. A kernel makes no array (scratch is an argument) and assigns none to
    another, so references need not be counted, which took another tenth; with `references` they are.
    """
    njit: Any = numba.njit  # its types leave out the last options
    return njit(error_model="numpy", nogil=True, no_cfunc_wrapper=True, _nrt=references)(function)


def callee(function: Callable[..., Any]) -> Any:
    """A function in numba's subset that other compiled code calls: `register_jitable` without a wrapper for callers in C."""
    return register_jitable(no_cfunc_wrapper=True, _nrt=False)(function)


def cache_folder() -> Path:
    """Where this process keeps compiled kernels (created if need be)."""
    global _folder
    with _lock:
        if _folder is None:
            shared = _cache_root() / f"numba-{_fingerprint()}"
            _folder = shared if _writable(shared) else _private_copy(shared)
        return _folder


def _cache_root() -> Path:
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "allgrad"


def _fingerprint() -> str:
    """Everything that decides the machine code: versions, CPU, numba's settings for it, and the sources."""
    parts = [
        numba.__version__,
        llvmlite.__version__,
        platform.python_version(),
        llvmlite.binding.get_host_cpu_name(),
        llvmlite.binding.get_host_cpu_features().flatten(),
        *(str(getattr(numba.config, setting, None)) for setting in ("CPU_NAME", "CPU_FEATURES", "OPT", "BOUNDSCHECK")),
    ]
    digest = hashlib.sha256("\n".join(parts).encode())
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _private_copy(shared: Path) -> Path:
    private = Path(tempfile.mkdtemp(prefix="allgrad-kernels-"))
    atexit.register(shutil.rmtree, private, ignore_errors=True)
    if shared.is_dir():
        shutil.copytree(shared, private, dirs_exist_ok=True)
    return private


def _enable_cache(dispatcher: Any) -> None:
    # numba reads its folder from its configuration at this moment and never again for this function.
    config: Any = numba.config
    with _lock:
        before, config.CACHE_DIR = config.CACHE_DIR, str(cache_folder())
        try:
            dispatcher.enable_caching()
        finally:
            config.CACHE_DIR = before


def specialised(function: Callable[..., Any], suffix: str, constants: dict[str, Any]) -> Callable[..., Any]:
    """The same function with some global constants replaced, under a name of its own, hence with cache files of its own.

    `suffix` must tell apart all that `constants` tells apart: LLVM links by name and argument types, and the number that
    numba adds to a name starts again in every process, so machine code from the cache can meet a namesake.
    """
    assert isinstance(function, python_types.FunctionType)
    copy = python_types.FunctionType(
        function.__code__,
        {**function.__globals__, **constants} if constants else function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__module__ = function.__module__
    copy.__qualname__ = f"{function.__qualname__}_{suffix}"
    return copy


def signature(letters: str, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    element = numba.from_dtype(dtype)
    return tuple(_type(word, element) for word in letters.split())


def _type(word: str, element: Any) -> Any:
    match word[0]:
        case "r":
            return types.Array(element, int(word[1]), "C", readonly=True)
        case "w":
            return types.Array(element, int(word[1]), "C")
        case "R":
            return types.Array(element, int(word[1]), "A", readonly=True)
        case "W":
            return types.Array(element, int(word[1]), "A")
        case "s":
            return element
        case "d":
            return types.float64
        case "k":
            return types.Array(types.int64, int(word[1:] or 1), "C", readonly=True)
        case "m":
            return types.Array(types.boolean, 2, "C", readonly=True)
        case "i":
            return types.Array(types.uint8, int(word[1]), "C", readonly=True)
        case "o":
            return types.Array(types.uint8, int(word[1]), "C")
        case "u":
            return types.Array(types.uint16, int(word[1]), "C", readonly=True)
        case "v":
            return types.Array(types.uint16, int(word[1]), "C")
        case "n":
            return types.int64
        case "b":
            return types.boolean
    raise ValueError(f"PerDtype: unknown letter in signature: {word!r}")
