"""Local updates (DiLoCo): replicas train apart for H steps, then the average of their moves is one step of an outer optimizer.

Each *replica* is a group of neighbouring virtual workers (by default a single one) with weights and optimizer state of its own.
In every step a replica takes the mean gradient over its workers' samples, clips it, and makes a step of its (inner) optimizer.
Every H steps the mean of the replicas' moves is a gradient for an outer optimizer (`outer.py`), from whose result, theta, every
replica continues. The mean is a sum over the fixed tree, and what a replica does depends on its number alone: the same bits at
any number of ranks. Only moves travel, 1/H of what gradients would be.

With more ranks than replicas, each replica is computed by several ranks. They sum their gradients in every step, over the part
of the fixed tree that is the replica's. So let the ranks of a replica be near to each other: ranks are neighbours in the order
of nodes.

With `fragments` F (the streaming form), the parameters are cut into F runs of about equal size in order of memory, fragment f is
averaged f H / F steps after fragment 0, and no step sends more than one of them.

The first `warmup_steps` steps (post-local SGD) are synchronous: gradients are summed over all workers, as the exact exchange
does. There is one set of weights and one optimizer state, from which all replicas then set out. Rounds are counted from there.

**Which weights are where.** Between steps `flat.params` holds theta: evaluations, checkpoints and digests see it. Around a
worker's forward and backward, and around an inner step, it holds the replica's weights, which are in `weights` otherwise. The
optimizer holds the state of this rank's first replica; those of the others are in `states`, and are swapped in. During the
warm-up nothing is swapped: the model and the optimizer have what a synchronous run has.

**Memory**, in units of the model's weights: theta and u once, and for each replica on this rank its weights, its optimizer's
state and one gradient per worker. A checkpoint has all of this for all replicas.

Reference: Douillard et al., "DiLoCo: Distributed Low-Communication Training of Language Models" (2023), arXiv 2311.08105;
Douillard et al., "Streaming DiLoCo with overlapping communication" (2025), arXiv 2501.18512, for fragments; Lin et al., "Don't
use large mini-batches, use local SGD" (2020), arXiv 1808.07217, for the warm-up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Lt

from allgrad.comm import Node, tree_all_reduce
from allgrad.comm.all_reduce import bytes_sent
from allgrad.comm.gather import to_rank_0
from allgrad.comm.tree import Assembly
from allgrad.memory import Arena
from allgrad.parallel.exchanges.base import Exchange, ExchangeError
from allgrad.parallel.exchanges.outer import Outer, OuterSettings
from allgrad.parallel.exchanges.placement import Placement
from allgrad.parallel.exchanges.registry import register_exchange
from allgrad.parallel.exchanges.worker_sums import sum_over_workers
from allgrad.stateful import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from allgrad import nn
    from allgrad.comm import Group, Times, World
    from allgrad.memory import FlatParameters
    from allgrad.optim import Optimizer, OptimizerState
    from allgrad.parallel.buckets import Bucket
    from allgrad.parallel.exchanges.base import BucketGradients, Clipping
    from allgrad.stateful import Stateful

Array = np.ndarray[Any, np.dtype[Any]]


@register_exchange("local")
class LocalExchange(Exchange):
    """Replicas that train apart and are averaged now and then.

    Args:
        inner_steps: steps between two averages, H.
        outer: the outer optimizer: SGD with Nesterov momentum, or with ordinary momentum.
        outer_lr: its learning rate; 1 with `outer: sgd` and no momentum is plain averaging.
        outer_momentum: its momentum.
        replicas: how many there are; a divisor of `batch.virtual_workers`. null: one for each virtual worker. If a run has more
            ranks, each replica is computed by several of them, which send each other gradients in every step.
        fragments: pieces in which the weights are averaged, one after another.
        warmup_steps: steps before the first round in which all workers train together and send their gradients.
    """

    same_bits = True
    why = "replicas are made of virtual workers, and their average is summed over the fixed tree"
    per_worker = True
    synchronous = False
    one_by_one = "the replicas of the exchange local have weights of their own"
    accumulates = False

    def __init__(
        self,
        *,
        inner_steps: Annotated[int, Ge(1)] = 50,
        outer: Literal["nesterov", "sgd"] = "nesterov",
        outer_lr: Annotated[float, Gt(0)] = 0.7,
        outer_momentum: Annotated[float, Ge(0), Lt(1)] = 0.9,
        replicas: Annotated[int, Ge(1)] | None = None,
        fragments: Annotated[int, Ge(1)] = 1,
        warmup_steps: Annotated[int, Ge(0)] = 0,
    ) -> None:
        if outer not in ("nesterov", "sgd"):
            raise ExchangeError(f"outer must be 'nesterov' or 'sgd'. Got {outer!r} instead.")
        if inner_steps < 1 or outer_lr <= 0 or not 0 <= outer_momentum < 1:
            raise ExchangeError(
                "local needs inner_steps of 1 or more, an outer_lr above 0, and an outer_momentum of at least 0 and below 1. "
                f"Got {inner_steps}, {outer_lr} and {outer_momentum} instead."
            )
        if not 1 <= fragments <= inner_steps:
            raise ExchangeError(
                f"reduction local: fragments must be between 1 and inner_steps ({inner_steps}). Got {fragments} instead."
            )
        if warmup_steps < 0:
            raise ExchangeError(f"reduction local: warmup_steps must be 0 or more. Got {warmup_steps} instead.")
        self._settings = OuterSettings(inner_steps, outer, outer_lr, outer_momentum, fragments, warmup_steps)
        self.replicas = replicas
        self.done = 0  # steps, those of the warm-up and those that were skipped included

    def check(self, model: nn.Module, world: World, virtual_workers: int) -> None:
        """Refuse what local updates cannot do."""
        Placement.plan(world.rank, world.size, virtual_workers, self.replicas)
        meeting = [name for name, module in model.named_modules() if module.communicates_across_workers]
        if meeting:
            raise ExchangeError(
                f"reduction local: layer {meeting[0]!r} computes over all virtual workers, whose weights differ here. Use "
                "BatchNorm2d or BatchNorm1d, or another reduction."
            )

    def open(self, world: World, virtual_workers: int, flat: FlatParameters, buckets: Sequence[Bucket]) -> None:
        """Called once, before the first step."""
        super().open(world, virtual_workers, flat, buckets)
        place = Placement.plan(world.rank, world.size, virtual_workers, self.replicas)
        self.replica_count, self.size, self.mine, self._firsts = place.replicas, place.size, place.mine, place.firsts
        self.mates: Group | None = None  # the ranks of this rank's replica, if there are several
        self.peers: Group | None = None  # one rank of each replica; every rank of a replica has its own
        if place.ranks > 1:
            self.mates = world.group(world.rank // place.ranks)
            self.peers = world.group(world.rank % place.ranks)
        fragments, parameters = self._settings.fragments, len(flat.layout.slots)
        if fragments > parameters:
            raise ExchangeError(
                f"reduction local: a model of {parameters} parameters cannot be cut into {fragments} fragments."
            )
        self.weights = {replica: Arena(flat.layout) for replica in self.mine}
        self.outer = Outer(world, flat, self._settings, replicas=self.replica_count, mates=self.mates, peers=self.peers)
        self.states: dict[int, OptimizerState] = {}
        self._inside: int | None = None  # the replica whose weights are in flat.params
        self._apart = False  # whether the replicas have weights and states of their own
        self._sums: dict[int, list[tuple[Array, Array]]] = {}
        self._gathered: dict[int, list[Array]] = {}

    def attach(self, optimizer: Optimizer) -> Stateful:
        """Called once the optimizer exists: each other replica of this rank gets a state of its own."""
        self.states = {replica: optimizer.new_state() for replica in self.mine[1:]}
        return super().attach(optimizer)

    # Weights in and out.

    @property
    def _warming_up(self) -> bool:
        return self.done < self._settings.warmup_steps

    @property
    def _over_ranks(self) -> bool:
        """Whether several ranks sum their gradients in every step."""
        return self._warming_up or self.mates is not None

    @property
    def groups(self) -> int:
        """The replicas; during the warm-up, all workers together."""
        return 1 if self._warming_up else self.replica_count

    def enter(self, worker: int) -> None:
        """Give the model the weights of the worker's replica."""
        if self.optimizer is None:
            raise ExchangeError(
                "reduction local: call replica.attach(optimizer) once, and replica.update() after each step."
            )
        if not self._warming_up:
            self._enter(worker // self.size)

    def _set_out(self) -> None:
        """Until the warm-up is over, every replica has the model's weights and the optimizer's state."""
        if self._apart:
            return
        assert self.optimizer is not None
        for weights in self.weights.values():
            _copy(self.flat.params, weights)
        live = self.optimizer.live_state()
        for state in self.states.values():
            for mine, theirs in zip(state.arrays(), live.arrays(), strict=True):
                np.copyto(mine, theirs)
            state.steps.update(live.steps)
        self._apart = not self._warming_up

    def _enter(self, replica: int) -> None:
        if self._inside is None:
            self._set_out()
            _copy(self.flat.params, self.outer.theta)
        if self._inside != replica:
            _copy(self.weights[replica], self.flat.params)
            self._inside = replica
            self.flat.touch()

    def leave(self) -> None:
        """Give the model theta."""
        if self._inside is not None:
            _copy(self.outer.theta, self.flat.params)
            self._inside = None
            self.flat.touch()

    # One step.

    def post(self, gradients: BucketGradients, *, step: int, ready: float) -> None:
        """Note a bucket; if it is summed over several ranks, start that."""
        if not self._over_ranks:
            self.posted.append(gradients)
            return
        handle = sum_over_workers(
            self.world,
            self.virtual_workers if self._warming_up else self.size,
            [array for *_, array in gradients.nodes],
            gradients.out,
            label=gradients.bucket.label,
            step=step,
            layout=gradients.layout,
            ready=ready,
            guard=gradients.views,
            group=None if self._warming_up else self.mates,
        )
        if handle is not None:
            self.handles.append(handle)

    def finish(self) -> list[Times]:
        """Sum each replica's gradients over its workers, or wait for the sums over several ranks."""
        self._sums = {replica: [] for replica in self.mine}
        if self._over_ranks:
            return self._wait()
        posted, self.posted = self.posted, []
        for gradients in posted:
            sums = {replica: Assembly(self.size) for replica in self.mine}
            for _, worker, array in gradients.nodes:
                sums[worker // self.size].add(Node(0, worker % self.size), array)
            for replica, assembly in sums.items():
                assert assembly.root is not None
                self._sums[replica].append((assembly.root, gradients.out))
        return []

    def update(
        self, clipping: Clipping, *, unused: Collection[str], used_by: Callable[[Collection[int]], set[str]]
    ) -> float | None:
        """An inner step of every replica, and an outer one of the fragments whose turn it is; returns the first one's norm."""
        assert self.optimizer is not None
        if self._warming_up:
            norm = super().update(clipping, unused=unused, used_by=used_by)
            self.done += 1
            return norm
        norms = {}
        for replica in sorted(self.mine, key=self._is_moved):
            if replica in self.states:
                self.optimizer.swap_state(self.states[replica])
            for array, out in self._sums[replica]:
                if array.ctypes.data != out.ctypes.data:
                    np.copyto(out, array)
            self._enter(replica)
            idle = set(self.flat.leaves) - self._used(used_by(range(replica * self.size, (replica + 1) * self.size)))
            norms[replica] = clipping.apply(self.flat, idle)
            self.optimizer.step(idle)
            _copy(self.flat.params, self.weights[replica])
            if replica in self.states:
                self.optimizer.swap_state(self.states[replica])
        self._count_step()
        return norms[self.mine[0]]

    def _used(self, mine: set[str]) -> set[str]:
        """The parameters that the replica used, given those that its workers on this rank used."""
        if self.mates is None:
            return mine
        names = list(self.flat.leaves)
        flags = np.array([name in mine for name in names], np.float32)
        tree_all_reduce(
            self.world.transport,
            [(0, self.mates.rank, flags)],
            flags,
            virtual_workers=self.mates.size,
            label="parameters in use",
            step=self.done,
            group=self.mates,
        ).wait()
        return {name for name, count in zip(names, flags.tolist(), strict=True) if count}

    def skip(self) -> None:
        """The replicas make no inner step. An outer step that is due is made all the same: rounds end where they would."""
        if self._warming_up:
            self.done += 1
            return
        self._enter(self.mine[0])
        self._count_step()

    def _count_step(self) -> None:
        self.done += 1
        for fragment in self.outer.due(self.done):
            self.outer.step(fragment, list(self.weights.values()), self.done)
        self.leave()

    def _is_moved(self, replica: int) -> bool:
        """Whether a replica's gradient must be moved: one that is in its place already must go first."""
        return any(array.ctypes.data != out.ctypes.data for array, out in self._sums[replica])

    def bytes_per_step(self) -> float:
        """The weights once in `inner_steps` steps, and gradients if a replica has several ranks; the warm-up aside."""
        averages = self.outer.bytes_per_step()
        if self.mates is None:
            return averages
        flags = bytes_sent(4 * len(self.flat.leaves), self.mates.rank, self.mates.size, self.mates.size)
        gradients = (bytes_sent(bucket.nbytes, self.mates.rank, self.mates.size, self.size) for bucket in self.buckets)
        return averages + flags + sum(gradients)

    # What a checkpoint stores.

    def _arrays(self, replica: int) -> list[Array]:
        """All that a replica has: its weights, and its optimizer's state. The arrays themselves, not copies."""
        assert self.optimizer is not None
        state = self.states.get(replica) or self.optimizer.live_state()
        return [*self.weights[replica].flat.values(), *state.arrays(), np.array(list(state.steps.values()), np.int64)]

    def gather_state(self) -> None:
        """Bring all replicas' weights and optimizer states to rank 0."""
        self._set_out()
        for replica, rank in self._firsts.items():
            own = self._arrays(replica if rank == self.world.rank else self.mine[0])
            packed = np.concatenate([array.reshape(-1).view(np.uint8) for array in map(np.ascontiguousarray, own)])
            found = to_rank_0(self.world, packed, rank)
            if found is not None:
                self._gathered[replica] = _unpacked(found, own)

    def state_dict(self) -> dict[str, Any]:
        """Everything that the replicas have, by number; of this rank's, unless `gather_state` was called before."""
        if self.optimizer is None:
            return {}
        self._set_out()
        gathered, self._gathered = self._gathered, {}
        found = gathered or {replica: [array.copy() for array in self._arrays(replica)] for replica in self.mine}
        return {
            "done": self.done,
            "momentum": [array.copy() for array in self.outer.momentum.flat.values()],
            "replicas": {str(replica): arrays for replica, arrays in found.items()},
            "layout": self.flat.layout.digest(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give this rank's replicas what they had.

        Raises:
            StateError: the state has other replicas, or is that of another model.
        """
        if self.optimizer is None:
            raise StateError("reduction local: attach the optimizer before its state is loaded.")
        expected = self.flat.layout.digest(), [str(replica) for replica in range(self.replica_count)]
        if (state.get("layout"), list(state.get("replicas", ()))) != expected:
            raise StateError(
                f"reduction local: the state has {len(state.get('replicas', ()))} replicas, expected {self.replica_count}, or it "
                "belongs to another model or optimizer."
            )
        self.done = state["done"]
        self._apart = not self._warming_up
        _restore(list(self.outer.momentum.flat.values()), state["momentum"])
        for replica in self.mine:
            *arrays, steps = state["replicas"][str(replica)]
            held = self.states.get(replica) or self.optimizer.live_state()
            _restore([*self.weights[replica].flat.values(), *held.arrays()], arrays)
            counts = dict(zip(held.steps, map(int, steps), strict=True))
            held.steps.update(counts)
        self.optimizer.forget_plan()


def _copy(source: Arena, target: Arena) -> None:
    for dtype, array in source.flat.items():
        np.copyto(target.flat[dtype], array)


def _unpacked(packed: Array, like: Sequence[Array]) -> list[Array]:
    found, start = [], 0
    for array in like:
        found.append(packed[start : start + array.nbytes].view(array.dtype).reshape(array.shape))
        start += array.nbytes
    return found


def _restore(mine: Sequence[Array], saved: Sequence[Array]) -> None:
    if [array.shape for array in mine] != [np.shape(array) for array in saved]:
        raise StateError("reduction local: the arrays of the state have other shapes than the model and its optimizer.")
    for array, value in zip(mine, saved, strict=True):
        array[...] = value
