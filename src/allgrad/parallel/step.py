"""One step of `DataParallel`: this rank's workers one after another, and what they found summed over all of them.

Besides the gradients a step has two small sums over the workers, both over the fixed tree: the counts of the loss terms, started
before the first forward and needed in the first backward; and one vector of everything else (the terms' sums, which parameters
were used, the buffers), started behind the last bucket and waited for together with it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad import nn
from allgrad.autodiff import Tensor
from allgrad.autodiff.containers import flatten as flatten_containers
from allgrad.comm import tree_sum
from allgrad.comm.sums import tree_sum_later
from allgrad.parallel.timing import StepTimes
from allgrad.parallel.workers import Meeting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from allgrad.parallel.data_parallel import DataParallel


@dataclass(frozen=True)
class StepResult:
    """What a step found, the same on every rank but for the times.

    Attributes:
        loss: the objective: the sum of the terms' means.
        terms: each term's mean over all that it counts; {"loss": ...} for a plain loss.
        counts: what was counted.
        unused: the parameters that no worker used; they have no gradient, and the optimizer skips them.
        seconds: of this rank, for the whole step; `exposed_seconds` of it went into waiting for communication
            after the last backward.
        times: when what happened; None where `record=False`.
    """

    loss: float
    terms: dict[str, float]
    counts: dict[str, float]
    unused: frozenset[str]
    seconds: float
    exposed_seconds: float
    times: StepTimes | None


class Step:
    """One step: `Step(replica, loss, parts, number).run()`. If it raises, the caller calls `abandon`."""

    def __init__(
        self, replica: DataParallel, loss: Callable[[Any], Any], parts: Mapping[int, Any], number: int
    ) -> None:
        self.start = time.perf_counter()
        self.replica, self.loss, self.parts, self.number = replica, loss, parts, number
        self.world, self.virtual_workers, self.reducer = replica.world, replica.virtual_workers, replica.reducer
        self.lengths = {w: samples_of(parts[w]) for w in replica.workers}
        self.sums: dict[int, dict[str, float]] = {}
        self._known: dict[str, float] | None = None

    def run(self) -> StepResult:
        self.reducer.begin_step(self.number)
        self._count()
        self._workers()
        computed = time.perf_counter()
        result = self._sum_up()
        buckets = self.reducer.wait() if self.replica.syncing else []
        self.reducer.publish(result["used"] if self.replica.syncing else ())
        end = time.perf_counter()
        offset = 0.0 if self.replica.engine is None else self.replica.engine.offset
        times = (self.start + offset, computed + offset, end + offset)
        return StepResult(
            loss=sum(result["terms"].values()),
            terms=result["terms"],
            counts=self.denominators,
            unused=frozenset(self.reducer.names) - result["used"],
            seconds=end - self.start,
            exposed_seconds=end - computed,
            times=StepTimes(self.number, *times, tuple(buckets)) if self.replica.record else None,
        )

    def abandon(self) -> None:
        """Undo what a step that failed has begun."""
        self.reducer.abandon()
        self.replica.buffers.restore()

    # What is counted.

    def _count(self) -> None:
        counts_of = getattr(self.loss, "counts", None)
        if counts_of is None:
            self.counts = {w: {"loss": float(n)} if n else {} for w, n in self.lengths.items()}
        else:
            self.counts = {w: counts_of(self.parts[w]) if n else {} for w, n in self.lengths.items()}
        self.names = ["loss"] if counts_of is None else self._term_names()
        rows = [[float(counts.get(name, 0.0)) for name in self.names] for counts in self.counts.values()]
        self._counting = tree_sum_later(
            self.world, np.array(rows).reshape(len(rows), -1), virtual_workers=self.virtual_workers
        )

    def _term_names(self) -> list[str]:
        """The terms of this loss, agreed on by all ranks at its first step: a rank may have empty workers only."""
        known = self.replica.known_terms
        if known is None or known[0] is not self.loss:
            mine = sorted({name for counts in self.counts.values() for name in counts})
            names = sorted({name for each in self.world.all_gather_json(mine) for name in each})
            known = self.replica.known_terms = (self.loss, names)
        return known[1]

    @property
    def denominators(self) -> dict[str, float]:
        """Each term's count over all workers. First asked for by the first backward: the sum hides behind a forward."""
        if self._known is None:
            self._known = dict(zip(self.names, self._counting().tolist(), strict=True))
            if not any(self._known.values()):
                raise ValueError(f"step {self.number}: no worker has a sample; there is nothing to learn from.")
        return self._known

    # The workers.

    def _workers(self) -> None:
        replica, reducer, order = self.replica, self.reducer, self.reducer.plan.order
        replica.buffers.open()
        if replica.threaded:
            self._together(order)
        for position, worker in enumerate(order):
            if not replica.threaded:
                reducer.begin(position, keep=replica.accumulated)
                self._alone(worker, last=position == len(order) - 1)
                reducer.pause(position)
            if replica.syncing:
                reducer.end(position)
        for worker in order:
            if not self.lengths[worker]:
                replica.buffers.leave_out(worker)

    def _alone(self, worker: int, *, last: bool) -> None:
        buffers = self.replica.buffers
        buffers.enter(worker)
        self._one(worker, overlap=last and self.replica.syncing)
        buffers.leave(worker)

    def _together(self, order: Sequence[int]) -> None:
        """Workers that meet in a layer: see `workers.Meeting`."""
        reducer, buffers = self.reducer, self.replica.buffers
        at: list[int] = []  # the position that moves now
        begun: set[int] = set()

        def switch(position: int) -> None:
            if at:
                reducer.pause(at[0])
                buffers.leave(order[at[0]])
            reducer.begin(position, keep=position in begun or self.replica.accumulated)
            if position in begun:
                buffers.resume(order[position])
            begun.add(position)
            at[:] = [position]

        workers = sorted(order)
        meeting = Meeting(self.world, self.virtual_workers, lambda i: switch(order.index(workers[i])))
        with nn.cross_worker_sum(meeting.meet):
            tasks = [partial(self._one, w, overlap=False) for w in workers]
            meeting.run(tasks, [not self.lengths[w] for w in workers])
        reducer.pause(at[0])
        buffers.leave(order[at[0]])

    def _one(self, worker: int, *, overlap: bool) -> None:
        """One worker's forward and backward; with `overlap` buckets are posted during the backward."""
        replica, part = self.replica, self.parts[worker]
        if replica.before_worker is not None:
            replica.before_worker(self.number, worker)
        if not self.lengths[worker]:
            self.sums[worker] = {}
            return
        with nn.random_stream(seed=replica.seed, step=self.number, worker=worker, model=replica.model):
            out = self.loss(part)
            root, cotangent = self._terms(worker, out) if isinstance(out, dict) else self._mean(worker, out)
            if root is None:
                return
            if overlap:
                self.reducer.arm()
            root.backward(cotangent)

    def _mean(self, worker: int, mean: Any) -> tuple[Tensor, Any]:
        if not isinstance(mean, Tensor) or mean.size != 1 or set(self.counts[worker]) != {"loss"}:
            raise TypeError(
                "The loss must return a Tensor with a single number, the mean over the part's samples, or a dict of sums "
                f"together with a method counts(part). Got {type(mean).__name__} of shape {np.shape(mean)} instead."
            )
        count = self.counts[worker]["loss"]
        self.sums[worker] = {"loss": float(mean.item()) * count}
        return mean, np.full(mean.shape, count / self.denominators["loss"], mean.dtype)

    def _terms(self, worker: int, terms: dict[str, Any]) -> tuple[Tensor | None, None]:
        if sorted(terms) != sorted(self.counts[worker]):
            raise TypeError(
                f"The loss returned the terms {sorted(terms)}, but its counts(part) names {sorted(self.counts[worker])}."
            )
        wrong = [name for name, term in terms.items() if not isinstance(term, Tensor) or term.size != 1]
        if wrong:
            raise TypeError(
                f"The terms of a loss must be Tensors with a single number each, sums over what the term counts. Got "
                f"{type(terms[wrong[0]]).__name__} of shape {np.shape(terms[wrong[0]])} for {wrong[0]!r} instead."
            )
        self.sums[worker] = {name: float(term.item()) for name, term in terms.items()}
        total: Any = None
        for name, term in terms.items():
            if self.denominators[name]:
                scaled = term * term.dtype.type(1.0 / self.denominators[name])
                total = scaled if total is None else total + scaled
        return total, None

    # What was found.

    def _sum_up(self) -> dict[str, Any]:
        """Sum the terms and the uses over all workers, and merge the buffers."""
        replica, names = self.replica, self.reducer.names
        buffers = replica.buffers.rows()
        terms, uses = len(self.names), len(names)
        rows = np.zeros((len(replica.workers), terms + uses + buffers.shape[1]))
        for row, worker in zip(rows, replica.workers, strict=True):
            row[:terms] = [self.sums[worker].get(name, 0.0) for name in self.names]
        rows[0, terms : terms + uses] = self.reducer.used()
        rows[:, terms + uses :] = buffers
        summed = tree_sum(self.world, rows, virtual_workers=self.virtual_workers)
        replica.buffers.merge(summed[terms + uses :])
        sums = dict(zip(self.names, summed[:terms].tolist(), strict=True))
        counts = self.denominators
        return {
            "terms": {name: value / counts[name] for name, value in sums.items() if counts[name]},
            "used": {name for name, count in zip(names, summed[terms : terms + uses].tolist(), strict=True) if count},
        }


def samples_of(part: Any) -> int:
    """The number of samples in a part: the length of its arrays; 0 for None.

    >>> samples_of((np.zeros((3, 2)), np.zeros(3))), samples_of(None)
    (3, 0)
    """
    arrays = flatten_containers(part)[0]
    return max((len(a) if np.ndim(a) else 1 for a in arrays), default=0)
