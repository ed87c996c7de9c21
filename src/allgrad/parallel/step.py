"""One step of data parallelism: this rank's workers one after another, and their results summed over all workers.

Besides the gradients a step has two small sums over the workers, both over the fixed tree: the counts of the loss terms, started
before the first forward and needed in the first backward; and one vector of everything else (the terms' sums, which parameters
were used, the buffers), started after the last bucket and waited for together with it.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from allgrad import nn
from allgrad.comm import tree_sum
from allgrad.parallel.terms import TermNames, Terms
from allgrad.parallel.timing import StepTimes, WorkerTimes
from allgrad.parallel.worker_threads import WorkerThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from allgrad.comm import World
    from allgrad.parallel.buffers import WorkerBuffers
    from allgrad.parallel.parts import Parts
    from allgrad.parallel.reducer import Reducer


_NOTHING = nullcontext()


class StepResult(NamedTuple):
    """The results of a step, the same on every rank except for the times.

    Attributes:
        loss: the objective: the sum of the terms' means.
        terms: each term's mean over all that it counts; {"loss": ...} for a plain loss.
        counts: what was counted.
        unused: the parameters that no worker used; they have no gradient, and the optimizer skips them.
        seconds: the whole step on this rank, of which it waited `exposed_seconds` for communication after the last backward.
        times: when what happened; None with `record=False`.
    """

    loss: float
    terms: dict[str, float]
    counts: dict[str, float]
    unused: frozenset[str]
    seconds: float
    exposed_seconds: float
    times: StepTimes | None


class StepRunner:
    """Runs the steps of one replica.

    Args:
        model: the replica's.
        world: the ranks.
        reducer, buffers: of the replica.
        seed: of the layers' random numbers.
        threaded: whether the workers run as threads, because a layer communicates across workers.
        before_worker: called as before_worker(step, worker) before a worker's forward.
        record: whether results have times.

    Attributes:
        one_by_one: a loss, and why its workers must run one by one, as a batch has found out.
    """

    def __init__(
        self,
        model: nn.Module,
        world: World,
        reducer: Reducer,
        buffers: WorkerBuffers,
        *,
        seed: int,
        threaded: bool,
        before_worker: Callable[[int, int], None] | None,
        record: bool,
    ) -> None:
        self.model, self.world, self.reducer, self.buffers = model, world, reducer, buffers
        self.seed, self.threaded, self.before_worker, self.record = seed, threaded, before_worker, record
        self.term_names = TermNames(world)
        self.one_by_one: tuple[Any, str] = (None, "")

    def run(
        self,
        loss: Callable[[Any], Any],
        parts: Parts,
        step: int,
        *,
        sync: bool,
        accumulate: bool,
        batched: bool,
    ) -> StepResult:
        """One step.

        Args:
            loss: a worker's loss.
            parts: of this rank's workers.
            step: its number.
            sync: exchange the gradients; otherwise they stay where they are.
            accumulate: add to the gradients that earlier steps without `sync` left.
            batched: run the workers as one batch, if their parts fit together; only with `sync` and without `accumulate`.
        """
        start, reducer = self.world.clock(), self.reducer
        with reducer.step(step), self.buffers.step():
            whole = parts.whole() if batched else None
            batch = None if whole is None else (whole, nn.Workers(tuple(parts.lengths.values())))
            terms = Terms(
                loss, parts, batch,
                names=self.term_names, virtual_workers=reducer.virtual_workers, step=step,
                groups=reducer.exchange.groups,
            )  # fmt: skip
            work = _Work(loss, parts, batch, step, terms, sync, accumulate)
            self._run_workers(work)
            computed = self.world.clock()
            means, used = self._sum_up(terms, parts)
            if sync:
                buckets = reducer.finish(used)
            else:
                buckets = []
                reducer.publish(())
        times = StepTimes(step, start, computed, self.world.clock(), tuple(buckets), tuple(work.times))
        return self._result(terms, means, used, times)

    def _result(
        self,
        terms: Terms,
        means: dict[str, float],
        used: set[str],
        times: StepTimes,
    ) -> StepResult:
        return StepResult(
            loss=sum(means.values()),
            terms=means,
            counts=terms.denominators,
            unused=frozenset(self.reducer.names) - used,
            seconds=times.end - times.start,
            exposed_seconds=times.exposed,
            times=times if self.record else None,
        )

    # The workers.

    def _run_workers(self, work: _Work) -> None:
        order = self.reducer.plan.order
        if work.batch is not None and self._run_batch(work, *work.batch):
            return
        if self.threaded:
            self._run_threads(work)
        for position, worker in enumerate(order):
            if not self.threaded:
                with self.reducer.worker(position, accumulate=work.accumulate), self.buffers.worker(worker):
                    self._run_worker(work, worker, overlap=work.sync and position == len(order) - 1)
            if work.sync:
                self.reducer.add(position)

    def _run_batch(self, work: _Work, whole: Any, workers: nn.Workers) -> bool:
        """All workers as one batch; see `batching.py`. False if they must run one by one."""
        lengths = work.parts.lengths
        with (
            nn.batched_workers(workers),
            nn.worker_streams(seed=self.seed, step=work.step, workers=lengths, model=self.model),
        ):
            start = self.world.clock()
            try:
                values = work.loss(whole)
                work.terms.take_batch(values)
                self.buffers.batch(workers)
            except Exception as error:  # running them one by one finds it again, and names the worker
                if isinstance(error, nn.OneByOneError):
                    self.one_by_one = (work.loss, str(error))
                self.buffers.restore()
                return False
            with self.reducer.batch():
                root = work.terms.batch_objective(values)
                forward = self.world.clock()
                if root is not None:
                    cotangent = np.empty(root.shape, root.dtype)
                    cotangent.fill(1)
                    with self.reducer.overlap():
                        root.backward(cotangent)
            self.reducer.add_batch()
            work.times.append(WorkerTimes(min(lengths), start, forward, self.world.clock(), len(lengths)))
        return True

    def _run_threads(self, work: _Work) -> None:
        """Workers that communicate in the middle of a step: see `worker_threads.py`."""
        order = self.reducer.plan.order
        workers = sorted(order)

        @contextmanager
        def active(index: int) -> Iterator[None]:
            position, worker = order.index(workers[index]), workers[index]
            with self.reducer.worker(position, accumulate=work.accumulate), self.buffers.worker(worker):
                yield

        threads = WorkerThreads(self.world, self.reducer.virtual_workers, active)
        with nn.cross_worker_sum(threads.all_reduce):
            tasks = [partial(self._run_worker, work, w, overlap=False) for w in workers]
            threads.run(tasks, [not work.parts.lengths[w] for w in workers])

    def _run_worker(self, work: _Work, worker: int, *, overlap: bool) -> None:
        """One worker's forward and backward; with `overlap`, buckets are posted during the backward."""
        if self.before_worker is not None:
            self.before_worker(work.step, worker)
        if not work.parts.lengths[worker]:
            return
        with nn.random_stream(seed=self.seed, step=work.step, worker=worker, model=self.model):
            start = self.world.clock()
            root, cotangent = work.terms.objective(worker, work.loss(work.parts[worker]))
            if root is None:
                return
            forward = self.world.clock()
            with self.reducer.overlap() if overlap else _NOTHING:
                root.backward(cotangent)
            work.times.append(WorkerTimes(worker, start, forward, self.world.clock()))

    # The results.

    def _sum_up(self, terms: Terms, parts: Parts) -> tuple[dict[str, float], set[str]]:
        """The mean of each term over all workers, and the parameters that some worker used. Merges the buffers."""
        names, n_terms = self.reducer.names, len(terms.names)
        n_uses = len(names)
        buffers = self.buffers.rows(parts.lengths)
        rows = np.zeros((len(parts), n_terms + n_uses + buffers.shape[1]))
        rows[:, :n_terms] = terms.sums
        rows[0, n_terms : n_terms + n_uses] = self.reducer.used()
        rows[:, n_terms + n_uses :] = buffers
        summed = tree_sum(self.world, rows, virtual_workers=self.reducer.virtual_workers)
        terms.denominators  # noqa: B018 - a step in which nothing was counted must fail before buffers are merged
        self.buffers.merge(summed[n_terms + n_uses :])
        uses = summed[n_terms : n_terms + n_uses].tolist()
        used = {name for name, count in zip(names, uses, strict=True) if count}
        return terms.means(summed[:n_terms].tolist()), used


@dataclass
class _Work:
    """What the workers of a step have to do; see `StepRunner.run`."""

    loss: Callable[[Any], Any]
    parts: Parts
    batch: tuple[Any, nn.Workers] | None
    step: int
    terms: Terms
    sync: bool
    accumulate: bool
    times: list[WorkerTimes] = field(default_factory=list)
