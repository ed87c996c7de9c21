"""Stall monitor: which ranks are missing if a collective does not finish, and which line their main threads have reached.

Every rank's engine calls `tick` while it polls. On a communicator of its own, each rank sends rank 0 a heartbeat: how many
collectives it has posted, and the line that its main thread has reached. If nothing moves on some rank for `limit`
seconds although a collective is unfinished, that rank tells rank 0. Rank 0 asks all ranks for their state, waits a moment for
the answers, and reports. A rank that has not posted the collective is missing, and the report shows its stack. A rank that
does not answer is stopped, or runs C code that holds the GIL: the report shows its last heartbeat, and another rank of its
node sends it a signal on which `faulthandler` prints its stacks. If rank 0 itself is silent, the others report that after
twice the time.

What is not a stall:

- Time in which this process did not run. The monitor counts time in small steps, poll by poll, so a job that was
  suspended or starved as a whole simply continues.
- A collective that has finished by the time the ranks answer.
- Time in which a rank has announced a long task (`World.long_task`), such as rank 0 writing a checkpoint.

Ranks end with their launcher: one whose parent process dies would train on unseen, and hold the run's lock.

Ranks end together. A rank whose program is over says so and waits for the others. If another rank still needs it for a
collective that it never posted, or if a rank falls silent now, the job ends with a message instead of waiting for ever.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from . import failure
from .agreement import format_ranks
from .stall_report import MESSAGE_BYTES, describe, encode

if TYPE_CHECKING:
    from .stack_dumps import StackDumps
    from .topology import Topology

_log = logging.getLogger(__name__)

STALL_SECONDS = 300.0
"""The default limit."""

_STACK = 8  # frames of a stack that are shown
_HERE = os.path.dirname(__file__) + os.sep


class Collective(Protocol):
    """An unfinished collective."""

    number: int

    def describe(self) -> str: ...


class Progress(Protocol):
    """What the monitor looks at: counts that grow while collectives are posted, moved and finished."""

    posted: int
    finished: int
    moves: int

    def unfinished(self) -> Collective | None: ...


class StallMonitor:
    """One rank's monitor. Everything but `leave` belongs to the thread that owns MPI.

    Args:
        progress: what is watched.
        topology: the ranks.
        comm: a communicator for control messages.
        dumps: prints the stacks of a rank that does not answer; None: nobody does.
        limit: seconds without progress after which an unfinished collective is reported.
        on_stall: "abort" ends the job after a report; "report" logs it and goes on.

    Attributes:
        busy: the long task that this rank's main thread is in, or None.
        threaded: whether a thread drives this monitor, so that heartbeats come whatever the main thread does.
        left: set when the programs of all ranks are over.
    """

    def __init__(
        self,
        progress: Progress,
        topology: Topology,
        comm: Any,
        *,
        dumps: StackDumps | None = None,
        limit: float = STALL_SECONDS,
        on_stall: Literal["abort", "report"] = "abort",
    ) -> None:
        if on_stall not in ("abort", "report"):
            raise ValueError(f"The on_stall parameter must be 'abort' or 'report'. Got {on_stall!r} instead.")
        self.progress, self.topology, self.comm = progress, topology, comm
        self.dumps, self.on_stall = dumps, on_stall
        self.set_limit(limit)
        self.busy: str | None = None
        self.threaded = False
        self.left = threading.Event()
        self._leaving = self._said_farewell = False
        self._farewell: Any = None
        self._parted = 0.0  # when the farewell began
        self._gone: dict[int, int] = {}  # ranks whose program is over -> how many collectives they posted
        self._heard: dict[int, tuple[float, dict[str, Any]]] = {}  # the last message of each rank, and when it came
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked: float | None = None
        self._stalled = self._reported = -1  # numbers of collectives
        self._busy: dict[int, str] = {}  # rank 0: of all ranks; elsewhere: of rank 0
        self._counts = (-1, -1)
        self._ticked, self._now = time.monotonic(), 0.0  # seconds that were seen passing
        self._changed = 0.0  # when something moved last
        self._told = False
        self._parent = os.getppid()  # the launcher's process on this node, or a shell of it
        self._next_tick = self._next_beat = 0.0
        self._sending: list[tuple[Any, Any]] = []
        # One receive for each rank that writes to this one, and none from MPI.ANY_SOURCE: MPICH 5.0.2 lost messages on those
        # if some ranks were on this node and others were reached by UCX over TCP.
        peers = [0] if topology.rank else range(1, topology.size)
        self._inbox = {rank: np.empty(MESSAGE_BYTES, np.uint8) for rank in peers}
        self._listening = {rank: comm.Irecv(buffer, rank, 1) for rank, buffer in self._inbox.items()}

    def set_limit(self, limit: float) -> None:
        """Change the limit, in seconds."""
        if not limit > 0:
            raise ValueError(f"The stall_seconds parameter must be positive. Got {limit!r} instead.")
        self.limit = limit

    def tick(self) -> None:
        """Do what is due; costs a comparison if nothing is."""
        clock = time.monotonic()
        if clock < self._next_tick:
            return
        self._next_tick = clock + (0.0 if self._leaving else min(0.05, self.limit / 20))
        self._now += min(clock - self._ticked, self.limit / 10)
        self._ticked = clock
        if os.getppid() != self._parent:
            self._end("The launcher's process on this node has died, so the other ranks may be gone.")
        self._receive()
        self._sending = [(request, buffer) for request, buffer in self._sending if not request.Test()]
        self._look_for_leavers()
        if self._now >= self._next_beat:
            self._next_beat = self._now + self._beat_seconds
            self._beat()
        self._look_for_stalls()
        if self._leaving:
            self._look_for_silence()
            self._say_farewell()

    def announce(self, busy: str | None) -> None:
        """Tell the others that this rank begins a long task, or has ended it (None)."""
        self.busy = busy
        self._send_all({"kind": "busy", "text": busy})
        if self.topology.rank == 0:
            self._note_busy(0, busy)

    def leave(self) -> None:
        """The program of this rank is over; `left` is set when those of all ranks are. Called by the main thread."""
        self._leaving = True

    def close(self) -> None:
        """Free what MPI holds."""
        if self.dumps is not None:
            self.dumps.close()
        for request in self._listening.values():
            request.Cancel()
            request.Wait()
        for request, _ in self._sending:
            request.Wait()
        self.comm.Free()

    @property
    def requests(self) -> list[Any]:
        """The MPI requests under way."""
        return [*self._listening.values(), *(request for request, _ in self._sending)]

    def forget(self) -> None:
        """As `close`, once a rank has died: nobody waits for the others."""
        if self.dumps is not None:
            self.dumps.close()

    # ---- messages ----

    @property
    def _beat_seconds(self) -> float:
        return min(10.0, self.limit / 4)

    def _send(self, to: int, message: dict[str, Any]) -> None:
        buffer = np.frombuffer(encode(message), np.uint8)
        self._sending.append((self.comm.Isend(buffer, to, 1), buffer))

    def _send_all(self, message: dict[str, Any]) -> None:
        """To rank 0; from rank 0 to all others."""
        for rank in [0] if self.topology.rank else range(1, self.topology.size):
            self._send(rank, message)

    def _receive(self) -> None:
        for rank, buffer in self._inbox.items():
            while self._listening[rank].Test():
                message = json.loads(buffer.tobytes())
                self._listening[rank] = self.comm.Irecv(buffer, rank, 1)
                self._take(rank, message)

    def _take(self, rank: int, message: dict[str, Any]) -> None:
        kind = message["kind"]
        self._heard[rank] = (self._now, message if "line" in message else self._heard.get(rank, (0.0, {}))[1])
        if kind == "leaving":
            self._gone[rank] = message["posted"]
        elif kind == "where":
            self._send(0, self._status("here"))
        elif kind == "here" and self._asked is not None:
            self._answers[rank] = message
        elif kind == "stalled":
            self._ask(message["oldest"])
        elif kind == "wait":
            self._restart()
        elif kind == "busy":
            self._note_busy(rank, message["text"])
        elif kind == "dump" and self.dumps is not None:
            self.dumps.dump(message["target"])

    def _status(self, kind: str) -> dict[str, Any]:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
            frame = frame.f_back  # a waiting main thread polls, and may be at this very line: its caller is of interest
        stack = traceback.extract_stack(frame)[-_STACK:] if frame is not None and kind != "beat" else []
        line = f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}' if frame else ""
        oldest = self.progress.unfinished()
        return {
            "kind": kind,
            "rank": self.topology.rank,
            "host": self.topology.host,
            "pid": os.getpid(),
            "threaded": self.threaded,
            "posted": self.progress.posted,
            "oldest": -1 if oldest is None else oldest.number,
            "what": "" if oldest is None else oldest.describe(),
            "line": line,
            "stack": [text.rstrip() for text in traceback.format_list(stack)],
        }

    def _beat(self) -> None:
        if self.topology.rank:
            if not self._leaving:
                self._send(0, self._status("beat"))
            return
        for rank in self._gone:  # they wait for this rank, and want to know that it is alive
            self._send(rank, self._status("beat"))

    def _note_busy(self, rank: int, text: str | None) -> None:
        if text is None:
            self._busy.pop(rank, None)
        else:
            self._busy[rank] = text

    # ---- stalls ----

    def _restart(self) -> None:
        self._changed, self._told = self._now, False

    def _look_for_stalls(self) -> None:
        oldest, counts = self.progress.unfinished(), (self.progress.finished, self.progress.moves)
        if oldest is None or counts != self._counts or self._busy:
            self._counts = counts
            self._restart()
        else:
            self._tell(oldest, self._now - self._changed)
        if self._asked is not None and (
            len(self._answers) == self.topology.size - 1 or self._now - self._asked > min(self.limit, 5.0)
        ):
            self._report()

    def _tell(self, oldest: Collective, still: float) -> None:
        if still > self.limit and not self._told:
            self._told = True
            if self.topology.rank:
                self._send(0, self._status("stalled"))
            else:
                self._ask(oldest.number)
        elif still > 2 * self.limit + 5 and self.topology.rank and self.on_stall == "abort":
            self._end(f"Stall: {oldest.describe()} has not moved for {still:.0f} s, and rank 0 is silent.")

    def _ask(self, number: int) -> None:
        if self._busy:
            self._send_all({"kind": "wait"})
            return
        self._stalled = max(self._stalled, number)
        if self._asked is not None or number <= self._reported:
            return
        self._asked = self._now
        self._answers.clear()
        late = {rank: self._now - then for rank, (then, _) in self._heard.items()}
        if silent := [rank for rank, age in sorted(late.items()) if age > 3 * self._beat_seconds]:
            # Said before anything is sent: sending to a host that is gone may end this process.
            _log.error("No heartbeat from %s for %.0f s.", format_ranks(silent), max(late[rank] for rank in silent))
        self._send_all({"kind": "where"})

    def _report(self) -> None:
        everyone = {0: self._status("here"), **self._answers}
        self._asked = None
        waiting = [status for status in everyone.values() if 0 <= status["oldest"] <= self._stalled]
        if not waiting:
            return  # it has finished in the meantime
        self._reported = min(int(status["oldest"]) for status in waiting)
        text = describe(everyone, self._heard, self.topology.size, self.limit, self._now)
        if self.on_stall == "report":
            _log.error("%s", text)
            return
        if self._show_stacks(sorted(everyone)):
            time.sleep(0.5)  # other processes print these before this one ends the job
        self._end(text)

    def _show_stacks(self, alive: list[int]) -> bool:
        """Have the stacks of ranks that do not answer printed; whether this can be done for any of them."""
        shown = False
        for rank in range(self.topology.size):
            if rank in alive or rank in self._gone or self.dumps is None:
                continue
            neighbour = self.dumps.neighbour(rank, alive)
            if neighbour == 0:
                self.dumps.dump(rank)
            elif neighbour is not None:
                self._send(neighbour, {"kind": "dump", "target": rank})
            shown |= neighbour is not None
        return shown

    def _end(self, text: str) -> None:
        failure.end(self.topology, text)

    # ---- the end ----

    def _look_for_leavers(self) -> None:
        oldest = self.progress.unfinished()
        if oldest is None:
            return
        gone = [rank for rank, posted in self._gone.items() if posted <= oldest.number]
        if gone:
            text = f"The program of {format_ranks(sorted(gone))} is over, while rank {self.topology.rank} needs it for "
            self._end(text + f"{oldest.describe()}.")

    def _look_for_silence(self) -> None:
        """While this rank waits for the programs of others to end: are they alive?"""
        silent = [
            rank
            for rank, (then, status) in self._heard.items()
            if rank not in self._gone and status.get("threaded") and self._now - then > self.limit
        ]
        if not silent and self._farewell is not None and self._now - self._parted > self.limit:
            silent = sorted(self._gone)  # all have said that they end, and one of them does not
        if silent:
            self._end(
                f"The program of rank {self.topology.rank} is over, but {format_ranks(sorted(silent))} did not end, and "
                f"nothing was heard for {self.limit:g} s: stopped, cut off, or in C code that holds the GIL."
            )

    def _say_farewell(self) -> None:
        if self.progress.unfinished() is not None:
            return
        if not self._said_farewell:
            # Rank 0 takes part in every collective and learns of every rank that leaves. All ranks are told when rank 0 leaves.
            self._send_all({"kind": "leaving", "posted": self.progress.posted})
            self._said_farewell = True
        # The barrier comes after every message has been received, so that none is left over in MPI_Finalize.
        if self._farewell is None and len(self._gone) == (1 if self.topology.rank else self.topology.size - 1):
            self._farewell, self._parted = self.comm.Ibarrier(), self._now
        elif self._farewell is not None and self._farewell.Test():
            self.left.set()
