"""What threads in compiled code wait with: atomic words at addresses, a pause in a loop, and sleep until a word changes.

All operations on a word are in one order that every thread sees (sequentially consistent), and whoever sees a value also sees
what the thread that wrote it had stored before.

Linux: `sleep_while` sleeps in the kernel (a futex on the lower half of the word) until `wake`. Elsewhere it sleeps for some
hundred microseconds and returns, so that the caller looks again: `wake` is not needed there.
"""

# ruff: noqa: ARG001  # an intrinsic's parameters are its signature; their code comes as `values`

from __future__ import annotations

import platform
import sys
import time
from typing import Any

from llvmlite import ir
from numba import types

from allgrad.kernels.jit import callee
from allgrad.kernels.matmul.llvm import INDEX, inlined

FUTEX = {"x86_64": 202, "aarch64": 98}.get(platform.machine(), 0) if sys.platform.startswith("linux") else 0
"""The number of the futex system call on Linux, or 0 on other systems, which have none."""
_WAIT, _WAKE = 128, 129  # of threads of this process
_NAP = 300
_MONOTONIC = time.CLOCK_MONOTONIC
_PAUSES = 16
_PAUSE = {
    "x86_64": ("llvm.x86.sse2.pause", []),
    "aarch64": ("llvm.aarch64.hint", [1]),
    "arm64": ("llvm.aarch64.hint", [1]),
}
"""LLVM's names of the instruction, and its argument."""

_system_call: Any = types.ExternalFunction("syscall", types.int64(*[types.int64] * 7))
_read_clock: Any = types.ExternalFunction("clock_gettime", types.int32(types.int32, types.int64))
_nap: Any = types.ExternalFunction("usleep", types.int32(types.uint32))
give_up_core: Any = types.ExternalFunction("sched_yield", types.int32())


def _pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, INDEX.as_pointer())


@inlined
def load(typing_context: Any, address: Any) -> Any:
    """The word at an address."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.load_atomic(_pointer(builder, values[0]), "seq_cst", 8)

    return types.int64(types.int64), code


@inlined
def store(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a word."""

    def code(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        builder.store_atomic(values[1], _pointer(builder, values[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), code


@inlined
def add(typing_context: Any, address: Any, value: Any) -> Any:
    """Add to a word; what it was before."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        return builder.atomic_rmw("add", _pointer(builder, values[0]), values[1], "seq_cst")

    return types.int64(types.int64, types.int64), code


@inlined
def replace(typing_context: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write a word if it has the expected value; whether it had."""

    def code(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
        pair = builder.cmpxchg(_pointer(builder, values[0]), values[1], values[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), code


@inlined
def _pause_once(typing_context: Any) -> Any:
    """Tell the core that this is a loop that waits."""

    def code(context: Any, builder: Any, _signature: Any, _values: Any) -> Any:
        if platform.machine() in _PAUSE:
            name, given = _PAUSE[platform.machine()]
            word = ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [word] * len(given))
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            builder.call(function, [word(n) for n in given])
        return context.get_dummy_value()

    return types.void(), code


@callee
def pause() -> None:
    """Some hundred nanoseconds, at most (on Arm, tens)."""
    for _ in range(_PAUSES):
        _pause_once()


@callee
def nanoseconds(room: Any) -> Any:
    """A clock. `room` is the address of 16 bytes that nobody else uses."""
    _read_clock(_MONOTONIC, room)
    return load(room) * 1_000_000_000 + load(room + 8)


@callee
def sleep_while(address: Any, seen: Any, futex: Any) -> None:
    """Sleep until `wake`, unless the lower half of the word is no longer what was seen; may return at any time."""
    if futex:
        _system_call(futex, address, _WAIT, seen, 0, 0, 0)
    else:
        _nap(_NAP)


@callee
def wake(address: Any, threads: Any, futex: Any) -> None:
    """Wake at most that many threads that sleep at the address."""
    if futex:
        _system_call(futex, address, _WAKE, threads, 0, 0, 0)
