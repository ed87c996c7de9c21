"""A replacement for a dead rank: rank 0 starts it, and the two talk until it joins (`survival.py` says how) or is dismissed."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from .ulfm import returning

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Pair"]

_LOOK = 0.005  # seconds between two looks for a message
_READY, _ANSWER = 1, 2  # tags between rank 0 and a replacement
_WORDS = 1 << 20  # bytes of a message to a replacement


class Pair:
    """Rank 0 and a replacement that prepares itself: the communicator of the two.

    Made by `start` on rank 0, and by `with_rank_0` in the replacement.
    """

    def __init__(self) -> None:
        self.comm: Any = None
        self.error = ""
        self._thread: threading.Thread | None = None

    @classmethod
    def start(cls, words: Sequence[str], hello: dict[str, Any]) -> Pair:
        """Start a replacement, without waiting for it.

        Args:
            words: the arguments of its Python.
            hello: what it is told first; JSON.
        """
        from mpi4py import MPI

        pair = cls()

        def spawn() -> None:
            try:
                inter = MPI.COMM_SELF.Spawn(sys.executable, list(words), 1)
                pair.comm = returning(returning(inter).Merge(high=False))
                pair.send(hello)
            except Exception as error:  # no slot, no node: the job goes on without it
                pair.error = " ".join(str(error).split()) or type(error).__name__

        pair._thread = threading.Thread(target=spawn, name="allgrad-spawn", daemon=True)
        pair._thread.start()
        return pair

    @classmethod
    def with_rank_0(cls) -> Pair:
        """In a replacement: the pair with the rank that started it."""
        from mpi4py import MPI

        pair = cls()
        pair.comm = returning(returning(MPI.Comm.Get_parent()).Merge(high=True))
        return pair

    @property
    def other(self) -> int:
        """The other one's rank in the communicator."""
        return 1 - int(self.comm.Get_rank())

    @property
    def started(self) -> bool:
        """Whether starting it is over, well or not."""
        return self._thread is None or not self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """On rank 0: whether the replacement can join now."""
        return self.started and not self.error and self._arrived(_READY)

    @property
    def lost(self) -> bool:
        """On rank 0: whether there will be no replacement."""
        if not self.started:
            return False
        if not self.error and self.comm.Get_failed().Get_size():
            self.error = "it has died"
        return bool(self.error)

    def _arrived(self, tag: int) -> bool:
        from mpi4py import MPI

        try:
            return bool(self.comm.Iprobe(self.other, tag))
        except MPI.Exception:
            self.error = "it has died"
            return False

    def send(self, message: dict[str, Any]) -> None:
        """Tell the other one something; JSON."""
        text = np.frombuffer(json.dumps(message).encode(), np.uint8)
        self.comm.Send(text, self.other, _ANSWER)

    def receive(self) -> dict[str, Any] | None:
        """In the replacement: what rank 0 says next; None if it has died."""
        while not self._arrived(_ANSWER):
            if self.error:
                return None
            time.sleep(_LOOK)
        buffer = np.zeros(_WORDS, np.uint8)
        self.comm.Recv(buffer, self.other, _ANSWER)
        message: dict[str, Any] = json.loads(buffer.tobytes().rstrip(b"\0"))
        return message

    def invite(self) -> None:
        """On rank 0: the replacement shall join now, with all ranks."""
        self.send({"join": True})

    def invited(self) -> bool:
        """In the replacement: wait until rank 0 says something; whether that is to join."""
        return "join" in (self.receive() or {})

    def say_ready(self) -> None:
        """In the replacement: it can join now."""
        self.comm.Send(np.ones(1, np.uint8), self.other, _READY)

    def dismiss(self) -> None:
        """On rank 0: the replacement is no longer needed. Returns when it has heard that."""
        if self._thread is not None:
            self._thread.join()
        if not self.lost:
            self.send({"over": True})
