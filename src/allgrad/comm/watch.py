"""Stalls: which ranks are missing when a collective does not finish, and on which line their main threads are.

Every rank's engine calls `tick` while it polls. Over a communicator of its own each rank sends rank 0 a heartbeat: how
many collectives it has posted and finished, and the line on which its main thread is. When on some rank nothing has
moved for `limit` seconds although a collective is unfinished, it tells rank 0; rank 0 asks all ranks where they stand,
waits a moment for the answers, and reports: a rank that has not posted the collective is missing, and its stack stands
in the report; of a rank that does not answer (stopped, or C code holds the GIL: then `faulthandler` prints its stacks
on its own stderr) the last heartbeat is told. Where rank 0 itself is the one that is silent, the others say so after
twice the time. Time counts as it is seen passing, look by look: a job that was suspended as a whole, or starved, and
goes on is no stall; nor is one in which the collective has finished by the time that the ranks answer.

Ranks end together: a rank whose program is over says so and waits for the others. A rank that still needs it for a
collective which it never posted ends the job at once, rather than wait for ever.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from . import failure
from .world import ranks as in_words

if TYPE_CHECKING:
    from .engine import Engine
    from .jobs import Job

_SIZE = 4096  # bytes of a control message: JSON, filled up with blanks
_STACK = 8  # frames of a stack that are told
_HERE = os.path.dirname(__file__) + os.sep


class Watch:
    """One rank's part of the watch. Everything but `leave` runs on the thread that owns MPI."""

    def __init__(self, engine: Engine, comm: Any, limit: float, on_stall: Literal["abort", "report"]) -> None:
        if on_stall not in ("abort", "report"):
            raise ValueError(f"The on_stall parameter must be 'abort' or 'report'. Got {on_stall!r} instead.")
        self.engine, self.world, self.comm = engine, engine.world, comm
        self.limit, self.on_stall = limit, on_stall
        self.left = threading.Event()
        self._leaving = self._said_farewell = False
        self._farewell: Any = None
        self._gone: dict[int, int] = {}  # ranks whose program is over -> how many collectives they posted
        self._heard: dict[int, tuple[float, dict[str, Any]]] = {}  # rank 0: the last word of each rank, and when
        self._answers: dict[int, dict[str, Any]] = {}
        self._asked: float | None = None
        self._stalled = self._reported = -1  # numbers of collectives
        self._state = (-1, -1)
        self._looked, self._still = time.monotonic(), 0.0  # for so long nothing has moved
        self._told = False
        self._next_tick = self._next_beat = 0.0
        self._sending: list[tuple[Any, Any]] = []
        # A receive for each rank that writes to us, and none from MPI.ANY_SOURCE: MPICH 5.0.2 lost messages on those
        # where some ranks are on this node and others across UCX over TCP.
        peers = [0] if self.world.rank else range(1, self.world.size)
        self._inbox = {rank: np.empty(_SIZE, np.uint8) for rank in peers}
        self._listening = {rank: comm.Irecv(buffer, rank, 1) for rank, buffer in self._inbox.items()}

    def tick(self) -> None:
        """Do what is due; costs a comparison when nothing is."""
        now = time.monotonic()
        if now < self._next_tick:
            return
        self._next_tick = now + (0.0 if self._leaving else min(0.05, self.limit / 20))
        self._receive(now)
        self._sending = [(request, buffer) for request, buffer in self._sending if not request.Test()]
        self._look_for_leavers()
        if now >= self._next_beat:
            self._next_beat = now + min(10.0, self.limit / 4)
            self._beat()
        self._look_for_stalls(now)
        if self._leaving:
            self._say_farewell()

    def leave(self) -> None:
        """Return when all ranks' programs are over; called by the main thread."""
        self._leaving = True
        while not self.left.wait(0 if self.engine.mode == "poll" else 0.01):
            if self.engine.mode == "poll":
                self.engine.drive()
                time.sleep(1e-3)

    def close(self) -> None:
        """Give back what MPI holds."""
        faulthandler.cancel_dump_traceback_later()
        for request in self._listening.values():
            request.Cancel()
            request.Wait()
        for request, _ in self._sending:
            request.Wait()
        self.comm.Free()

    # ---- messages ----

    def _send(self, to: int, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        if len(text) > _SIZE:
            text = json.dumps(message | {"stack": message["stack"][-1:]}).encode()[:_SIZE]
        buffer = np.frombuffer(text.ljust(_SIZE), np.uint8)
        self._sending.append((self.comm.Isend(buffer, to, 1), buffer))

    def _receive(self, now: float) -> None:
        for rank, buffer in self._inbox.items():
            while self._listening[rank].Test():
                message = json.loads(buffer.tobytes())
                self._listening[rank] = self.comm.Irecv(buffer, rank, 1)
                self._take(now, rank, message)

    def _take(self, now: float, rank: int, message: dict[str, Any]) -> None:
        kind = message["kind"]
        if kind == "leaving":
            self._gone[rank] = message["posted"]
        elif kind == "where":
            self._send(0, self._status("here"))
        else:
            self._heard[rank] = (now, message)
            if kind == "here" and self._asked is not None:
                self._answers[rank] = message
            if kind == "stalled":
                self._ask(now, message["oldest"])

    def _status(self, kind: str) -> dict[str, Any]:
        frame = sys._current_frames().get(threading.main_thread().ident or 0)
        while frame is not None and frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
            frame = frame.f_back  # who waits polls, and may be at this very line: told is who called
        stack = traceback.extract_stack(frame)[-_STACK:] if frame is not None and kind != "beat" else []
        line = f'File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_name}' if frame else ""
        job = self.engine.unfinished()
        return {
            "kind": kind,
            "rank": self.world.rank,
            "host": self.world.host,
            "pid": os.getpid(),
            "posted": self.engine.posted,
            "oldest": -1 if job is None else job.number,
            "what": "" if job is None else job.describe(),
            "line": line[:500],
            "stack": [text.rstrip()[:400] for text in traceback.format_list(stack)],
        }

    def _beat(self) -> None:
        if self.engine.mode == "thread" and sys.__stderr__ is not None:
            faulthandler.dump_traceback_later(max(self.limit, 1.0), file=sys.__stderr__)
        if self.world.rank and not self._leaving:
            self._send(0, self._status("beat"))

    # ---- stalls ----

    def _look_for_stalls(self, now: float) -> None:
        job, state = self.engine.unfinished(), (self.engine.finished, self.engine.moves)
        since, self._looked = now - self._looked, now
        if job is None or state != self._state:
            self._state, self._still, self._told = state, 0.0, False
        else:
            self._still += min(since, self.limit / 10)
            self._tell(now, job)
        if self._asked is not None and (
            len(self._answers) == self.world.size - 1 or now - self._asked > min(self.limit, 5.0)
        ):
            self._report(now)

    def _tell(self, now: float, job: Job) -> None:
        if self._still > self.limit and not self._told:
            self._told = True
            if self.world.rank:
                self._send(0, self._status("stalled"))
            else:
                self._ask(now, job.number)
        elif self._still > 2 * self.limit + 5 and self.world.rank and self.on_stall == "abort":
            text = f"Stall: {job.describe()} has not moved for {self._still:.0f} s, and rank 0 is silent."
            failure.end(self.world, text)

    def _ask(self, now: float, number: int) -> None:
        self._stalled = max(self._stalled, number)
        if self._asked is not None or number <= self._reported:
            return
        self._asked = now
        self._answers.clear()
        for rank in range(1, self.world.size):
            self._send(rank, {"kind": "where", "rank": 0})

    def _report(self, now: float) -> None:
        everyone = {0: self._status("here"), **self._answers}
        self._asked = None
        waiting = [status for status in everyone.values() if 0 <= status["oldest"] <= self._stalled]
        if not waiting:
            return  # it has finished meanwhile
        oldest = min(waiting, key=lambda status: int(status["oldest"]))
        self._reported = oldest["oldest"]
        text = describe(everyone, self._heard, self.world.size, self.limit, now)
        if self.on_stall == "abort":
            failure.end(self.world, text)
        else:
            sys.stderr.write(f"allgrad: {text}\n")
            sys.stderr.flush()

    # ---- the end ----

    def _look_for_leavers(self) -> None:
        job = self.engine.unfinished()
        if job is None:
            return
        gone = [rank for rank, posted in self._gone.items() if posted <= job.number]
        if gone:
            text = f"The program of {in_words(sorted(gone))} is over, while rank {self.world.rank} needs it for "
            failure.end(self.world, text + f"{job.describe()}.")

    def _say_farewell(self) -> None:
        if self.engine.unfinished() is not None:
            return
        if not self._said_farewell:
            # Rank 0 takes part in every collective and hears of every leaver; of rank 0 itself everyone is told.
            message = {"kind": "leaving", "rank": self.world.rank, "posted": self.engine.posted}
            for rank in [0] if self.world.rank else range(1, self.world.size):
                self._send(rank, message)
            self._said_farewell = True
        # The barrier comes after every message has been taken in, so that none is left over in MPI_Finalize.
        if self._farewell is None and len(self._gone) == (1 if self.world.rank else self.world.size - 1):
            self._farewell = self.comm.Ibarrier()
        elif self._farewell is not None and self._farewell.Test():
            self.left.set()


def describe(
    everyone: dict[int, dict[str, Any]],
    heard: dict[int, tuple[float, dict[str, Any]]],
    size: int,
    limit: float,
    now: float,
) -> str:
    """The report of a stall: from the ranks that answered (`everyone`), and the last word of those that did not."""
    oldest = min((s for s in everyone.values() if s["oldest"] >= 0), key=lambda s: int(s["oldest"]))
    lines = [f"Stall: nothing has moved for {limit:g} s in {oldest['what']}."]
    silent = [rank for rank in range(size) if rank not in everyone]
    missing = [rank for rank, status in everyone.items() if status["posted"] <= oldest["oldest"]]
    for rank in sorted(missing):
        status = everyone[rank]
        where = f"on {status['host']}, process {status['pid']}"
        lines.append(f"Missing: rank {rank} ({where}) has not posted it. Its main thread is at")
        lines += status["stack"]
    for rank in silent:
        lines.append(f"Missing: rank {rank} does not answer: it is stopped, cut off, or in C code that holds the GIL.")
        if rank in heard:
            then, status = heard[rank]
            where = f"on {status['host']}, process {status['pid']}"
            lines.append(f"  Its last heartbeat ({where}) is {now - then:.0f} s old; its main thread was at")
            lines.append(f"  {status['line']}")
    present = sorted(set(everyone) - set(missing))
    if present:
        lines.append(f"Waiting in it: {in_words(present)}.")
    if not missing and not silent:
        lines.append("All ranks have posted it: the network, or the MPI library, does not deliver.")
    return "\n".join(lines)
