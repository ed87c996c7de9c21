"""Printing the stacks of a process that does not answer, by a signal from another process on its node.

`faulthandler` handles the signal in C, so that the stacks are printed even if the process is in C code that holds the GIL.
Nothing is printed unless another rank asks for it, and the program's own `faulthandler` timer is left alone.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .topology import Topology

_SIGNAL = signal.SIGRTMIN + 11 if hasattr(signal, "SIGRTMIN") else None


class StackDumps:
    """Which ranks can print each other's stacks. All ranks make it together."""

    def __init__(self, topology: Topology, comm: Any) -> None:
        self._registered = False
        namespace = 0  # processes of two containers on one node cannot send each other signals
        if _SIGNAL is not None and sys.__stderr__ is not None and signal.getsignal(_SIGNAL) is signal.SIG_DFL:
            faulthandler.register(_SIGNAL, file=sys.__stderr__, all_threads=True)
            self._registered = True
            with suppress(OSError):
                namespace = os.stat("/proc/self/ns/pid").st_ino
        self._rank = topology.rank
        self._places = np.empty((topology.size, 3), np.int64)
        comm.Allgather(np.array([topology.node, namespace, os.getpid()], np.int64), self._places)

    def neighbour(self, rank: int, alive: Sequence[int]) -> int | None:
        """The first of the ranks in `alive` that can have the stacks of `rank` printed."""
        place = self._places[:, :2]
        return next((other for other in alive if place[rank, 1] and (place[other] == place[rank]).all()), None)

    def dump(self, rank: int) -> None:
        """Have a rank of this node print its stacks on its own stderr."""
        if _SIGNAL is not None and self.neighbour(rank, [self._rank]) is not None:
            with suppress(OSError):
                os.kill(int(self._places[rank, 2]), _SIGNAL)

    def close(self) -> None:
        """Give the signal back."""
        if self._registered and _SIGNAL is not None:
            faulthandler.unregister(_SIGNAL)
