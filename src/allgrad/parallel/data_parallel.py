"""`DataParallel`: one replica a rank, V virtual workers over all ranks, the same bits at any rank count.

    world = comm.init()
    model = nn.models.MLP(...)
    replica = parallel.DataParallel(model, world, virtual_workers=8)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(batches):                 # the same global batches on every rank
        result = replica.step(loss, replica.split(batch), step)
        optimizer.step()
        print(result.loss)

where `loss(part)` computes a worker's loss from its part of the batch. A step runs this rank's workers one after another, forward
and backward, each from the same opening state and with its own stream of random numbers, and sums gradients, loss, and buffers
over the fixed tree. What a worker computes depends on its part, on the step and on its number; not on the rank.

**What a loss is.** Either a Tensor, the mean over the part's samples; or a dict of named terms, each the *sum* over whatever
the term counts, from an object that also has a method `counts(part) -> {name: number}`. The objective is the sum over terms of
(sum over all workers) / (count over all workers), so workers with unequal counts (masked tokens, a short last batch, interior
and boundary points) weigh rightly, which a mean of means does not. Counts are summed before the first backward.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad import nn
from allgrad.autodiff import Tensor
from allgrad.autodiff.containers import flatten as flatten_containers
from allgrad.comm import Engine, block, tree_sum
from allgrad.memory import flatten
from allgrad.parallel.buckets import plan_buckets
from allgrad.parallel.buffers import WorkerBuffers
from allgrad.parallel.reducer import Reducer
from allgrad.parallel.workers import Meeting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from allgrad.comm import World


@dataclass(frozen=True)
class StepResult:
    """What a step found, the same on every rank.

    Attributes:
        loss: the objective: the sum of the terms' means.
        terms: each term's mean over all that it counts; {"loss": ...} for a plain loss.
        counts: what was counted.
        unused: the parameters that no worker used; they have no gradient, and the optimizer skips them.
        seconds: of this rank, for the whole step; `exposed_seconds` of it went into waiting for communication
            after the last backward.
    """

    loss: float
    terms: dict[str, float]
    counts: dict[str, float]
    unused: frozenset[str]
    seconds: float
    exposed_seconds: float


class DataParallel:
    """Data parallelism for one model; see the top of this file.

    Args:
        model: the same on every rank.
        world: from `comm.init()`.
        virtual_workers: V, into which every batch is cut; at least the number of ranks, which is its default.
        bucket_mb, first_bucket_mb: the sizes in which gradients travel.
        reduction: "exact": the fixed tree. "mpi": MPI's own all-reduce, whose bits depend on the number of ranks.
        comm: "auto", or "thread" or "polling" to force who drives MPI.
        seed: of the layers' random numbers.
        groups: a number for each parameter: members of a group become neighbours in memory (optimizer groups).
        weights: "broadcast" rank 0's initial weights, or "verify" that all ranks have the same.
        before_worker: called as before_worker(step, worker) before a worker's forward (debuggers, progress).

    Raises:
        ValueError: there are more ranks than virtual workers.
        DisagreementError: the ranks' models differ: on every rank, naming ranks and parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        world: World,
        *,
        virtual_workers: int | None = None,
        bucket_mb: float = 25.0,
        first_bucket_mb: float = 1.0,
        reduction: Literal["exact", "mpi"] = "exact",
        comm: Literal["auto", "thread", "polling"] = "auto",
        seed: int = 0,
        groups: Sequence[int] | None = None,
        weights: Literal["broadcast", "verify"] = "broadcast",
        before_worker: Callable[[int, int], None] | None = None,
    ) -> None:
        self.model, self.world, self.seed = model, world, seed
        self.total = world.size if virtual_workers is None else virtual_workers
        self.workers = block(world.rank, world.size, self.total)
        self.before_worker = before_worker
        self.flat = flatten(model.named_parameters(), groups)
        world.verify({"model layout": self.flat.layout.digest(), "virtual workers": str(self.total)})
        self._agree_on_weights(weights)
        self.engine = _engine(world, comm)
        self._meets = any(module.meets_workers for module in model.modules())
        self._syncing = True
        self._accumulated = False
        self._used: set[str] = set()
        self._terms: tuple[Any, list[str]] | None = None
        buckets = plan_buckets(self.flat.layout, bucket_mb, first_bucket_mb)
        self.reducer = Reducer(
            self.flat, world, self.engine, total=self.total, buckets=buckets, reduction=reduction, separate=self._meets
        )
        self.buffers = WorkerBuffers(model, world, self.total)

    def _agree_on_weights(self, how: str) -> None:
        names = list(self.flat.leaves)
        if how == "verify":
            self.world.verify_arrays({name: self.flat.params[name] for name in names}, "initial weights")
            return
        if how != "broadcast":
            raise ValueError(
                f"The weights parameter of DataParallel must be 'broadcast' or 'verify'. Got {how!r} instead."
            )
        for array in self.flat.params.flat.values():
            self.world.broadcast(array)
        self.flat.touch()

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.parameters()

    def split(self, batch: Any) -> dict[int, Any]:
        """This rank's workers' parts of a global batch: nested arrays, cut along their first axis by the fixed rule."""
        arrays, build = flatten_containers(batch)
        rows = {len(a) for a in arrays}
        if len(rows) != 1:
            raise ValueError(f"split: the arrays of a batch must be equally long. Got lengths {sorted(rows)} instead.")
        size = rows.pop()
        cuts = {w: slice(w * size // self.total, (w + 1) * size // self.total) for w in self.workers}
        return {w: build([a[cut] for a in arrays]) for w, cut in cuts.items()}

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Steps inside add to each worker's gradient and communicate nothing; the next step outside reduces the sum."""
        if not self.reducer.separate:
            self.reducer = self.reducer.with_separate_arenas()
        self._syncing = False
        try:
            yield
        finally:
            self._syncing = True

    def step(self, loss: Callable[[Any], Any], parts: Mapping[int, Any], step: int) -> StepResult:
        """Forward, backward and reduction of one global batch; afterwards every parameter's `.grad` is the objective's.

        Args:
            loss: a worker's loss as described on top of this file.
            parts: worker -> its part, for the workers of this rank; None or a part of length 0 is an empty worker.
            step: the number of the step, which names the random numbers.

        Raises:
            ValueError: `parts` are not those of this rank's workers, or nothing at all was counted.
        """
        start = time.perf_counter()
        if sorted(parts) != list(self.workers):
            raise ValueError(
                f"step: rank {self.world.rank} runs the workers {list(self.workers)}. Got parts for {sorted(parts)} instead."
            )
        run = _Run(self, loss, parts, step)
        self.reducer.begin_step(step)
        run.workers()
        self._used |= self.reducer.used
        self._accumulated = not self._syncing
        computed = time.perf_counter()
        if self._syncing:
            self.reducer.wait()
        end = time.perf_counter()
        return run.result(end - start, end - computed)


class _Run:
    """One step of `DataParallel`."""

    def __init__(self, replica: DataParallel, loss: Callable[[Any], Any], parts: Mapping[int, Any], step: int) -> None:
        self.replica, self.loss, self.parts, self.step = replica, loss, parts, step
        self.world, self.total = replica.world, replica.total
        counts_of = getattr(loss, "counts", _samples)
        self.counts = {w: counts_of(parts[w]) if _length(parts[w]) else {} for w in replica.workers}
        self.names = self._term_names()
        rows = [[float(self.counts[w].get(name, 0.0)) for name in self.names] for w in replica.workers]
        summed = tree_sum(self.world, np.array(rows).reshape(len(rows), -1), total=self.total)
        self.denominators = dict(zip(self.names, summed.tolist(), strict=True))
        if not any(self.denominators.values()):
            raise ValueError(f"step {step}: no worker has a sample; there is nothing to learn from.")
        self.sums: dict[int, dict[str, float]] = {}

    def _term_names(self) -> list[str]:
        """The terms of this loss, agreed on by all ranks at its first step: a rank may have empty workers only."""
        if not hasattr(self.loss, "counts"):
            return ["loss"]
        known = self.replica._terms
        if known is None or known[0] is not self.loss:
            mine = sorted({name for counts in self.counts.values() for name in counts})
            names = sorted({name for each in self.world.all_gather_json(mine) for name in each})
            known = self.replica._terms = (self.loss, names)
        return known[1]

    def workers(self) -> None:
        replica = self.replica
        order = replica.reducer.plan.order
        replica.buffers.open()
        if replica._meets:
            self._together(order)
        else:
            for position, worker in enumerate(order):
                last = position == len(order) - 1
                replica.reducer.begin(position, last=last and replica._syncing, keep=replica._accumulated)
                self._one(worker)
                replica.reducer.end(position, last=last)
        for worker in order:
            if not _length(self.parts[worker]):
                replica.buffers.leave_out(worker)

    def _together(self, order: Sequence[int]) -> None:
        """Workers that meet in a layer: see `workers.Meeting`."""
        reducer, buffers = self.replica.reducer, self.replica.buffers
        at: list[int] = []  # the position that moves now
        begun: set[int] = set()

        def switch(position: int) -> None:
            if at:
                reducer.pause(at[0])
                buffers.leave(order[at[0]])
            reducer.begin(position, last=False, keep=position in begun or self.replica._accumulated)
            if position in begun:
                buffers.resume(order[position])
            begun.add(position)
            at[:] = [position]

        workers = sorted(order)
        meeting = Meeting(self.world, self.total, lambda i: switch(order.index(workers[i])))
        with nn.cross_worker_sum(meeting.meet):
            meeting.run([partial(self._one, w) for w in workers], [not _length(self.parts[w]) for w in workers])
        reducer.pause(at[0])
        buffers.leave(order[at[0]])
        for position in range(len(order)):
            reducer.note_used(position)

    def _one(self, worker: int) -> None:
        """One worker's forward and backward."""
        replica, part = self.replica, self.parts[worker]
        if replica.before_worker is not None:
            replica.before_worker(self.step, worker)
        if not _length(part):
            self.sums[worker] = {}
            return
        if not replica._meets:
            replica.buffers.enter(worker)
        with nn.random_stream(seed=replica.seed, step=self.step, worker=worker):
            out = self.loss(part)
            if isinstance(out, dict):
                self._backward_terms(worker, out)
            else:
                self._backward_mean(worker, out)
        if not replica._meets:
            replica.buffers.leave(worker)

    def _backward_mean(self, worker: int, mean: Any) -> None:
        if not isinstance(mean, Tensor) or mean.size != 1 or set(self.counts[worker]) != {"loss"}:
            raise TypeError(
                "The loss must return a Tensor with a single number, the mean over the part's samples, or a dict of sums "
                f"together with a method counts(part). Got {type(mean).__name__} of shape {np.shape(mean)} instead."
            )
        count = self.counts[worker]["loss"]
        self.sums[worker] = {"loss": float(mean.item()) * count}
        mean.backward(np.full(mean.shape, count / self.denominators["loss"], mean.dtype))

    def _backward_terms(self, worker: int, terms: dict[str, Any]) -> None:
        if sorted(terms) != sorted(self.counts[worker]):
            raise TypeError(
                f"The loss returned the terms {sorted(terms)}, but its counts(part) names {sorted(self.counts[worker])}."
            )
        self.sums[worker] = {name: float(term.item()) for name, term in terms.items()}
        total: Any = None
        for name, term in terms.items():
            if self.denominators[name]:
                scaled = term * term.dtype.type(1.0 / self.denominators[name])
                total = scaled if total is None else total + scaled
        total.backward()

    def result(self, seconds: float, exposed: float) -> StepResult:
        """Sum the terms and the uses over all workers, merge the buffers, and show the gradients."""
        replica = self.replica
        names = list(replica.flat.leaves)
        rows = np.zeros((len(replica.workers), len(self.names)))
        for row, worker in zip(rows, replica.workers, strict=True):
            row[:] = [self.sums[worker].get(name, 0.0) for name in self.names]
        uses = np.array([float(name in replica._used) for name in names])
        merged = replica.buffers.rows()
        packed = np.zeros((len(rows), rows.shape[1] + uses.size + merged.shape[1]))
        packed[:, : rows.shape[1]] = rows
        packed[0, rows.shape[1] : rows.shape[1] + uses.size] = uses
        packed[:, rows.shape[1] + uses.size :] = merged
        summed = tree_sum(self.world, packed, total=self.total)
        sums, uses, merged = np.split(summed, [rows.shape[1], rows.shape[1] + uses.size])
        replica.buffers.merge(merged)
        used = {name for name, count in zip(names, uses, strict=True) if count}
        if replica._syncing:
            replica.reducer.publish(used)
            replica._used = set()
        terms = {
            n: s / self.denominators[n] for n, s in zip(self.names, sums.tolist(), strict=True) if self.denominators[n]
        }
        return StepResult(
            sum(terms.values()), terms, self.denominators, frozenset(names) - frozenset(used), seconds, exposed
        )


def _engine(world: World, comm: str) -> Engine | None:
    modes: dict[str, Literal["thread", "poll"] | None] = {"auto": None, "thread": "thread", "polling": "poll"}
    if comm not in modes:
        raise ValueError(f"The comm parameter of DataParallel must be one of {list(modes)}. Got {comm!r} instead.")
    if world.size == 1:
        return None
    return world.engine or Engine(world, mode=modes[comm])


def _length(part: Any) -> int:
    """The number of samples in a part: the length of its arrays."""
    arrays = flatten_containers(part)[0]
    return max((len(a) if np.ndim(a) else 1 for a in arrays), default=0)


def _samples(part: Any) -> dict[str, float]:
    return {"loss": float(_length(part))}
