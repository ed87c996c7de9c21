"""The communication thread: one thread a rank owns all MPI calls, and moves collectives along while the tape computes.

The contract, for whoever posts (the reducer in `parallel/`, metrics, the world's own collectives):

- Every rank posts the same collectives in the same order. A job is posted as soon as its data are final, `post` returns
  at once, and `Handle.wait` returns when the result is there. Between the two the arrays belong to the engine: they are
  read-only for NumPy where the caller's array object allows it, and so is whatever is named in `guard`.
- Before a job's first byte moves, the ranks exchange a hash of what it is (kind, bucket, step, size, layout ...). Where
  hashes differ, every rank's `wait` raises the same `DesyncError`, which names the ranks and what differs. A job whose
  data fit into that message (`desync.room`) travels there, and is done with this one exchange.
- Jobs start in the order of posting, and are cut into chunks of which at most `window` are under way: memory for what
  arrives is bounded by the window and reused. Since all ranks start chunks in one order, the oldest unfinished chunk
  has been started everywhere that it has been posted, so the window cannot lock up.

Mode "thread": the thread polls with `Test`, and sleeps `poll_seconds` after a poll that moved nothing. (A thread in a
blocking all-reduce spins and starves the compute; posted and not polled, a non-blocking one does not progress. Both
were measured.) While another thread waits for a handle, the communication thread rests and the waiting one polls
instead, without sleeping: an exchange then costs no change of threads. `poll()` lends a hand, too. So "the thread that
owns MPI" is at any time the one that holds the engine's lock. The mode needs MPI_THREAD_MULTIPLE. Mode "poll": there is
no thread; who computes calls `poll()` between operations, and `wait` polls. Starting a thread sets Python's switch
interval to 0.5 ms.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from .clock import offset_to_rank_0
from .desync import DesyncError, agree, room
from .flight import Flight, Running
from .jobs import Handle, Job, Times, chunks, in_one_message, prepare
from .watch import Watch
from .world import progress_mode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .collectives import Part
    from .tree import Array
    from .world import World

_TAGS = (
    1 << 14
)  # tags are reused after so many chunks; far more than can be under way, and below MPI's guaranteed bound
_IDLE = 0.02  # seconds between two looks at the control messages while nothing is in flight
_SWITCH = 5e-4  # seconds after which a main thread busy in Python lets the poller run; at Python's 5 ms it starves
_PATIENCE = 1000  # fruitless polls, about a millisecond, after which who waits gives up its core for a moment


class _Chunk(NamedTuple):
    """A chunk under way, and its place in the window."""

    job: Job
    slot: int
    running: Running


class Engine:
    """Moves collectives along. One a world; start it on all ranks together, after the world's set-up.

    `mode`: "thread", "poll", or None: the thread where MPI grants MPI_THREAD_MULTIPLE. `chunk_bytes` and `window` bound
    the memory in flight and change no bit. `small_bytes`: up to so many received bytes a job is one all-gather.
    `record`: keep the `Times` of every job (`take_times`). `check`: exchange hashes before each job. `stall_seconds`:
    after so long an unfinished collective is reported with the ranks that are missing, and, with `on_stall="abort"`,
    the job ended.
    """

    def __init__(
        self,
        world: World,
        *,
        mode: Literal["thread", "poll"] | None = None,
        chunk_bytes: int = 1 << 20,
        window: int = 4,
        small_bytes: int = 1 << 16,
        poll_seconds: float = 5e-4,
        record: bool = True,
        check: bool = True,
        stall_seconds: float = 300.0,
        on_stall: Literal["abort", "report"] = "abort",
    ) -> None:
        if world.engine is not None:
            raise RuntimeError("This world has an engine already. Use world.engine, or close() it first.")
        self.world, self.chunk_bytes, self.small_bytes = world, chunk_bytes, small_bytes
        self.poll_seconds, self.record, self.check = poll_seconds, record, check and world.size > 1
        if not stall_seconds > 0:
            raise ValueError(f"The stall_seconds parameter of Engine must be positive. Got {stall_seconds!r} instead.")
        self.mode, self.stall_seconds = progress_mode(world, mode), stall_seconds
        self.error: BaseException | None = None
        self.posted = self.finished = self.moves = 0
        self.offset = 0.0
        self._inbox: deque[Job] = deque()
        self._jobs: deque[Job] = deque()
        self._flight = Flight()
        self._chunks: list[_Chunk] = []
        self._scratch = [np.empty(0, np.uint8) for _ in range(window)]
        self._free = list(range(window))
        self._tag = 0
        self._looked = 0.0  # when somebody last looked what has arrived
        self._times: deque[Times] = deque(maxlen=100_000)
        self._posting = threading.Lock()  # guards the numbers of jobs and of those who wait; never held for long
        self._mpi = threading.Lock()  # who holds it makes MPI calls and moves jobs
        self._wake = threading.Event()
        self._waiting = 0
        self._leaving = self._closing = False
        self._watch: Watch | None = None
        self._thread: threading.Thread | None = None
        if world.size > 1:
            self.data, self._checks, self._details, control = (world.comm.Dup() for _ in range(4))
            self.offset = offset_to_rank_0(control, world.rank, world.size)
            self._watch = Watch(self, control, stall_seconds, on_stall)
        world.engine = self
        if self.mode == "thread":
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH))
            self._thread = threading.Thread(target=self._serve, name="allgrad-communication", daemon=True)
            self._thread.start()

    # ---- what callers use ----

    def post(
        self,
        nodes: Sequence[tuple[int, int, Array]],
        out: Array,
        *,
        virtual_workers: int,
        label: str = "",
        step: int = 0,
        layout: str = "",
        reduction: Literal["exact", "mpi"] = "exact",
        ready: float | None = None,
        guard: Sequence[Array] = (),
    ) -> Handle:
        """Start the sum over all `virtual_workers` virtual workers; `out` holds it after `Handle.wait`.

        `nodes` are this rank's maximal nodes, as (level, place, array) in the order of `tree.maximal_nodes`; their
        arrays and `out` are flat, contiguous, of one dtype (float32 or float64) and one length, and all of them are
        overwritten. `out` may be one of the arrays. `label` names the bucket, `layout` is a digest of what else must
        agree; `ready` is when the data became final (`clock()`; default: now). Raises ValueError or TypeError for
        anything else.
        """
        pieces, target = prepare(
            nodes, out, rank=self.world.rank, ranks=self.world.size, virtual_workers=virtual_workers
        )
        what = {
            "collective": f"all-reduce ({reduction})",
            "bucket": label,
            "step": str(step),
            "elements": f"{out.size} {out.dtype.str}",
            "layout": layout,
            "virtual workers": str(virtual_workers),
            "chunks": f"{self.chunk_bytes} {self.small_bytes}",
        }
        parts = chunks(self, pieces, target, virtual_workers=virtual_workers, reduction=reduction)
        job = Job(what, label, step, out.nbytes, parts, ready)
        if self.check and reduction == "exact":
            in_one_message(job, pieces, target, size=self.world.size, virtual_workers=virtual_workers)
        return self._submit(job, [array for *_, array in nodes] + [out, *guard])

    def run(self, kind: str, size: int, start: Callable[[Any], Any]) -> Handle:
        """Run one non-blocking MPI collective, `start(comm) -> request`, in its turn; all ranks name the same `size`."""

        def part(tag: int, slot: int) -> Part:  # noqa: ARG001 - it needs neither
            yield [start(self.data)]

        return self._submit(
            Job({"collective": kind, "bytes": str(size)}, kind, -1, size, iter([part]), None), [], wake=False
        )

    def all_gather(self, mine: Array, everyone: Array, *, wake: bool = False) -> Handle:
        """Every rank's bytes into the rows of `everyone`; both are uint8 arrays, as long on all ranks.

        `wake`: let the communication thread see to it. Not worth it where the caller waits at once, and polls itself.
        """
        if not self.check or mine.size > room(self.world.size):
            return self.run("all_gather", mine.size, methodcaller("Iallgather", mine, everyone))
        job = Job({"collective": "all_gather", "bytes": str(mine.size)}, "all_gather", -1, mine.size, iter(()), None)
        job.payload, job.arrived = mine, partial(np.copyto, everyone.reshape(self.world.size, -1))
        return self._submit(job, [], wake=wake)

    def poll(self) -> None:
        """Move what can be moved, if nobody else is at it. Call it between operations; cheap when nothing is in flight.

        Mode "poll" needs it. In mode "thread" it looks only where the communication thread is late: where the caller is
        busy in Python, that thread waits for Python's lock.
        """
        if self._thread is not None and time.perf_counter() - self._looked < 2 * self.poll_seconds:
            return
        if (self._jobs or self._inbox) and self._mpi.acquire(blocking=False):
            try:
                self._progress()
            finally:
                self._mpi.release()

    def clock(self) -> float:
        """Seconds on rank 0's clock, as recorded in `Times`."""
        return time.perf_counter() + self.offset

    def take_times(self) -> list[Times]:
        """The times of the jobs finished since the last call, oldest first."""
        taken = []
        while self._times:
            taken.append(self._times.popleft())
        return taken

    def unfinished(self) -> Job | None:
        """The oldest job that is not finished."""
        try:
            return self._jobs[0] if self._jobs else self._inbox[0]
        except IndexError:
            return None

    def scratch(self, slot: int, size: int, dtype: np.dtype[Any]) -> Array:
        """Memory for what arrives, one piece a place in the window; it grows to what its chunks need and is reused."""
        nbytes = size * dtype.itemsize
        if self._scratch[slot].size < nbytes:
            self._scratch[slot] = np.empty(nbytes, np.uint8)
        return self._scratch[slot][:nbytes].view(dtype)

    def close(self) -> None:
        """End the thread, on all ranks together. Ends the job where collectives are unfinished: others wait for them."""
        if self.world.engine is not self:
            return
        if self.world.size > 1:
            assert self._watch is not None
            self._leaving = True
            self._watch.leave()
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        if self.world.size > 1:
            assert self._watch is not None
            self._watch.close()
            for comm in (self.data, self._checks, self._details):
                comm.Free()
        self.world.engine = None

    # ---- posting and waiting ----

    def _submit(self, job: Job, guarded: list[Array], *, wake: bool = True) -> Handle:
        if self.error is not None:
            raise self.error
        handle = job.handle = Handle(self, guarded)
        if job.ready is None:
            job.ready = self.clock()
        with self._posting:
            job.number = self.posted
            self.posted += 1
            self._inbox.append(job)
        # The first message leaves now and not when the communication thread gets its turn; if it has the lock just now,
        # it will see the job by itself.
        if self._mpi.acquire(blocking=False):
            try:
                if self._thread is None:
                    self._progress()
                else:
                    self._take_in()
            finally:
                self._mpi.release()
        if wake:
            self._wake.set()
        return handle

    def wait_for(self, handle: Handle) -> None:
        """Block until the handle's job is finished or failed, and move the jobs meanwhile, without sleeping."""
        with self._posting:
            self._waiting += 1
        idle = 0
        try:
            while not handle.event.is_set():
                with self._mpi:
                    moved = handle.event.is_set() or self._progress()
                idle = 0 if moved else idle + 1
                self._pause(idle)
        finally:
            with self._posting:
                self._waiting -= 1
            if self._jobs or self._inbox:
                self._wake.set()

    def drive(self) -> None:
        """Mode "poll": one round of progress, control messages included, even where nothing is in flight."""
        with self._mpi:
            self._progress()

    def _pause(self, idle: int) -> None:
        """Between two fruitless polls while somebody waits: let others run, which ranks need where cores are few."""
        if idle > (20 if self.world.oversubscribed else _PATIENCE):
            time.sleep(5e-5)
        elif idle:
            os.sched_yield()

    # ---- progress: everything below runs on the thread that owns MPI ----

    def _serve(self) -> None:
        while not self._closing:
            self._wake.clear()
            if self._waiting:
                self._wake.wait(_IDLE)
                continue
            with self._mpi:
                moved = self._progress()
            if not moved:
                self._wake.wait(self.poll_seconds if self._jobs or self._leaving else _IDLE)

    def _take_in(self) -> bool:
        """Begin what was posted: its check goes out."""
        if self.error is not None:
            return self._drop()
        taken = False
        while self._inbox:
            job = self._inbox.popleft()
            job.posted = self.clock()
            if self.check:
                job.check = self._flight.start(agree(self._checks, self._details, self.world.size, job))
            self._jobs.append(job)
            taken = True
        return taken

    def _progress(self) -> bool:
        """Move everything as far as it goes without blocking; returns whether anything moved."""
        moved = self._take_in()
        self._looked = time.perf_counter()
        if self.error is None:
            self._flight.test()
            moved |= self._advance_checks()
            moved |= self._start_chunks()
            moved |= self._advance_chunks()
        if self._watch is not None:
            self._watch.tick()
        return moved

    def _advance_checks(self) -> bool:
        moved = False
        for job in self._jobs:
            if job.check is None:
                continue
            try:
                moved |= self._flight.resume(job.check)
            except DesyncError as error:
                self.fail(error)
                return True
            if not job.check.ended:
                return moved  # in order, so that all ranks find the same first difference
            job.check = None
        return moved

    def _start_chunks(self) -> bool:
        moved = False
        for job in self._jobs:
            while not job.exhausted:
                if not self._free or job.check is not None:
                    return moved
                make = next(job.parts, None)
                if make is None:
                    job.exhausted = True
                    break
                slot, self._tag = self._free.pop(), (self._tag + 1) % _TAGS
                self._chunks.append(_Chunk(job, slot, self._flight.start(make(self._tag, slot))))
                job.live += 1
                moved = True
        return moved

    def _advance_chunks(self) -> bool:
        moved = False
        for chunk in list(self._chunks):
            job, running = chunk.job, chunk.running
            if not self._flight.resume(running) and not running.ended:
                continue
            moved = True
            self.moves += 1
            if job.progress is None and self.record:
                job.progress = self.clock()
            if running.ended:
                self._chunks.remove(chunk)
                self._free.append(chunk.slot)
                job.live -= 1
        while self._jobs and self._jobs[0].complete:
            self._finish(self._jobs.popleft())
            moved = True
        return moved

    def _finish(self, job: Job) -> None:
        assert job.handle is not None
        if self.record:
            done = self.clock()
            assert job.ready is not None
            progress = done if job.progress is None else job.progress
            job.handle.times = Times(job.label, job.step, job.nbytes, job.ready, job.posted, progress, done)
            self._times.append(job.handle.times)
        self.finished += 1
        job.handle.event.set()

    def fail(self, error: BaseException) -> None:
        """Nothing can be reduced any more: everybody who waits, or posts, is told why."""
        self.error = error
        self._drop()

    def _drop(self) -> bool:
        dropped = False
        while self._jobs or self._inbox:
            job = (self._jobs or self._inbox).popleft()
            assert job.handle is not None
            job.handle.error = self.error
            job.handle.event.set()
            dropped = True
        return dropped
