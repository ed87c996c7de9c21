"""Survival: the ranks that are left when others die go on as a smaller job, and new ranks can join it.

MPI's user-level fault tolerance does what only the library can (`ulfm.py`): it reports dead ranks, revokes communicators, and
agrees. This file turns that into two operations of a world, `recover` and `admit`. `train/survive.py` says what happens to the
state of a training.

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

**Joining.** Rank 0 starts a replacement with MPI's Spawn (`replacement.py`), in a thread, since that takes a second. The
replacement prepares itself (reads the data, builds the model) and says so on a communicator that only the two of them have. At
the next step boundary all ranks make a communicator with it, over that of the two, which takes milliseconds. (MPI's ports will
not do: ranks that wait for a connection are not told that the other side has died.)
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from .time_limit import time_limit
from .ulfm import RankDiedError, means_death, returning, revoke

if TYPE_CHECKING:
    from collections.abc import Callable

    from .replacement import Pair

__all__ = ["Survival"]

_LOOK = 0.005  # seconds between two looks for dead ranks
_JOIN = 60.0  # seconds that a join may take


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
        self.base: Any = None if world.comm is None else returning(world.comm)
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

    def agree(self, comm: Any, vote: bool) -> bool:
        """Whether all living ranks of `comm` vote yes: the same answer on each of them, whoever dies meanwhile."""
        from mpi4py import MPI

        while True:
            try:
                return bool(comm.Agree(int(vote)))
            except MPI.Exception as error:
                if not means_death(error):
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
        self._adopt(returning(self.base.Shrink()))

    def _adopt(self, comm: Any) -> None:
        """Let the world consist of the ranks of `comm`."""
        self.changed = True
        placed = self._tried(lambda: self.world.place(comm), comm)
        if not self.agree(comm, placed):
            raise RankDiedError
        self.base = returning(self.world.comm)
        self.world.restart_engine()

    def _tried(self, function: Callable[[], Any], *comms: Any) -> bool:
        """Call something that uses these communicators; whether no rank has died. If one has, the others see it too."""
        try:
            function()
        except Exception as error:
            if not means_death(error):
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
        complete = self._tried(lambda: made.extend(returning(comm.Dup()) for _ in range(count)), comm)
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
        mine = self.base if inside else returning(MPI.COMM_SELF)
        found: dict[str, Any] = {}
        # A rank that has seen a death votes no in its `recover`, and then nobody is admitted.
        if inside and not self.ended(True):
            raise RankDiedError
        self.world.abandon()

        def meet() -> None:
            leads = self.world.rank == 0  # the replacement does, too: it is a world of its own
            if inside and leads:
                pair.invite()
            bridge, other = (pair.comm, pair.other) if leads else (mine, 0)
            found["inter"] = returning(mine.Create_intercomm(0, bridge, other))

        def merge() -> None:
            found["comm"] = returning(found["inter"].Merge(high=not inside))

        # If the replacement dies now, rank 0 sees that, and revokes what the others wait on. If it is stopped, rank 0 is ended
        # by the limit, and the others see that.
        with time_limit(_JOIN) if inside and self.world.rank == 0 else nullcontext():
            for task in (meet, merge):
                if not self.agree(mine, self._tried(task, self.base, *found.values())):
                    revoke(found.values())
                    raise RankDiedError
        self._adopt(found["comm"])
