"""The exchange of `parallel.shard: optimizer`: each rank keeps the optimizer's state of a part of the model (ZeRO stage 1).

A step has three parts. Reduce-scatter: during backward, each bucket's sums go to the owners of its spans, along the fixed tree.
Update: each rank clips and updates the spans that it owns. All-gather: every rank gets all new parameters. The first and the
last send together what an all-reduce sends, and the last hides behind the next forward pass (`parallel/arriving.py`).

With `memory: node` the same happens between nodes only (`node_sharded.py`): a rank's peers are the ranks with its number on the
other nodes.

**Same bits.** Sums are those of the fixed tree, and an update is elementwise, or concerns whole parameters, which are then never
cut. A norm is summed in fixed blocks of a parameter (`optim/norms.py`): spans begin and end between blocks, so each block is
computed by one rank, and every rank adds up the same numbers in the same order.

**Memory.** The optimizer's arenas take address space for the whole model, but only the pages of the own spans are ever written,
and only those take memory. Gradients and parameters (and their average, `optimizer.ema`) stay whole on every rank. A checkpoint
has the whole state: rank 0 needs memory for it while it is written.

Reference: Rajbhandari, Rasley, Ruwase & He, "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (SC 2020),
arXiv 1910.02054, stage 1.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.comm.gather import to_rank_0
from allgrad.comm.shards import Span, all_gather_spans, spans_to_rank_0, tree_reduce_scatter
from allgrad.comm.tree import rank_nodes
from allgrad.kernels import active
from allgrad.memory import give_back_pages
from allgrad.optim import OptimizerState
from allgrad.optim.clip import clipping_factor
from allgrad.optim.norms import BLOCK
from allgrad.parallel.arriving import let_arrive
from allgrad.parallel.exchanges.base import Exchange, ExchangeError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from allgrad.comm import Handle, Node, World
    from allgrad.memory import FlatParameters, Layout
    from allgrad.optim import Optimizer
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients, Clipping
    from allgrad.stateful import Stateful

Array = np.ndarray[Any, np.dtype[Any]]


class SpanUpdates(Exchange):
    """What exchanges have in common in which each rank updates the spans of the buckets that it owns.

    Attributes:
        spans: for each bucket, its spans and who owns them.
        own: dtype -> this rank's spans of the flat arrays.
        peers: the ranks with which this rank exchanges spans, and the nodes of the tree that each of them sends.
    """

    same_bits = True
    why = "sums run over the fixed tree, and each part of the model is updated by one rank"
    synchronous = False

    spans: list[list[Span]]
    own: dict[np.dtype[Any], list[tuple[int, int]]]
    peers: dict[int, tuple[Node, ...]]

    def owners(self) -> list[int]:
        """The ranks that own something."""
        return list(range(self.world.size))

    def attach(self, optimizer: Optimizer) -> Stateful:
        """Share out the model, as the optimizer allows."""
        super().attach(optimizer)
        whole, owners = optimizer.needs_whole_parameters, self.owners()
        planned = plan_spans(self.flat.layout, self.buckets, len(owners), whole=whole)
        self.spans = [[Span(owners[owner], start, stop) for owner, start, stop in spans] for spans in planned]
        self.own = {dtype: [] for dtype in self.flat.layout.dtypes}
        for bucket, spans in zip(self.buckets, self.spans, strict=True):
            for owner, start, stop in spans:
                if owner == self.world.rank:
                    self.own[bucket.dtype].append((bucket.start + start, bucket.start + stop))
        return ShardedState(self, optimizer)

    def reduce_scatter(self, gradients: BucketGradients, step: int, ready: float, **settings: Any) -> None:
        """Start the sum of a bucket. `settings`: `nodes` and others of `tree_reduce_scatter`."""
        if self.optimizer is None:
            raise ExchangeError(
                "shard optimizer: call replica.attach(optimizer) once, and replica.update() after each step."
            )
        self._step = step
        if self.world.size == 1:
            return
        handle = tree_reduce_scatter(
            self.world.transport,
            out=gradients.out,
            spans=self.spans[gradients.bucket.index],
            virtual_workers=self.virtual_workers,
            label=gradients.bucket.label,
            step=step,
            layout=gradients.layout,
            ready=ready,
            guard=gradients.views,
            peers=self.peers,
            **settings,
        )
        self.handles.append(handle)

    def all_gather(self) -> list[tuple[Bucket, Handle]]:
        """Start to give all peers the new parameters; those that a forward needs first go first."""
        return [
            (
                bucket,
                all_gather_spans(
                    self.world.transport, bucket.of(self.flat.params.flat), spans,
                    label=bucket.label, step=self._step, peers=self.peers,
                ),
            )
            for bucket, spans in reversed(list(zip(self.buckets, self.spans, strict=True)))
            if self.world.size > 1
        ]  # fmt: skip

    def complete(self, gathers: list[tuple[Bucket, Handle]]) -> None:
        """Called after `all_gather`: parameters are complete when they are read."""
        let_arrive(self.flat, [(bucket.names, handle) for bucket, handle in gathers])

    def update(
        self,
        clipping: Clipping,
        *,
        unused: Collection[str],
        used_by: Callable[[Collection[int]], set[str]],  # noqa: ARG002 - all workers have the same weights
    ) -> float | None:
        """Clip and update the own spans, and get the other ones."""
        assert self.optimizer is not None
        self.flat.params  # noqa: B018 - those of the last update have arrived, though perhaps nobody read them
        norm = self._clip(clipping, unused)
        self.optimizer.step(unused, within=self.own)
        self.complete(self.all_gather())
        self.flat.touch()
        return norm

    def bytes_per_step(self) -> float | None:
        """What peers own, once for each of this rank's nodes; and what it owns, to every peer."""
        rank = self.world.rank
        if self.optimizer is None:
            return None
        return sum(
            (stop - start) * bucket.dtype.itemsize * (len(self.peers) - 1 if owner == rank else len(self.peers[rank]))
            for bucket, spans in zip(self.buckets, self.spans, strict=True)
            for owner, start, stop in spans
            if owner in self.peers
        )

    def _own_gradients(self) -> list[Array]:
        return [self.flat.grads.flat[dtype][start:stop] for dtype, parts in self.own.items() for start, stop in parts]

    def _clip(self, clipping: Clipping, unused: Collection[str]) -> float | None:
        norm = None if clipping.norm is None else self._norm(unused)
        factor = None if norm is None or clipping.norm is None else clipping_factor(norm, clipping.norm)
        for gradient in self._own_gradients():
            if factor is not None:
                gradient *= gradient.dtype.type(factor)
            if clipping.value is not None:
                np.clip(gradient, -clipping.value, clipping.value, out=gradient)
        return norm

    def _norm(self, unused: Collection[str]) -> float:
        """The norm of all gradients, as `optim.clip_norm` forms it: the blocks of each parameter in order, then parameters."""
        slots = [slot for slot in self.flat.layout.slots if slot.name not in unused]
        blocks = [(slot, start) for slot in slots for start in range(slot.offset, slot.stop, BLOCK)]
        squares = np.zeros(len(blocks))
        for number, (slot, start) in enumerate(blocks):
            if any(low <= start < high for low, high in self.own[slot.dtype]):
                block = self.flat.grads.flat[slot.dtype][start : min(start + BLOCK, slot.stop)]
                squares[number] = active().dot(block, block)
        everyone = self.world.all_gather(squares).sum(axis=0)  # exact: each block has one owner, and is zero elsewhere
        sums = dict.fromkeys((slot.name for slot in slots), 0.0)
        for (slot, _), square in zip(blocks, everyone.tolist(), strict=True):
            sums[slot.name] += square
        return math.sqrt(sum(sums.values()))


class ShardedExchange(SpanUpdates):
    """Sums gradients to the owners of spans, which update them; all ranks are peers."""

    in_shared_memory = True

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step."""
        super().open(world, virtual_workers, flat, buckets)
        self.peers = dict(enumerate(rank_nodes(world.size, virtual_workers)))

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Start the sum of a bucket."""
        self.reduce_scatter(gradients, step, ready, nodes=gradients.nodes)


class ShardedState:
    """The state of an optimizer whose parts are on different ranks, for checkpoints that do not depend on that."""

    def __init__(self, exchange: SpanUpdates, optimizer: Optimizer) -> None:
        self.exchange, self.optimizer = exchange, optimizer
        self._gathered: dict[str, dict[str, Array]] | None = None

    def gather_state(self) -> None:
        """Bring the state of all spans to rank 0; all ranks call it together."""
        exchange, world = self.exchange, self.exchange.world
        if world.size == 1:
            return
        owner_of = {
            name: next(
                owner for owner, start, stop in spans if bucket.start + start <= slot.offset < bucket.start + stop
            )
            for bucket, spans in zip(exchange.buckets, exchange.spans, strict=True)
            for name in bucket.names
            if (slot := exchange.flat.layout[name]).size
        }
        arenas = self._gather_arenas()
        found: dict[str, dict[str, Array]] = {}
        for name, moments in self.optimizer.live_state().moments.items():
            slot = exchange.flat.layout[name]
            found[name] = {}
            for moment, array in moments.items():
                if moment in arenas:
                    found[name][moment] = arenas[moment][slot.dtype][slot.offset : slot.stop].reshape(slot.shape)
                else:  # state of another shape, which belongs to a whole parameter
                    sent = to_rank_0(world, np.ascontiguousarray(array), owner_of.get(name, 0))
                    found[name][moment] = array if sent is None else sent
        self._gathered = found if world.rank == 0 else None

    def _gather_arenas(self) -> Mapping[str, Mapping[np.dtype[Any], Array]]:
        """Rank 0: each moment's whole arena. The other ranks: what they have, which nobody reads."""
        exchange, world = self.exchange, self.exchange.world
        found: dict[str, dict[np.dtype[Any], Array]] = {}
        handles = []
        for moment, arena in self.optimizer.state.items():
            found[moment] = {}
            for dtype, flat in arena.flat.items():
                into = np.empty_like(flat) if world.rank == 0 else None
                found[moment][dtype] = flat if into is None else into
                for bucket, spans in zip(exchange.buckets, exchange.spans, strict=True):
                    if bucket.dtype == dtype:
                        part = None if into is None else into[bucket.start : bucket.stop]
                        mine = flat[bucket.start : bucket.stop]
                        handles.append(spans_to_rank_0(world.transport, mine, spans, part, label=bucket.label))
        for handle in handles:
            handle.wait()
        return found

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's `state_dict`, whole after `gather_state`."""
        gathered, self._gathered = self._gathered, None
        if gathered is None:
            return self.optimizer.state_dict()
        return self.optimizer.state_dict_of(OptimizerState(gathered, self.optimizer.steps))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict` of any number of ranks; only what belongs to spans that are owned here stays in memory."""
        exchange, sharing = self.exchange, self.exchange.flat.sharing
        self.optimizer.load_state_dict(state)
        sharing.barrier()
        if exchange.world.size == 1 or sharing.rank:
            return
        first = exchange.world.rank
        for bucket, spans in zip(exchange.buckets, exchange.spans, strict=True):
            for owner, start, stop in spans:
                if not first <= owner < first + sharing.ranks:
                    for arena in self.optimizer.state.values():
                        give_back_pages(bucket.of(arena.flat)[start:stop], shared=sharing.ranks > 1)


def plan_spans(layout: Layout, buckets: Sequence[Bucket], ranks: int, *, whole: bool) -> list[list[Span]]:
    """Who owns what: for each bucket its spans, in elements from the bucket's start.

    Every bucket is shared out, so that all ranks send and receive at any time, and so that all ranks own about the same amount.

    Args:
        layout: of the parameters.
        buckets: cover the layout.
        ranks: how many there are.
        whole: cut between parameters only, not between the blocks of a parameter's norm.

    >>> from allgrad.memory import ParameterSpec, Layout
    >>> from allgrad.parallel.buckets import plan_buckets
    >>> layout = Layout.plan([ParameterSpec(n, (1 << 16,), np.dtype("float32")) for n in "abc"])
    >>> buckets = plan_buckets(layout, 1, 1)
    >>> plan_spans(layout, buckets, 2, whole=False)
    [[Span(owner=0, start=0, stop=98304), Span(owner=1, start=98304, stop=196608)]]
    >>> plan_spans(layout, buckets, 2, whole=True)
    [[Span(owner=0, start=0, stop=131072), Span(owner=1, start=131072, stop=196608)]]
    """
    units = [_units(layout, bucket, whole) for bucket in buckets]
    owned = [0] * ranks  # bytes
    planned: list[list[Span]] = [[] for _ in buckets]
    largest = [max(stop - start for start, stop in each) for each in units]
    for index in sorted(range(len(buckets)), key=lambda i: -largest[i]):  # what cannot be cut is given away first
        position, size = 0, units[index][-1][1]
        by_need = sorted(range(ranks), key=lambda rank: (owned[rank], rank))
        for number, rank in enumerate(by_need):
            limit = (number + 1) * size / ranks
            stop = next((end for _, end in units[index] if end >= limit - 0.5), size)
            if stop > position:
                planned[index].append(Span(rank, position, stop))
                owned[rank] += (stop - position) * buckets[index].dtype.itemsize
                position = stop
    return planned


def _units(layout: Layout, bucket: Bucket, whole: bool) -> list[tuple[int, int]]:
    """The pieces of a bucket that are not cut, as (start, stop) from its start."""
    found = []
    for name in bucket.names:
        slot = layout[name]
        inner = () if whole else range(slot.offset + BLOCK, slot.stop, BLOCK)
        edges = [slot.offset, *inner, layout.end(slot)]
        found += [(a - bucket.start, b - bucket.start) for a, b in itertools.pairwise(edges)]
    return found
