"""The communication thread: one thread per rank owns all MPI calls, and moves collectives while the tape computes.

The contract, for everyone who posts (gradient exchanges, metrics, the world's own collectives):

- Every rank submits the same collectives in the same order. A collective is submitted as soon as its data are final. `submit`
  returns at once, and `Handle.wait` returns when the result is there. In between, the arrays belong to the engine: they
  are read-only for NumPy as far as the caller's array object allows it, and so are the arrays in `guard`.
- Before the first byte of a collective moves, the ranks exchange a hash of what it is (kind, bucket, step, size, layout ...). If
  the hashes differ, every rank's `wait` raises the same `DesyncError`, which names the ranks and what differs. The data of
  a small collective travel in that message.
- Collectives start and finish in the order of posting; see `pipeline.py`.
- An exception in the engine is never lost. The first one is kept; every unfinished handle and every later `submit` and `wait`
  on this rank raises it. If it happens on the communication thread, it also ends the job (see `failure.py`).

Mode "thread": the thread polls, and sleeps `poll_seconds` after a poll that moved nothing. (A thread in a blocking all-reduce
spins and starves the computation; a non-blocking all-reduce that nobody polls does not progress. Both were measured.) While
another thread waits for a handle, the communication thread rests and the waiting thread polls instead, without sleeping, so
that an exchange needs no switch of threads. `poll()` helps too. So "the thread that owns MPI" is, at any time, the one that
holds the engine's lock. This mode needs MPI_THREAD_MULTIPLE. Mode "poll": there is no thread; the program calls `poll()`
between operations, and `wait` polls. Starting a thread sets Python's switch interval to 0.5 ms.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

from .board_exchange import BoardExchange
from .clock import offset_to_rank_0
from .desync import DesyncError
from .pipeline import Communicators, Pending, Pipeline
from .stack_dumps import StackDumps
from .stall_monitor import STALL_SECONDS, StallMonitor
from .traffic import CountingComm
from .transport import Collective, Handle, Times
from .ulfm import RankDiedError, drain, means_death, revoke, revoking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .topology import Topology

_IDLE = 0.02  # seconds between two looks at the control messages while nothing is in flight
_SWITCH = 5e-4  # seconds after which a main thread busy in Python lets the poller run; at Python's 5 ms it starves
_PATIENCE = 1000  # fruitless polls, about a millisecond, after which a waiting thread gives up its core for a moment


class Engine:
    """Moves collectives. There is one per world, made by `World.start_engine`.

    Args:
        topology: the ranks. All of them make their engine together.
        mode: "thread", "poll", or None: the thread if MPI grants MPI_THREAD_MULTIPLE.
        window: the number of transfers under way; it bounds the memory for incoming data, and changes no bit.
        poll_seconds: how long the thread sleeps after a poll that moved nothing.
        record: keep the `Times` of every collective (`take_times`).
        check: exchange hashes before each collective.
        stall_seconds: an unfinished collective in which nothing has moved for so long is reported with the ranks that are
            missing.
        on_stall: "abort" ends the job after such a report; "report" goes on.

    Raises:
        RuntimeError: mode "thread" without MPI_THREAD_MULTIPLE.

    Attributes:
        quick: for small messages that may go past the pipeline.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        mode: Literal["thread", "poll"] | None = None,
        window: int = 4,
        poll_seconds: float = 5e-4,
        record: bool = True,
        check: bool = True,
        stall_seconds: float = STALL_SECONDS,
        on_stall: Literal["abort", "report"] = "abort",
    ) -> None:
        self.mode = progress_mode(topology, mode)
        self.topology = topology
        self.poll_seconds = poll_seconds
        self.closed = False
        self._chosen: dict[str, Any] = {}  # settings that somebody asked for by `configure`
        self._polled = 0.0  # when the last poll began
        self._mpi = threading.Lock()  # the holder makes MPI calls and moves collectives
        self._counting = threading.Lock()  # guards the number of waiting threads
        self._wake = threading.Event()
        self._waiting = 0
        self._closing = False
        self._thread: threading.Thread | None = None
        self._guarding: list[Handle] = []  # whose arrays `abandon` gives back
        self.monitor: StallMonitor | None = None
        communicators, offset = None, 0.0
        if topology.size > 1:
            own = _duplicates(topology, 4)
            *three, control = own
            communicators = Communicators(*map(CountingComm, three))
            with revoking(own) if topology.survival is not None else nullcontext():
                offset = offset_to_rank_0(control, topology.rank, topology.size)
                dumps = StackDumps(topology, control)
        self.pipeline = Pipeline(communicators, window=window, record=record, check=check, offset=offset)
        self.quick = BoardExchange(self, self.pipeline, self._mpi)
        if topology.size > 1:
            self.monitor = StallMonitor(
                self.pipeline, topology, control, dumps=dumps, limit=stall_seconds, on_stall=on_stall
            )
        if self.mode == "thread":
            self._start_thread()

    @property
    def stall_seconds(self) -> float:
        """The limit of the stall monitor."""
        return STALL_SECONDS if self.monitor is None else self.monitor.limit

    def configure(self, *, mode: Literal["thread", "poll"] | None = None, stall_seconds: float | None = None) -> None:
        """Choose settings that all models of this process share; None leaves a setting as it is.

        Raises:
            ValueError: somebody has chosen another value before.
            RuntimeError: mode "thread" without MPI_THREAD_MULTIPLE.
        """
        for name, wanted in (("mode", mode), ("stall_seconds", stall_seconds)):
            chosen = self._chosen.get(name)
            if wanted is not None and chosen not in (None, wanted):
                raise ValueError(
                    f"{name} is to be {wanted!r}, but this process has an engine with {name}={chosen!r} already. All models "
                    "of a process share one: use the same value, or the default."
                )
        if mode is not None and mode != self.mode and self.topology.size > 1:
            self.mode = progress_mode(self.topology, mode)
            if mode == "thread":
                self._start_thread()
            else:
                self._stop_thread()
        if stall_seconds is not None and self.monitor is not None:
            self.monitor.set_limit(stall_seconds)
        self._chosen |= {key: value for key, value in (("mode", mode), ("stall_seconds", stall_seconds)) if value}

    @property
    def room(self) -> int:
        """Bytes of a collective's data that travel with its check."""
        return self.pipeline.room

    @property
    def sent_bytes(self) -> int:
        """What this rank has sent since the engine started; see `traffic.py`."""
        return sum(comm.sent for comm in self.pipeline.communicators if comm is not None)

    # ---- what callers use: see `transport.Transport` ----

    def submit(self, collective: Collective, *, wake: bool = True) -> Handle:
        """Start a collective. All ranks submit the same ones in the same order."""
        if self.pipeline.error is not None:
            raise self.pipeline.error
        handle = Handle(self, collective.guard)
        if self.topology.survival is not None:
            self._guarding = [*(one for one in self._guarding if one.guards), handle]
        self.pipeline.add(collective, handle)
        # The first message leaves now, and not only when the communication thread gets its turn. If that thread holds the
        # lock just now, it will see the collective by itself.
        if self._mpi.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._progress()
                else:
                    self._guarded(self.pipeline.take_in)
            finally:
                self._mpi.release()
        if wake:
            self._wake.set()
        return handle

    def wait_for(self, handle: Handle) -> None:
        """Block until the handle's collective is finished or has failed, and move collectives meanwhile, without sleeping."""
        self.wait_until(handle.event.is_set)

    def wait_until(self, true: Callable[[], bool]) -> None:
        """Block until a condition is true, and move collectives meanwhile, without sleeping."""
        with self._counting:
            self._waiting += 1
        idle = 0
        try:
            while not true():
                with self._mpi:
                    moved = true() or self._progress()
                idle = 0 if moved else idle + 1
                self._pause(idle)
        finally:
            with self._counting:
                self._waiting -= 1
            if self.unfinished() is not None:
                self._wake.set()

    def poll(self) -> None:
        """Move what can be moved, unless another thread is doing it. Cheap if nothing is in flight.

        Mode "poll" needs it between operations. In mode "thread" it acts only if the communication thread is late: it waits
        for Python's lock while the caller is busy in Python.
        """
        if self._thread is not None and time.perf_counter() - self._polled < 2 * self.poll_seconds:
            return
        if self.unfinished() is not None and self._mpi.acquire(blocking=False):
            try:
                self._progress()
            finally:
                self._mpi.release()

    def drive(self) -> None:
        """One round of progress, control messages included, even if nothing is in flight."""
        with self._mpi:
            self._progress()

    @contextmanager
    def long_task(self, what: str) -> Iterator[None]:
        """Inside, other ranks may wait for this one as long as they need to: that is not a stall."""
        if self.monitor is None:
            yield
            return
        before = self.monitor.busy
        with self._mpi:
            self.monitor.announce(what)
        try:
            yield
        finally:
            with self._mpi:
                self.monitor.announce(before)

    def clock(self) -> float:
        """Seconds on rank 0's clock, as recorded in `Times`."""
        return self.pipeline.clock()

    def take_times(self) -> list[Times]:
        """The times of the collectives finished since the last call, oldest first."""
        return self.pipeline.take_times()

    def unfinished(self) -> Pending | None:
        """The oldest collective that is not finished."""
        return self.pipeline.unfinished()

    def close(self) -> None:
        """End the thread, on all ranks together. If collectives are unfinished, ends the job: other ranks wait for them."""
        if self.closed:
            return
        self.closed = True
        if self.monitor is not None:
            self.monitor.leave()
            self._wake.set()
            while not self.monitor.left.wait(0.001 if self._thread is None else 0.01):
                if isinstance(self.pipeline.error, RankDiedError):
                    self.closed = False
                    self.abandon()
                    return
                if self._thread is None or not self._thread.is_alive():
                    self.drive()
        self._stop_thread()
        if self.monitor is not None:
            self.monitor.close()
            for comm in self.pipeline.communicators:
                comm.Free()

    def abandon(self) -> None:
        """Give up everything that is under way, because a rank has died; the other ranks see it too (survival.py)."""
        if self.closed:
            return
        self.closed = True
        self._stop_thread()
        self.pipeline.fail(RankDiedError())
        if self.monitor is not None:
            revoke([*(comm.comm for comm in self.pipeline.communicators), self.monitor.comm])
            drain([*self.pipeline.requests, *self.monitor.requests])
            self.monitor.forget()
        for handle in self._guarding:
            handle.release()

    # ---- the communication thread ----

    def _start_thread(self) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH))
        self._closing = False
        self._thread = threading.Thread(target=self._serve, name="allgrad-communication", daemon=True)
        self._thread.start()
        if self.monitor is not None:
            self.monitor.threaded = True

    def _stop_thread(self) -> None:
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self.monitor is not None:
            self.monitor.threaded = False

    def _serve(self) -> None:
        while not self._closing:
            self._wake.clear()
            if self._waiting:
                self._wake.wait(_IDLE)
                continue
            with self._mpi:
                moved = self._progress()
            if not moved:
                self._wake.wait(self.poll_seconds if self.pipeline.needs_polling() or self.closed else _IDLE)

    def _pause(self, idle: int) -> None:
        """Between two fruitless polls of a waiting thread: let others run, which ranks need if cores are few."""
        if idle > (20 if self.topology.oversubscribed else _PATIENCE):
            time.sleep(5e-5)
        elif idle:
            os.sched_yield()

    # ---- progress, on the thread that holds the lock ----

    def _progress(self) -> bool:
        """Move everything as far as it goes without blocking; returns whether anything moved."""
        self._polled = time.perf_counter()
        return self._guarded(self._round)

    def _round(self) -> bool:
        moved = self.pipeline.move()
        if self.monitor is not None:
            self.monitor.tick()
            if self.topology.survival is not None:
                self.topology.survival.look(self.monitor.comm)
        return moved

    def _guarded(self, function: Callable[[], bool]) -> bool:
        """Call a part of the progress. An exception fails the pipeline for good."""
        try:
            return function()
        except DesyncError as error:  # raised on all ranks, by whoever waits
            self.pipeline.fail(error)
            return True
        except BaseException as error:
            if self.topology.survival is not None and means_death(error):
                self.pipeline.fail(RankDiedError())  # raised by whoever waits, on the thread that recovers
                return True
            self.pipeline.fail(error)
            raise


def _duplicates(topology: Topology, count: int) -> list[Any]:
    """So many communicators of the engine's own."""
    if topology.survival is not None:
        return topology.survival.duplicates(topology.comm, count)
    return [topology.comm.Dup() for _ in range(count)]


def progress_mode(topology: Topology, wanted: str | None) -> Literal["thread", "poll"]:
    """Who drives MPI, "thread" or "poll": what is `wanted`, or the thread if the MPI library grants it.

    Raises:
        RuntimeError: a thread is wanted, and the library does not grant MPI_THREAD_MULTIPLE.
    """
    if wanted not in (None, "thread", "poll"):
        raise ValueError(f"The mode parameter of Engine must be 'thread', 'poll' or None. Got {wanted!r} instead.")
    if topology.size == 1 or wanted == "poll":
        return "poll"
    from mpi4py import MPI

    granted = MPI.Query_thread() == MPI.THREAD_MULTIPLE
    if wanted == "thread" and not granted:
        raise RuntimeError(
            "A communication thread needs MPI_THREAD_MULTIPLE, which this MPI library did not grant. Use mode='poll'."
        )
    return "thread" if granted else "poll"
