"""The fixed reduction tree: which numbers are added to which, on whatever rank they are.

The contract. A global vector is the sum of V leaves, one per virtual worker. Floating-point addition is not associative,
so "the sum" means one particular tree of additions, and every path through this package (one process, any number of
ranks, any algorithm on the wire, any order of arrival) performs exactly its V - 1 additions:

- Node (level a, place j) covers the workers [j 2^a, (j+1) 2^a), cut at V.
- Its value is left + right, left = (a-1, 2j), right = (a-1, 2j+1). The left operand has the lower index.
- If the right child lies wholly beyond V, there is no addition: the node *is* its left child.
- The root is the node of level ceil(log2 V).

Why this tree. With aligned nodes, a rank can add up large subtrees by itself: a rank that runs the contiguous workers
[s, e) knows every node whose cover is inside [s, e), and sends only the *maximal* ones, those whose parent
reaches outside. If V and R are powers of two, that is one node per rank, and vector halving with distance doubling
(partner r ^ 1 first) adds siblings, level by level: the tree costs what an ordinary all-reduce costs.

How many arrays a rank needs. Worker after worker, a finished leaf is added into its left sibling, that sum into its own
sibling, and so on. This is a binary counter, which needs a + 1 arrays for a node of level a, including the array of the
running worker. Finished maximal nodes stay until they are sent. So a rank runs the workers of its largest maximal node first,
when it holds nothing else, and the single leaves of its ragged edges last (the order changes no bit: what a worker
computes does not depend on when it runs). For a block of k workers this takes at most floor(log2 k) + 2 arrays, for
every R, and every V up to 68. From V = 69 on, some blocks are so ragged at both edges that they have more maximal nodes
than that (14 workers from an index 1 mod 16 have six: 1, 2, 4, 4, 2, 1). These are different numbers that only this
rank can form, so it holds them. `BlockPlan.arrays` is the number for a block.

Everything here is a pure function of integers, or adds NumPy arrays; nothing knows MPI.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Array = np.ndarray[Any, np.dtype[Any]]

Addition = Callable[[Array, Array, Array], Array]
"""add(left, right, out): writes the sum of two arrays into `out`, which may be one of them, and returns it. What is added may be
numbers in another form than NumPy's, such as bfloat16."""


class Node(NamedTuple):
    """A node of the tree. It covers the workers [place 2^level, (place + 1) 2^level), cut at V."""

    level: int
    place: int


def block(rank: int, ranks: int, virtual_workers: int) -> range:
    """The virtual workers that a rank runs: contiguous, floor or ceil of (virtual_workers / ranks) of them.

    >>> [list(block(r, 3, 8)) for r in range(3)]
    [[0, 1], [2, 3, 4], [5, 6, 7]]
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"The rank must be one of 0 ... {ranks - 1}. Got {rank} instead.")
    if ranks > virtual_workers:
        raise ValueError(
            f"{ranks} ranks cannot share {virtual_workers} virtual workers: each rank needs at least one. "
            f"Start at most {virtual_workers} ranks, or raise batch.virtual_workers to {ranks} or more."
        )
    return range(rank * virtual_workers // ranks, (rank + 1) * virtual_workers // ranks)


def cut(count: int, virtual_workers: int) -> list[slice]:
    """The slice of a batch of `count` samples that each virtual worker gets, in order.

    Raises:
        ValueError: `virtual_workers` is not positive, or `count` is negative.

    >>> [(s.start, s.stop) for s in cut(10, 4)]
    [(0, 2), (2, 5), (5, 7), (7, 10)]
    """
    if virtual_workers < 1 or count < 0:
        raise ValueError(f"cut: expected count >= 0 and virtual_workers >= 1. Got {count} and {virtual_workers}.")
    edges = [worker * count // virtual_workers for worker in range(virtual_workers + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def root_level(virtual_workers: int) -> int:
    """The level of the root of a tree over `virtual_workers` leaves: ceil(log2 virtual_workers).

    >>> [root_level(v) for v in (1, 2, 3, 4, 5, 8, 9)]
    [0, 1, 2, 2, 3, 3, 4]
    """
    if virtual_workers < 1:
        raise ValueError(f"A tree needs at least one leaf. Got virtual_workers={virtual_workers!r} instead.")
    return (virtual_workers - 1).bit_length()


def cover(node: Node, virtual_workers: int) -> range:
    """The workers under a node.

    >>> cover(Node(2, 1), 6)
    range(4, 6)
    """
    return range(min(node.place << node.level, virtual_workers), min((node.place + 1) << node.level, virtual_workers))


@cache
def maximal_nodes(workers: range, virtual_workers: int) -> tuple[Node, ...]:
    """The largest nodes whose cover is inside a block, from left to right. The block's rank sends these.

    >>> maximal_nodes(range(5, 8), 8)
    (Node(level=0, place=5), Node(level=1, place=3))
    >>> maximal_nodes(range(4, 5), 5)  # (2, 1) is cut at 5: it is the leaf 4
    (Node(level=2, place=1),)
    """
    nodes = []
    start = workers.start
    while start < workers.stop:
        node = Node(0, start)
        while node.level < root_level(virtual_workers):
            parent = cover(Node(node.level + 1, node.place >> 1), virtual_workers)
            if parent.start < start or parent.stop > workers.stop:
                break
            node = Node(node.level + 1, node.place >> 1)
        nodes.append(node)
        start = cover(node, virtual_workers).stop
    return tuple(nodes)


@cache
def rank_nodes(ranks: int, virtual_workers: int) -> tuple[tuple[Node, ...], ...]:
    """The maximal nodes of every rank, by rank."""
    return tuple(maximal_nodes(block(rank, ranks, virtual_workers), virtual_workers) for rank in range(ranks))


def running_order(nodes: Sequence[Node], virtual_workers: int) -> list[Node]:
    """A rank's maximal nodes in the order in which it computes them: the largest first."""
    return sorted(nodes, key=lambda node: -len(cover(node, virtual_workers)))


@dataclass(frozen=True)
class BlockPlan:
    """The order in which a rank runs its workers, and how it sums them in place in `arrays` arrays ("slots").

    Run the workers in the order of `order`. Write the leaf of the i-th of them into slot `writes[i]`; then, for
    (left, right) in `merges[i]`, in this order, do slot[left] += slot[right]. After the last one, slot `slots[m]` holds the
    maximal node `nodes[m]` (left to right). Slot 0 always holds one of them at the end; it also receives the reduced
    sum.

    The merges after the last worker are elementwise. A caller who overlaps communication does them for one bucket's
    slice as soon as this slice is final, and posts it.
    """

    workers: range
    virtual_workers: int
    order: tuple[int, ...]
    nodes: tuple[Node, ...]
    slots: tuple[int, ...]
    writes: tuple[int, ...]
    merges: tuple[tuple[tuple[int, int], ...], ...]
    arrays: int


@cache
def plan_block(workers: range, virtual_workers: int, separate: bool = False) -> BlockPlan:
    """The plan of a block of workers; with `separate`, each has an array of its own, and all merges come after the last.

    >>> plan = plan_block(range(0, 4), 4)
    >>> plan.order, plan.writes, plan.merges, plan.arrays
    ((0, 1, 2, 3), (0, 1, 1, 2), ((), ((0, 1),), (), ((1, 2), (0, 1))), 3)
    >>> plan_block(range(1, 8), 8).order  # the node of four, the node of two, the single one
    (4, 5, 6, 7, 2, 3, 1)
    >>> plan_block(range(0, 4), 4, separate=True).merges
    ((), (), (), ((0, 1), (2, 3), (0, 2)))
    """
    if not 0 <= workers.start < workers.stop <= virtual_workers:
        raise ValueError(
            f"A block must hold at least one of the workers 0 ... {virtual_workers - 1}. Got {workers} instead."
        )
    nodes = maximal_nodes(workers, virtual_workers)
    order = tuple(w for node in running_order(nodes, virtual_workers) for w in cover(node, virtual_workers))
    held: dict[Node, int] = {}
    writes: list[int] = []
    merges: list[tuple[tuple[int, int], ...]] = []
    for position, worker in enumerate(order):
        slot = position if separate else next(s for s in range(len(held) + 1) if s not in held.values())
        writes.append(slot)
        node, now = Node(0, worker), []
        while node not in nodes:
            if node.place & 1:
                left = held.pop(Node(node.level, node.place - 1))
                now.append((left, slot))
                slot = left
            elif cover(Node(node.level, node.place + 1), virtual_workers):
                break  # it waits for its right sibling
            node = Node(node.level + 1, node.place >> 1)
        held[node] = slot
        merges.append(tuple(now))
    if separate:
        merges = [()] * (len(order) - 1) + [tuple(pair for now in merges for pair in now)]
    slots = tuple(held[node] for node in nodes)
    return BlockPlan(workers, virtual_workers, order, nodes, slots, tuple(writes), tuple(merges), max(writes) + 1)


def additions(nodes: Sequence[Node], virtual_workers: int) -> tuple[list[tuple[int, int]], list[tuple[Node, int]]]:
    """How to add up given nodes, each time into the left operand.

    Returns:
        The (left, right) positions in `nodes` of each addition, in order; and what is left: the maximal nodes, from left to
        right, and the positions where they are.

    >>> additions([Node(0, 0), Node(0, 1), Node(1, 1)], 4)
    ([(0, 1), (0, 2)], [(Node(level=2, place=0), 0)])
    >>> additions([Node(0, 1), Node(0, 2), Node(0, 3)], 4)
    ([(1, 2)], [(Node(level=0, place=1), 0), (Node(level=1, place=1), 1)])
    """
    steps: list[tuple[int, int]] = []
    held: dict[Node, int] = {}
    for position, node in enumerate(nodes):
        at = position
        while node.level < root_level(virtual_workers):
            sibling = Node(node.level, node.place ^ 1)
            if cover(sibling, virtual_workers):
                if sibling not in held:
                    break
                other = held.pop(sibling)
                left, right = (other, at) if node.place & 1 else (at, other)
                steps.append((left, right))
                at = left
            node = Node(node.level + 1, node.place >> 1)
        held[node] = at
    return steps, sorted(held.items(), key=lambda item: cover(item[0], virtual_workers).start)


class Assembly:
    """Adds nodes up to the root, in whatever order they arrive; each addition is in place, into its left operand.

    `out`, if given, receives the root: the last addition writes there. It may be the memory of one of the operands, and
    must not overlap them otherwise. `add` is the addition.

    >>> whole = Assembly(3)
    >>> for worker in (2, 0, 1):
    ...     whole.add(Node(0, worker), np.array([float(worker)]))
    >>> whole.root
    array([3.])
    """

    def __init__(self, virtual_workers: int, out: Array | None = None, add: Addition = np.add) -> None:
        self.virtual_workers = virtual_workers
        self.out = out
        self._add = add
        self.root: Array | None = None
        self.pending: dict[Node, Array] = {}
        self._top = root_level(virtual_workers)

    def add(self, node: Node, array: Array) -> None:
        """Add one node; its array, or its sibling's, is overwritten."""
        while node.level < self._top:
            sibling = Node(node.level, node.place ^ 1)
            if cover(sibling, self.virtual_workers):
                if sibling not in self.pending:
                    self.pending[node] = array
                    return
                other = self.pending.pop(sibling)
                left, right = (other, array) if node.place & 1 else (array, other)
                last = node.level + 1 == self._top and self.out is not None
                target = self.out if last and self.out is not None else left
                array = self._add(left, right, target)
            node = Node(node.level + 1, node.place >> 1)
        if self.out is not None and array is not self.out:
            np.copyto(self.out, array)
            array = self.out
        self.root = array
