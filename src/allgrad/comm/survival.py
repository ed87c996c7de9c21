"""Survival: the ranks that are left when others die go on as a smaller job, and new ranks can join it.

MPI's user-level fault tolerance (ULFM) does what only the library can: it reports dead ranks, revokes communicators, and agrees.
This file turns that into two operations of a world, `recover` and `admit`. `train/survive.py` says what happens to the state
of a training.

**What a rank sees.** Every collective that can no longer finish raises `RankDiedError`, on whichever rank waits for it: the
engine looks for dead ranks while it polls, and reads MPI's errors. A rank that has seen it calls `recover`, which revokes all
communicators of the engine, so that the others see it too, wherever they wait. No rank is told who died: who is left is what
counts.

**Recovery.** The survivors 1. revoke, 2. drain: every request of the old engine is completed, with whatever error, so that
MPI no longer writes into anybody's array, 3. agree that they do not all want to end (`ended`), 4. shrink: MPI makes a
communicator of those that are left, in the order that they had, 5. number themselves anew and make an engine. Another rank may
die at any moment of this. So no rank uses a new communicator before all have agreed, on the old one, that everybody has it:
an agreement ends alike on all living ranks, while any other collective may succeed on some and fail on others. If any rank
could not take part, all start again from step 4, with the last communicator that all agreed on.

**The end.** A rank that has finished must not leave while another one still needs it for a recovery. So it leaves only after an
agreement (`ended`) in which every living rank says that it has finished. A recovery begins with the same agreement, with the
opposite vote: then those that have finished recover as well.

**Joining.** Rank 0 starts a replacement with MPI's Spawn, in a thread, since that takes a second. The replacement prepares itself
(reads the data, builds the model) and says so on a communicator that only the two of them have. At the next step boundary
all ranks accept it together, which takes milliseconds.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Pair", "RankDiedError", "Survival", "reason_against"]

_LOOK = 0.005  # seconds between two looks for dead ranks
_DRAIN = 5.0  # seconds that the requests of a revoked communicator may take to complete
_ENABLED = "OMPI_MCA_mpi_ft_enable"  # set by `mpirun --with-ft ulfm`
_READY, _ANSWER = 1, 2  # tags between rank 0 and a replacement
_WORDS = 1 << 20  # bytes of a message to a replacement

_abandoned: list[Any] = []  # requests that MPI did not complete: their arrays must live as long as the process


class RankDiedError(RuntimeError):
    """A rank of this job has died, so a collective cannot finish."""

    def __init__(self) -> None:
        super().__init__("A rank of this job has died.")


def reason_against() -> str:
    """Why the ranks of this job cannot survive the death of one, in words; "" if they can. MPI has been started."""
    from mpi4py import MPI

    library = " ".join(MPI.Get_library_version().split()[:3]).rstrip(",")
    if not library.startswith("Open MPI"):
        return f"{library} has no user-level fault tolerance (ULFM)"
    if not hasattr(MPI.Comm, "Shrink"):
        return "mpi4py is older than 4.1"
    if os.environ.get(_ENABLED, "0").lower() not in ("1", "true"):
        return "mpirun was started without `--with-ft ulfm`"
    if MPI.Query_thread() != MPI.THREAD_MULTIPLE:
        return "this MPI library does not grant MPI_THREAD_MULTIPLE"
    return ""


class Members(Protocol):
    """What is needed of the ranks; `World` has it."""

    rank: int
    size: int
    comm: Any
    survival: Survival | None

    def place(self, comm: Any) -> None: ...

    def abandon(self) -> None: ...

    def restart_engine(self) -> None: ...


class Survival:
    """What a world needs to outlive some of its ranks; see the top of this file.

    Args:
        world: the ranks; `world.survival` becomes this object.

    Attributes:
        base: the last communicator that all ranks agreed on; None in a replacement that has not joined.
        wanted: the number of ranks that the job began with.
        changed: whether ranks have died or were started since.
    """

    def __init__(self, world: Members) -> None:
        self.world = world
        self.base: Any = None if world.comm is None else _returning(world.comm)
        self.wanted = world.size
        self.changed = False
        self._looked = 0.0
        world.survival = self

    # ---- while the job runs ----

    def look(self, comm: Any) -> None:
        """Raise `RankDiedError` if a rank has died, or another rank has seen it. Costs a comparison most of the time."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        failed = comm.Get_failed()
        dead = failed.Get_size()
        failed.Free()
        if dead or comm.Is_revoked():
            raise RankDiedError

    def died(self, error: BaseException) -> bool:
        """Whether this exception means that a rank has died."""
        if isinstance(error, RankDiedError):
            return True
        from mpi4py import MPI

        if not isinstance(error, MPI.Exception):
            return False
        codes = (MPI.ERR_PROC_FAILED, MPI.ERR_PROC_FAILED_PENDING, MPI.ERR_REVOKED, MPI.ERR_IN_STATUS)
        return error.Get_error_class() in codes

    def agree(self, comm: Any, vote: bool) -> bool:
        """Whether all living ranks of `comm` vote yes: the same answer on each of them, whoever dies meanwhile."""
        from mpi4py import MPI

        while True:
            try:
                return bool(comm.Agree(int(vote)))
            except MPI.Exception as error:
                if not self.died(error):
                    raise
                # On all ranks alike: some death was news to one of them.
                comm.Ack_failed(comm.Get_size())

    def ended(self, vote: bool) -> bool:
        """Whether every living rank has finished, so that all may leave; see "The end" above."""
        return self.agree(self.base, vote)

    def leave(self) -> None:
        """At the end of the program: if the ranks have changed, end this process without MPI_Finalize.

        Open MPI 5 does not always return from that when ranks have died or were started on the way. Nobody leaves before the
        others, since a process that ends like this counts as dead.
        """
        if not self.changed:
            return
        self.ended(True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # the run's outcome is what it has reported

    # ---- when a rank has died ----

    def recover(self, *, announced: bool) -> None:
        """Make a smaller job of the ranks that are left. All of them call this, as often as it takes; see above.

        Args:
            announced: whether this rank learnt of the death from `ended`.

        Raises:
            RankDiedError: another rank has died meanwhile; call it again.
        """
        self.world.abandon()
        if not announced:
            self.ended(False)
        self._adopt(_returning(self.base.Shrink()))

    def _adopt(self, comm: Any) -> None:
        """Let the world consist of the ranks of `comm`."""
        self.changed = True
        placed = self._tried(lambda: self.world.place(comm), comm)
        if not self.agree(comm, placed):
            raise RankDiedError
        self.base = _returning(self.world.comm)
        self.world.restart_engine()

    def _tried(self, function: Callable[[], Any], *comms: Any) -> bool:
        """Call something that uses these communicators; whether no rank has died. If one has, the others see it too."""
        try:
            function()
        except Exception as error:
            if not self.died(error):
                raise
            revoke(comm for comm in comms if comm is not None)
            return False
        return True

    def duplicates(self, comm: Any, count: int) -> list[Any]:
        """So many duplicates of a communicator, once every rank has them.

        Raises:
            RankDiedError: on every rank, if some rank does not.
        """
        made: list[Any] = []
        complete = self._tried(lambda: made.extend(_returning(comm.Dup()) for _ in range(count)), comm)
        if not self.agree(comm, complete):
            raise RankDiedError
        return made

    # ---- joining ----

    def admit(self, pair: Pair) -> None:
        """Let a replacement in. All ranks and the replacement call this together.

        Args:
            pair: on rank 0, that with the replacement; on a replacement, that with rank 0; elsewhere it is not used.

        Raises:
            RankDiedError: some rank or the replacement has died meanwhile.
        """
        from mpi4py import MPI

        inside = self.base is not None
        mine = self.base if inside else MPI.COMM_SELF
        found: dict[str, Any] = {}
        # A rank that has seen a death votes no in its `recover`, and then nobody is admitted.
        if inside and not self.ended(True):
            raise RankDiedError
        self.world.abandon()

        def meet() -> None:
            if not inside:
                found["inter"] = mine.Connect(pair.port, MPI.INFO_NULL, 0)
                return
            port = MPI.Open_port() if self.world.rank == 0 else ""
            if self.world.rank == 0:
                pair.send({"port": port})
            found["inter"] = mine.Accept(port, MPI.INFO_NULL, 0)
            if self.world.rank == 0:
                MPI.Close_port(port)

        def merge() -> None:
            found["comm"] = _returning(_returning(found["inter"]).Merge(high=not inside))

        for task in (meet, merge):
            if not self.agree(mine, self._tried(task, self.base)):
                revoke(found.values())
                raise RankDiedError
        self._adopt(found["comm"])


class Pair:
    """Rank 0 and a replacement that prepares itself: the communicator of the two.

    Made by `start` on rank 0, and by `with_rank_0` in the replacement.
    """

    def __init__(self) -> None:
        self.comm: Any = None
        self.error = ""
        self.port = ""
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
                pair.comm = _returning(_returning(inter).Merge(high=False))
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
        pair.comm = _returning(_returning(MPI.Comm.Get_parent()).Merge(high=True))
        return pair

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
            return bool(self.comm.Iprobe(1 - self.comm.Get_rank(), tag))
        except MPI.Exception:
            self.error = "it has died"
            return False

    def send(self, message: dict[str, Any]) -> None:
        """Tell the other one something; JSON."""
        import json

        text = np.frombuffer(json.dumps(message).encode(), np.uint8)
        self.comm.Send(text, 1 - self.comm.Get_rank(), _ANSWER)

    def receive(self) -> dict[str, Any] | None:
        """In the replacement: what rank 0 says next; None if it has died."""
        import json

        while not self._arrived(_ANSWER):
            if self.error:
                return None
            time.sleep(_LOOK)
        buffer = np.zeros(_WORDS, np.uint8)
        self.comm.Recv(buffer, 1 - self.comm.Get_rank(), _ANSWER)
        message: dict[str, Any] = json.loads(buffer.tobytes().rstrip(b"\0"))
        return message

    def say_ready(self) -> None:
        """In the replacement: it can join now."""
        self.comm.Send(np.ones(1, np.uint8), 1 - self.comm.Get_rank(), _READY)

    def dismiss(self) -> None:
        """On rank 0: the replacement is no longer needed. Returns when it has heard that."""
        if self._thread is not None:
            self._thread.join()
        if not self.lost:
            self.send({"over": True})


@contextmanager
def revoking(survival: Survival | None, comms: Sequence[Any]) -> Iterator[None]:
    """Inside, a death revokes these communicators, which all ranks have, so that nobody waits on them.

    Raises:
        RankDiedError: in place of MPI's own error.
    """
    try:
        yield
    except Exception as error:
        if survival is None or not survival.died(error):
            raise
        revoke(comms)
        raise RankDiedError from error


def revoke(comms: Iterable[Any]) -> None:
    """Let every operation on these communicators fail, on all ranks."""
    for comm in comms:
        comm.Revoke()


def drain(requests: Iterable[Any]) -> None:
    """Complete requests of revoked communicators, with whatever error: MPI then no longer uses their arrays."""
    from mpi4py import MPI

    end = time.monotonic() + _DRAIN
    for request in requests:
        while request != MPI.REQUEST_NULL:
            try:
                if request.Test():
                    break
            except MPI.Exception:
                break
            if time.monotonic() > end:
                _abandoned.append(request)
                break


def _returning(comm: Any) -> Any:
    """The communicator, whose errors are returned to Python instead of ending the job."""
    from mpi4py import MPI

    comm.Set_errhandler(MPI.ERRORS_RETURN)
    return comm
