"""A training that goes on when ranks die, and when new ones join: what happens to its state. `comm/survival.py` does the rest.

**Why the bits stay the same.** Weights are a function of the virtual workers, not of the ranks that run them. So whoever is left
shares the workers out anew, and computes the unfinished step again.

**What is finished.** A step changes the state in one stretch without communication: the optimizer's update, the average, the
counters, the callbacks. A rank that sees a death is therefore either before or after that stretch, and so is a rank with an
evaluation or a rollback. The same holds for all ranks within one stretch of each other, since each step needs all of them.
A `position` says how far a rank is (after how many returns, see below). All replicas at one position have the same bits, so

- the most advanced position among the survivors is where the run goes on; nothing that any of them has finished is lost;
- a rank that is behind receives all `parts` (what a checkpoint holds) from the lowest rank that is not. A replacement that joins
  is a rank that is behind everybody.

A rank that is not behind, but in the middle of a step, takes that step back: the position in the data, the buffers (running
statistics) and the counters of optimizer and average are those from before it. Gradients are computed again. Weights that the
rank has for itself were not touched.

**Weights that the ranks of a node share** (`memory: node`). There an update communicates: ranks wait for each other before they
write and after. So one may die while the others, still at the old position, have written their shares. Therefore they `save`
before they write, an update, a swap with the averages or a load: each copies its share into a shadow (memory/shadow.py), and
remembers the position. If the run goes on from that position, they restore what was saved. If it goes on from a later one, a
survivor has finished the write, so all had made their part of it, and the memory is whole.

Then all ranks move into new memory (`FlatParameters.move`), which the ranks of each node share as they are now, replacements
included. The first rank of a node that is not behind copies everything into it, and when that is done, all ranks leave the old
memory. If another rank dies meanwhile, some may have left it and others not, and both memories hold the same. A rank that is
behind gets the rest from the leader, or all of it where all ranks of its node are behind.

**A rank that differs from the others** (replica_check.py) has computed gradients from wrong weights for some steps, and its
gradients are in everybody's sums. So it ends, and the others return to the newest checkpoint, in which all agreed. Every rank
knows which one differs before that one ends. The count `returns` is odd while a rank has yet to load that checkpoint, and it is
the first number of a position: so if another rank dies meanwhile, nobody goes on from the wrong sums. Without a majority (two
ranks), the run ends.

**What depends on the ranks** is made anew: the replica (workers, reducer, exchange), the loader's micro-batches, the comparison
of replicas. Random numbers depend on seed, step and worker alone. The order in which buckets are posted is found again.

**What was going on.** An evaluation or a checkpoint in which a rank died is begun again: from the position follows which of them
is due. A rank that has just become rank 0 takes over what that does for all (leader.py). Lines of metrics.jsonl that come after
the position are removed.

**What is refused**, by name and before the first step: exchanges that keep state on each rank, since it dies with the rank
(`why_not`); optimizer state that is sharded. Before the run has begun, the death of a rank ends the job.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from allgrad.comm.agreement import format_ranks
from allgrad.comm.replacement import Pair
from allgrad.comm.ulfm import RankDiedError
from allgrad.errors import OptionError
from allgrad.memory import PRIVATE, Shadow
from allgrad.parallel.exchanges import Exchange
from allgrad.train.catch_up import Follower, catch_up
from allgrad.train.checkpoint.format import load_latest
from allgrad.train.checkpoint.state import broadcast_checkpoint
from allgrad.train.replica_check import CorruptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from allgrad import optim
    from allgrad.comm import World
    from allgrad.data import Loader
    from allgrad.train.checkpoint.format import Checkpoint
    from allgrad.train.checkpoint.writer import CheckpointWriter
    from allgrad.train.components.losses import Objective
    from allgrad.train.config.schema import RunConfig

__all__ = ["NotNeededError", "Survivor", "most_advanced", "refuse", "why_not"]

Position = tuple[int, int, int, int]

_NOWHERE: Position = (-1, -1, -1, -1)
"""The position of a replacement that has not joined."""


def why_not(config: RunConfig, exchange: Exchange) -> str:
    """Why a run with this configuration cannot survive the death of a rank, in words; "" if it can."""
    parallel = config.parallel
    if parallel.shard is not None:
        return f"parallel.shard={parallel.shard} keeps a part of the optimizer's state on each rank, and it dies with the rank"
    keeps = type(exchange).state_dict is not Exchange.state_dict
    if keeps or not exchange.synchronous:
        return f"parallel.reduction={parallel.reduction.name} keeps state on each rank, and it dies with the rank"
    return ""


def most_advanced(positions: Sequence[Sequence[int]]) -> tuple[int, list[int]]:
    """The lowest rank at the most advanced position, and the ranks that are behind it.

    Example:
        >>> most_advanced([(0, 0, 6, 5), (0, 0, 7, 5), (0, 0, 7, 5), (-1, -1, -1, -1)])
        (1, [0, 3])
    """
    best = max(tuple(one) for one in positions)
    behind = [rank for rank, one in enumerate(positions) if tuple(one) != best]
    return next(rank for rank in range(len(positions)) if rank not in behind), behind


class Training(Follower, Protocol):
    """What is needed of a trainer."""

    config: RunConfig
    optimizer: optim.Optimizer
    ema: optim.EMA | None
    objective: Objective
    loader: Loader
    writer: CheckpointWriter | None

    def rebuild(self, *, holds: bool) -> None: ...

    def go_back_to(self, checkpoint: Checkpoint) -> None: ...


class _Opening(NamedTuple):
    """What a step changes beside arrays in flat memory, as it was before: what `state_dict` of the loader and the model's
    buffers give, each parameter's count of steps, and the average's count of updates."""

    data: dict[str, Any]
    buffers: dict[str, Any]
    steps: dict[str, int]
    averages: int


class Survivor:
    """What one rank's trainer needs to go on; see the top of this file.

    Args:
        trainer: the run's.
        properties: what must be the same on all ranks, replacements included.
        words: with which a replacement is started: the arguments of its Python. None: dead ranks are not replaced.
        pair: in a replacement, that with rank 0.

    Attributes:
        on_change: called on all ranks together when their number has changed.
        recoveries: for each death, the step, the ranks that were left, and the seconds until training went on.
    """

    def __init__(
        self,
        trainer: Training,
        properties: dict[str, str],
        *,
        words: Sequence[str] | None = None,
        pair: Pair | None = None,
    ) -> None:
        assert trainer.world.survival is not None
        self.trainer, self.world, self.survival = trainer, trainer.world, trainer.world.survival
        self.properties, self.words, self.outside = properties, words, pair
        self.pair: Pair | None = None  # on rank 0, with the replacement that prepares itself
        self.opening: _Opening | None = None  # of the step that is not finished
        self.shadow: Shadow | None = None  # of the weights that the ranks of this node share
        self.saved = _NOWHERE  # the position at which it was written
        trainer.optimizer.make_moments()  # so that all ranks have them, replacements included
        self.recoveries: list[dict[str, Any]] = []
        self.on_change: Callable[[], None] = lambda: None
        self.returns = 0  # odd: a rank differed, and this one has yet to load the newest checkpoint
        self._tried_at = -1  # the step at which a replacement was started last

    # ---- in the course of a run ----

    def run(self, attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The result of `attempt`, which trains from where the trainer is to the end, on whatever ranks are left."""
        if self.outside is not None:
            from allgrad.kernels import atomics  # noqa: F401 - loaded before the others wait for it

            self._rehearse()
            self.outside.say_ready()
        while True:
            announced = False
            try:
                if self.outside is not None:
                    self._join(self.outside)
                self._replace()
                result = attempt()
                announced = True
                if self.survival.ended(True):
                    if self.pair is not None:
                        self.pair.dismiss()
                    return result
            except RankDiedError:
                if self.survival.base is None:
                    raise NotNeededError from None  # this process has not become a rank
            except CorruptionError as error:
                if not error.odd:
                    raise
                self._part_with(error)
                announced = True
            self._go_on(announced=announced)

    def _rehearse(self) -> None:
        """In a replacement: a step without its update, so that all kernels are loaded. The state will be overwritten."""
        replica, batch = self.trainer.replica, next(self.trainer.loader)
        replica.step(self.trainer.objective, replica.parts(batch.arrays, batch.lengths), 0)

    def open_step(self) -> None:
        """A step begins: note what taking it back needs."""
        trainer = self.trainer
        updates = 0 if trainer.ema is None else trainer.ema.updates
        self.opening = _Opening(
            trainer.loader.state_dict(), trainer.model.buffers_state(), dict(trainer.optimizer.steps), updates
        )

    def close_step(self) -> None:
        """The step is finished."""
        self.opening = None

    def save(self, *, together: bool = False) -> None:
        """Weights that the ranks of a node share will be written: save them. All ranks call it at the same position.

        Args:
            together: ranks may still be in the write before; after a reduction of gradients none is.
        """
        flat = self.trainer.replica.flat
        if flat.sharing is PRIVATE:
            return
        if together:
            flat.sharing.barrier()
        self.shadow = self._shadow() or Shadow(flat)
        self.shadow.save()
        self.saved = self._position()

    def _shadow(self) -> Shadow | None:
        """The shadow of the memory where the weights are now, if there is one."""
        sharing = self.trainer.replica.flat.sharing
        return self.shadow if self.shadow is not None and self.shadow.sharing is sharing else None

    def _part_with(self, error: CorruptionError) -> None:
        """Ranks that differ end, once all know it; the others will return to the newest checkpoint."""
        self.survival.ended(True)
        if self.world.rank in error.odd:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.world.rank == min(set(range(self.world.size)) - error.odd):
            who = format_ranks(sorted(error.odd))
            text = f"{error.found}\n{who} will be ended, and the others return to the newest checkpoint"
            print(f"allgrad: {text}", file=sys.stderr, flush=True)
        self.returns += 1

    # ---- a death ----

    def _go_on(self, *, announced: bool) -> None:
        """Recover, as often as it takes, and take the training to where the most advanced survivor is."""
        began, before = time.perf_counter(), self.world.size
        while True:
            try:
                self.survival.recover(announced=announced)
                self._rebuild()
                break
            except RankDiedError:
                announced = False
        seconds = time.perf_counter() - began
        self.recoveries.append({"step": self.trainer.progress.step, "ranks": self.world.size, "seconds": seconds})
        self._say(f"{before - self.world.size} of {before} ranks died; {self.world.size} go on", seconds)

    def _rebuild(self) -> None:
        """The state of the most advanced rank on all of them, and all that depends on the ranks made anew."""
        trainer, world = self.trainer, self.world
        if self.opening is not None:
            self._take_back(self.opening)
            self.opening = None
        places = world.all_gather(np.array([*self._position(), world.node], np.int64)).tolist()
        positions, nodes = [tuple(one[:-1]) for one in places], [one[-1] for one in places]
        leader, behind = most_advanced(positions)
        shadow = self._shadow()
        if shadow is not None and self.saved == self._position() == positions[leader]:
            shadow.restore()
        trainer.rebuild(holds=world.rank not in behind)
        self.shadow = self._shadow()  # that of memory which was left would keep it
        if behind:
            holding = {node for rank, node in enumerate(nodes) if rank not in behind}
            in_place = trainer.replica.placement.memory == "node" and holding == set(nodes)
            catch_up(trainer, leader, receives=world.rank in behind, in_place=in_place)
        self.outside, self.returns = None, positions[leader][0]
        if self.returns % 2:
            self._return()
        self.on_change()

    def _take_back(self, opening: _Opening) -> None:
        """Let the counters be those from before the step."""
        trainer = self.trainer
        trainer.loader.load_state_dict(opening.data)
        trainer.model.load_buffers_state(opening.buffers)
        trainer.optimizer.steps.update(opening.steps)
        trainer.optimizer.forget_plan()
        if trainer.ema is not None:
            trainer.ema.updates = opening.averages

    def _return(self) -> None:
        """Load the newest checkpoint, in which all ranks agreed."""
        trainer, checkpoints = self.trainer, self.trainer.directory / "checkpoints"
        if trainer.writer is not None:
            trainer.writer.wait()
        newest = load_latest(checkpoints)[0] if self.world.rank == 0 else None
        trainer.go_back_to(broadcast_checkpoint(self.world, newest, checkpoints))
        self.returns += 1

    def _position(self) -> Position:
        if self.outside is not None:
            return _NOWHERE
        progress = self.trainer.progress
        return self.returns, len(progress.rollbacks), progress.step, progress.evaluated

    # ---- a replacement ----

    @property
    def joins(self) -> bool:
        """On rank 0: whether a replacement can join before the next step."""
        if self.pair is not None and self.pair.lost:
            print(f"allgrad: no replacement for a dead rank: {self.pair.error}", file=sys.stderr, flush=True)
            self.pair = None
        return self.pair is not None and self.pair.ready

    def admit(self) -> None:
        """Let the replacement in that rank 0 has; all ranks call it together, between two steps."""
        pair = self.pair or Pair()
        self.pair = None
        self._join(pair)
        self._replace()

    def _join(self, pair: Pair) -> None:
        began = time.perf_counter()
        if self.outside is not None and not pair.invited():
            raise NotNeededError
        self.survival.admit(pair)
        self._rebuild()
        self._say(f"a replacement joined; {self.world.size} ranks go on", time.perf_counter() - began)

    def _replace(self) -> None:
        """On rank 0: start a replacement if ranks are missing, once for each step."""
        step = self.trainer.progress.step
        missing = self.world.size < self.survival.wanted
        if self.words is None or self.world.rank or self.pair is not None or not missing or step == self._tried_at:
            return
        self._tried_at = step
        hello = {
            "config": self.trainer.config.model_dump_json(),
            "directory": str(self.trainer.directory),
            "wanted": self.survival.wanted,
            "properties": self.properties,
        }
        self.pair = Pair.start(self.words, hello)
        self.survival.changed = True

    def _say(self, text: str, seconds: float) -> None:
        if self.world.rank == 0:
            step = self.trainer.progress.step
            print(f"allgrad: {text} from step {step} (after {seconds:.2f} s)", file=sys.stderr, flush=True)


class NotNeededError(Exception):
    """Raised in a replacement: the job has ended, or lost the rank that started this one."""


def refuse(config: RunConfig, exchange: Exchange, world: World) -> None:
    """Raise `OptionError` if a run that shall survive cannot; on every rank."""
    reason = why_not(config, exchange) if world.survival is not None else ""
    if reason:
        raise OptionError(
            f"--survive is not possible: {reason}. Use the reduction exact without shard, or `allgrad supervise`, which "
            "starts the run again from its newest checkpoint."
        )
