"""The outer optimizer of local updates: the average of the replicas' moves, and the step that it makes of it.

With theta the weights from which the replicas set out,

    d = mean over replicas of (theta - weights of the replica)
    u = outer_momentum u + d
    theta = theta - outer_lr (d + outer_momentum u  if outer is nesterov, else  u)

The mean is a sum over the fixed tree of replicas. If several ranks compute a replica, each of them averages its part of d with
its peers in the other replicas, and then they give each other their parts: between replicas d travels once, whatever their
number. Parts have the same length on all ranks, so the last one may begin in the one before; what it has of that is not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from allgrad import kernels
from allgrad.comm.all_reduce import bytes_sent
from allgrad.comm.shards import Span, all_gather_spans
from allgrad.memory import Arena
from allgrad.parallel.exchanges.fragments import Fragment, cut_into_fragments
from allgrad.parallel.exchanges.worker_sums import sum_over_workers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from allgrad.comm import Group, World
    from allgrad.memory import FlatParameters

Array = np.ndarray[Any, np.dtype[Any]]


class OuterSettings(NamedTuple):
    """See `LocalExchange`."""

    inner_steps: int
    outer: Literal["nesterov", "sgd"]
    lr: float
    momentum: float
    fragments: int
    warmup_steps: int


class Outer:
    """The outer optimizer, the same on every rank.

    Args:
        world, flat: the ranks and the model.
        settings: those of the exchange.
        replicas: how many there are.
        mates: the ranks of this rank's replica, if there are several.
        peers: then one rank of each replica; every rank of a replica has its own.

    Attributes:
        theta: the weights from which the replicas set out.
        momentum: u.
    """

    def __init__(
        self,
        world: World,
        flat: FlatParameters,
        settings: OuterSettings,
        *,
        replicas: int,
        mates: Group | None,
        peers: Group | None,
    ) -> None:
        self._world, self._settings, self._replicas = world, settings, replicas
        self._mates, self._peers = mates, peers
        self._digest = f"{flat.layout.digest()} {settings.inner_steps} {settings.fragments}"
        self._cuts = cut_into_fragments(flat.layout, settings.fragments)
        self.theta, self.momentum = Arena(flat.layout), Arena(flat.layout)

    def due(self, done: int) -> Iterator[Fragment]:
        """The fragments whose turn it is after so many steps."""
        for number, fragment in enumerate(self._cuts):
            first = self._settings.warmup_steps + number * self._settings.inner_steps // self._settings.fragments
            if (done - first) % self._settings.inner_steps == 0:
                yield fragment

    def step(self, fragment: Fragment, weights: Sequence[Arena], done: int) -> None:
        """Average one fragment and make the step. `weights`: of this rank's replicas, which then continue from theta."""
        settings = self._settings
        for dtype, span in fragment.items():
            theta = self.theta.flat[dtype][span]
            move = self._average([theta - arena.flat[dtype][span] for arena in weights], span, done)
            kernels.active().sgd(
                theta,
                move,
                self.momentum.flat[dtype][span] if settings.momentum else None,
                first=False,
                lr=settings.lr,
                momentum=settings.momentum,
                dampening=0.0,
                nesterov=settings.outer == "nesterov" and settings.momentum > 0,
                weight_decay=0.0,
            )
            for arena in weights:
                arena.flat[dtype][span] = theta

    def _average(self, moves: list[Array], span: slice, done: int) -> Array:
        """The mean over all replicas of their moves, of which `moves` has those of this rank."""
        mates, label = self._mates, f"outer gradient from {span.start}"
        start, length = self._part(moves[0].size)
        parts = [move[start : start + length] for move in moves]
        handle = sum_over_workers(
            self._world,
            self._replicas,
            parts,
            parts[0],
            label=label,
            step=done,
            layout=self._digest,
            group=self._peers,
        )
        if handle is not None:
            handle.wait()
        found = moves[0]
        if mates is not None:
            spans = self._spans(found.size, mates)
            ranks = [span.owner for span in spans]
            all_gather_spans(self._world.transport, found, spans, label=label, step=done, peers=ranks).wait()
        found *= found.dtype.type(1 / self._replicas)
        return found

    def _part(self, size: int) -> tuple[int, int]:
        """Where the part begins that this rank averages with its peers, and its length."""
        if self._mates is None:
            return 0, size
        length = -(-size // self._mates.size)
        return min(self._mates.rank * length, size - length), length

    def _spans(self, size: int, mates: Group) -> list[Span]:
        """What each rank of this replica gives to the others."""
        _, length = self._part(size)
        cuts = [min(mate * length, size) for mate in range(mates.size + 1)]
        first = self._world.rank - mates.rank
        return [Span(first + mate, cuts[mate], cuts[mate + 1]) for mate in range(mates.size)]

    def bytes_per_step(self) -> float:
        """What this rank sends in a step for the averages, on average; the warm-up aside."""
        among, mates, sent = self._peers or self._world, self._mates, 0
        for size, itemsize in ((s.stop - s.start, dtype.itemsize) for cut in self._cuts for dtype, s in cut.items()):
            sent += bytes_sent(self._part(size)[1] * itemsize, among.rank, among.size, self._replicas)
            if mates is not None:
                own = self._spans(size, mates)[mates.rank]
                sent += (own.stop - own.start) * itemsize * (mates.size - 1)
        return sent / self._settings.inner_steps
