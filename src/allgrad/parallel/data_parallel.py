"""`DataParallel`: one replica per rank, V virtual workers over all ranks, the same bits at any rank count.

    world = comm.init()
    model = nn.models.MLP(...)
    replica = parallel.DataParallel(model, world, virtual_workers=8)
    optimizer = optim.AdamW(model.parameters(), lr=1e-3)
    for step, batch in enumerate(batches):                 # the same global batches on every rank
        result = replica.step(loss, replica.split(batch), step)
        optimizer.step()
        print(result.loss)

`loss(part)` computes one worker's loss from its part of the batch. A step runs this rank's workers one after another, forward
and backward, each from the same opening state and with its own stream of random numbers. It sums gradients, losses and buffers
over the fixed tree. What a worker computes depends on its part, on the step and on its number, but not on the rank.

**What a loss is.** Either a Tensor, the mean over the part's samples; or a dict of named terms, each the *sum* over whatever
the term counts, from an object that also has a method `counts(part) -> {name: number}`. The objective is the sum over terms of
(sum over all workers) / (count over all workers). So workers with unequal counts (masked tokens, a short last batch, interior
and boundary points) get the right weight, which a mean of means would not give them.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from allgrad.autodiff.containers import flatten as flatten_containers
from allgrad.comm import NodeMemory, block
from allgrad.comm.tree import cut
from allgrad.memory import PRIVATE, flatten
from allgrad.optim import LBFGS
from allgrad.parallel.batching import model_reason, step_reason
from allgrad.parallel.buckets import default_bucket_mb, plan_buckets
from allgrad.parallel.buffers import WorkerBuffers
from allgrad.parallel.exchanges import (
    Clipping,
    ExactExchange,
    ExchangeError,
    NodeExchange,
    NodeShardedExchange,
    ShardedExchange,
    describe_exchange,
    make_exchange,
)
from allgrad.parallel.parameter_guard import ParameterGuard
from allgrad.parallel.parts import Parts, SeparateParts
from allgrad.parallel.placement import choose_placement
from allgrad.parallel.reducer import Reducer
from allgrad.parallel.step import StepResult, StepRunner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from allgrad import nn
    from allgrad.comm import World
    from allgrad.memory import Arena
    from allgrad.optim import Optimizer
    from allgrad.parallel.exchanges import Exchange
    from allgrad.stateful import Stateful

_MODES: dict[str, Literal["thread", "poll"] | None] = {"auto": None, "thread": "thread", "polling": "poll"}


class DataParallel:
    """Data parallelism for one model; see the top of this file.

    Args:
        model: the same on every rank, with parameters in float32 or float64.
        world: from `comm.init()`.
        virtual_workers: V, the number of parts into which every batch is cut; at least the number of ranks, its default.
        bucket_mb, first_bucket_mb: the sizes in which gradients travel, in MiB. Default of bucket_mb: 1 between nodes, 25
            inside one.
        reduction: how gradients are summed over the ranks: the name of an exchange ("exact": the fixed tree; "mpi": MPI's
            own all-reduce, whose bits depend on the number of ranks), a mapping of `name` and options, or an `Exchange`.
        shard: "optimizer": each rank, or each node with `memory="node"`, keeps the optimizer's state of a part of the model;
            needs `attach` and `update`, and the exact reduction. Changes no bit.
        memory: "node": the ranks of a node share one copy of parameters and optimizer state (`placement.py`), "rank": each
            has its own, "auto": where it pays. Changes no bit. An optimizer is made after this object.
        comm: who drives MPI: "thread", "polling", or "auto": the thread if the MPI library allows it.
        seed: of the layers' random numbers.
        groups: a number for each parameter: members of a group become neighbours in memory (optimizer groups).
        weights: "broadcast" rank 0's initial weights and buffers, or "verify" that all ranks have the same.
        before_worker: called as before_worker(step, worker) before a worker's forward (debuggers, progress), where the workers
            run one by one.
        batched_workers: whether this rank's workers may run as one batch, where that gives the same bits (`batching.py`).
        record: measure when each bucket moved (`StepResult.times`).
        holds: None, or in a replica that is made again because the ranks have changed: whether this rank holds the values
            that all shall have. Parameters and optimizer state are then moved to where `memory` wants them, and the ranks
            that do not hold them get them in memory that they share with one that does; all others are to be given them.
        stall_seconds: if nothing moves in an unfinished reduction for so long, the job ends with a report of the ranks that
            are missing. Choose more than the longest time that ranks can be apart: a slow first batch, a full disk.

    Raises:
        ValueError: there are more ranks than virtual workers, or a bad argument.
        TypeError: a parameter is complex, or of another dtype that cannot be reduced.
        DisagreementError: the ranks' models or settings differ; on every rank, naming ranks and parameters.
    """

    def __init__(
        self,
        model: nn.Module,
        world: World,
        *,
        virtual_workers: int | None = None,
        bucket_mb: float | None = None,
        first_bucket_mb: float = 0.5,
        reduction: str | Mapping[str, Any] | Exchange = "exact",
        shard: Literal["optimizer"] | None = None,
        memory: Literal["auto", "node", "rank"] = "auto",
        comm: Literal["auto", "thread", "polling"] = "auto",
        seed: int = 0,
        groups: Sequence[int] | None = None,
        weights: Literal["broadcast", "verify"] = "broadcast",
        before_worker: Callable[[int, int], None] | None = None,
        batched_workers: bool = True,
        record: bool = True,
        stall_seconds: float | None = None,
        holds: bool | None = None,
    ) -> None:
        exchange = _sharded(reduction) if shard is not None else make_exchange(reduction)
        _one_of("memory", memory, "auto", "node", "rank")
        _one_of("weights", weights, "broadcast", "verify")
        _one_of("comm", comm, *_MODES)
        if world.engine is not None:
            world.engine.configure(mode=_MODES[comm], stall_seconds=stall_seconds)
        self.model, self.world = model, world
        self.virtual_workers = world.size if virtual_workers is None else virtual_workers
        _check_dtypes(model)
        exchange.check(model, world, self.virtual_workers)
        bucket_mb = default_bucket_mb(world.nodes) if bucket_mb is None else bucket_mb
        settings = {
            "virtual workers": self.virtual_workers, "seed": seed, "reduction": describe_exchange(reduction),
            "shard": shard, "memory": memory, "bucket_mb": bucket_mb, "first_bucket_mb": first_bucket_mb,
        }  # fmt: skip
        parameters = {f"parameter {name}": f"{p.dtype} {p.shape}" for name, p in model.named_parameters()}
        world.verify({name: str(value) for name, value in settings.items()} | parameters)
        self.workers = block(world.rank, world.size, self.virtual_workers)
        if weights == "verify" and holds is None:
            world.verify_arrays({name: p.value for name, p in model.named_parameters()}, "initial weights")
            world.verify_arrays(dict(model.named_buffers()), "initial buffer")
        self.placement = choose_placement(memory, model, world, exchange, moves=holds is not None)
        shared = NodeMemory(world) if self.placement.memory == "node" else None
        self.exchange = exchange if shared is None else _in_shared_memory(exchange, shared)
        self.flat = flatten(model.named_parameters(), groups, sharing=shared or PRIVATE)
        if holds is not None:
            self._move(shared, holds)
        world.verify({"layout of the parameters in memory": self.flat.layout.digest()})
        if weights == "broadcast" and holds is None:
            self._broadcast_weights()
        threaded = any(module.communicates_across_workers for module in model.modules())
        buckets = plan_buckets(self.flat.layout, bucket_mb, first_bucket_mb)
        self.reducer = Reducer(
            self.flat, world, self.exchange, virtual_workers=self.virtual_workers, buckets=buckets, separate=threaded
        )
        self.buffers = WorkerBuffers(model, world, self.virtual_workers)
        self._runner = StepRunner(
            model, world, self.reducer, self.buffers,
            seed=seed, threaded=threaded, before_worker=before_worker, record=record,
        )  # fmt: skip
        self._guard = ParameterGuard(model, self.flat)
        self._one_by_one = "" if batched_workers else "each worker is to be seen (debugger, anomaly detection)"
        self._model_reason = ""
        self._checked = -1
        self._sync, self._accumulated = True, False
        self._unused: frozenset[str] = frozenset()

    def _broadcast_weights(self) -> None:
        with self.flat.updating():  # in shared memory, all ranks of a node write the same numbers
            for array in (*self.flat.params.flat.values(), *dict(self.model.named_buffers()).values()):
                self.world.broadcast(array)
        self.flat.touch()

    def _move(self, shared: NodeMemory | None, holds: bool) -> None:
        """Move the parameters, unless each rank has its own and keeps them."""
        if shared is not None:
            everyone = self.world.all_gather(np.array([self.world.node, holds]))
            holders = [rank for rank, (node, has) in enumerate(everyone.tolist()) if has and node == self.world.node]
            self.flat.move(shared, fills=holders[:1] == [self.world.rank])
        elif self.flat.sharing is not PRIVATE:
            self.flat.move(PRIVATE, fills=holds)

    def parameters(self) -> Iterator[nn.Parameter]:
        return self.model.parameters()

    def split(self, batch: Any) -> Parts:
        """The parts of a global batch for this rank's workers: nested arrays, cut along their first axis."""
        arrays, build = flatten_containers(batch)
        rows = {len(a) for a in arrays}
        if len(rows) != 1:
            raise ValueError(f"split: the arrays of a batch must be equally long. Got lengths {sorted(rows)} instead.")
        cuts = cut(rows.pop(), self.virtual_workers)
        mine = slice(cuts[self.workers[0]].start, cuts[self.workers[-1]].stop)
        return self.parts(build([a[mine] for a in arrays]), [cuts[w].stop - cuts[w].start for w in self.workers])

    def parts(self, arrays: Any, lengths: Sequence[int]) -> Parts:
        """The parts of this rank's workers, given their samples behind each other and how many each worker has."""
        return Parts(arrays, dict(zip(self.workers, lengths, strict=True)))

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Steps inside add to each worker's gradient and communicate no gradient; the next step outside reduces the sum.

        Inside, `.grad` is None, and an optimizer would not move anything.
        """
        if not self.exchange.accumulates:
            raise ExchangeError(
                f"no_sync cannot be combined with {type(self.exchange).__name__}, which does not sum gradients over the ranks. "
                "Use a larger batch with more virtual workers instead: a rank runs them one after another."
            )
        self.reducer.keep_separate()
        before, self._sync = self._sync, False
        try:
            yield
        finally:
            self._sync = before

    def why_one_by_one(self, loss: Callable[[Any], Any]) -> str:
        """Why this rank's virtual workers run one after another with this loss; "" if they run as one batch (`batching.py`)."""
        self._guard.check()
        if self._checked != self._guard.changes:
            self._model_reason, self._checked = model_reason(self.model, len(self.workers)), self._guard.changes
        known, found = self._runner.one_by_one
        return (
            self._one_by_one
            or self.exchange.one_by_one
            or self._model_reason
            or step_reason(loss, self.reducer.leaves)
            or (found if known is loss else "")
        )

    def attach(self, optimizer: Optimizer) -> Stateful:
        """Let `update` take this optimizer's steps. Returns what a checkpoint stores as the optimizer.

        Raises:
            OptionError, ExchangeError: the exchange, or `update`, cannot work with this optimizer.
        """
        if isinstance(optimizer, LBFGS):
            raise ExchangeError(
                "attach: LBFGS evaluates a closure several times in a step, so DataParallel.update cannot take its steps. "
                "Call optimizer.step(closure) yourself, with the reduction exact and without shard."
            )
        return self.exchange.attach(optimizer)

    def update(self, *, clip_norm: float | None = None, clip_value: float | None = None) -> float | None:
        """Clip the gradients of the last step and take a step of the attached optimizer, as the exchange needs it.

        If every rank has all gradients (`exchange.synchronous`), calling the optimizer's own `step` is as good.

        Args:
            clip_norm, clip_value: limits, as in `optim.clip_norm` and `optim.clip_value`.

        Returns:
            The norm of the gradients before clipping, with `clip_norm`.

        Raises:
            RuntimeError: there is no attached optimizer.
        """
        if self.exchange.optimizer is None:
            raise RuntimeError("DataParallel.update takes the steps of an optimizer: call attach(optimizer) before it.")
        limits = Clipping(clip_norm, clip_value)
        return self.exchange.update(limits, unused=self._unused, used_by=self.reducer.used_by)

    def skip(self) -> None:
        """Call it in place of `update` after a step whose gradients are not finite. The weights do not move by them."""
        self.exchange.skip()

    @property
    def partial_gradients(self) -> Sequence[Arena]:
        """Memory of this rank in which a NaN of the last step may be, though `flat.grads` has none."""
        return [] if self.exchange.synchronous else self.reducer.arenas[1:]

    def step(self, loss: Callable[[Any], Any], parts: Mapping[int, Any], step: int) -> StepResult:
        """Forward, backward and reduction of one global batch; afterwards every parameter's `.grad` is the objective's.

        If it raises, all that the step has begun is dropped, gradients of earlier `no_sync` steps included: no parameter has a
        gradient, and buffers are as they were before. If all ranks failed alike, training can go on; if not, the next
        exchange finds it and says so.

        Args:
            loss: a worker's loss as described at the top of this file.
            parts: worker -> its part, for the workers of this rank; None or a part of length 0 is an empty worker.
            step: the number of the step, which determines the random numbers.

        Raises:
            ValueError: `parts` are not those of this rank's workers, nothing at all was counted, or the parameters of the
                model have changed since the start.
        """
        if sorted(parts) != list(self.workers):
            raise ValueError(
                f"step: rank {self.world.rank} runs the workers {list(self.workers)}. Got parts for {sorted(parts)} instead."
            )
        accumulate, self._accumulated = self._accumulated, False  # a step that fails drops what was accumulated
        batched = not self.why_one_by_one(loss) and self._sync and not accumulate
        parts = parts if isinstance(parts, Parts) else SeparateParts(parts)
        result = self._runner.run(loss, parts, step, sync=self._sync, accumulate=accumulate, batched=batched)
        self._accumulated = not self._sync
        self._unused = result.unused
        return result


def _sharded(reduction: str | Mapping[str, Any] | Exchange) -> Exchange:
    exchange = make_exchange(reduction)
    if not isinstance(exchange, ExactExchange):
        raise ExchangeError(
            f"shard='optimizer' sums gradients by itself, along the tree of the reduction exact. "
            f"Got {describe_exchange(reduction)} instead: use the reduction exact, or do not shard."
        )
    return ShardedExchange()


def _in_shared_memory(exchange: Exchange, memory: NodeMemory) -> Exchange:
    """What computes the same where ranks share memory. On one node, the optimizer's state is shared out by that alone."""
    sharded = isinstance(exchange, ShardedExchange) and memory.world.nodes > 1
    return NodeShardedExchange(memory) if sharded else NodeExchange(memory)


def _one_of(name: str, value: str, *allowed: str) -> None:
    if value not in allowed:
        raise ValueError(f"The {name} parameter of DataParallel must be one of {list(allowed)}. Got {value!r} instead.")


def _check_dtypes(model: nn.Module) -> None:
    wrong = [f"{name} ({p.dtype})" for name, p in model.named_parameters() if p.dtype.char not in "fd"]
    if wrong:
        raise TypeError(
            f"DataParallel reduces gradients in float32 or float64. Got {', '.join(wrong[:5])} instead. Keep a complex "
            "parameter as two real ones (real and imaginary part)."
        )
