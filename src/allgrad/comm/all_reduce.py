"""The exact all-reduce: the sum over all virtual workers, added in the order of the fixed tree on any number of ranks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import collectives
from .transport import Collective
from .tree import Node, block, cover, maximal_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .transport import Handle, Lane, Transfer, Transport
    from .tree import Addition, Array

CHUNK_BYTES = 1 << 20
"""An array is cut into chunks of this size. They are pipelined, and bound the memory for incoming data. Changes no bit."""

SMALL_BYTES = 1 << 16
"""If a rank would receive no more than this, the all-reduce is one all-gather."""

_SMALLEST_SLICE = (
    1 << 14
)  # bytes: with many ranks a chunk grows so that the slices sent do not become smaller than this


class Group(NamedTuple):
    """Some of the ranks, which sum among themselves.

    Attributes:
        comm: a communicator of these ranks alone.
        rank, size: the number of this rank among them, and how many they are.
    """

    comm: Any
    rank: int
    size: int


def tree_all_reduce(
    transport: Transport,
    nodes: Sequence[tuple[int, int, Array]],
    out: Array,
    *,
    virtual_workers: int,
    label: str = "",
    step: int = 0,
    layout: str = "",
    ready: float | None = None,
    guard: Sequence[Array] = (),
    add: Addition = np.add,
    chunk_bytes: int = CHUNK_BYTES,
    small_bytes: int = SMALL_BYTES,
    group: Group | None = None,
) -> Handle:
    """Start the sum over all virtual workers; `out` holds it after `Handle.wait`.

    Args:
        nodes: this rank's maximal nodes, as (level, place, array) in the order of `tree.maximal_nodes`.
        out: (n,) float32 or float64; may be one of the arrays of `nodes`. All arrays are flat and contiguous, have the dtype
            and length of `out`, and are overwritten.
        virtual_workers: the number of virtual workers of all ranks.
        label, step: name the bucket and the training step.
        layout: a digest of what else must agree between ranks.
        ready: when the data became final (`transport.clock()`); default: now.
        guard: other arrays that are read-only until `wait`.
        add: the addition; with another one than NumPy's the arrays may have any dtype.
        chunk_bytes, small_bytes: see above; the same on all ranks.
        group: the ranks over which the sum goes, and which number this one has among them; `virtual_workers` are theirs. All
            ranks call this together, each with a group of the same size. None: all ranks.

    Raises:
        ValueError, TypeError: for other arrays.
    """
    among = transport.topology if group is None else group
    if add is np.add and out.dtype not in (np.float32, np.float64):
        raise TypeError(f"The arrays of tree_all_reduce must be float32 or float64. Got {out.dtype} for out instead.")
    pieces, target = _prepare(nodes, out, rank=among.rank, ranks=among.size, virtual_workers=virtual_workers)
    room = transport.room if group is None else 0
    payload, arrived = _payload(pieces, target, size=among.size, virtual_workers=virtual_workers, add=add, room=room)
    what = {
        "collective": "all-reduce (exact)",
        "bucket": label,
        "step": str(step),
        "elements": f"{out.size} {out.dtype.str}",
        "layout": layout,
        "virtual workers": str(virtual_workers),
        "chunks": f"{chunk_bytes} {small_bytes}",
        "ranks": str(among.size),
    }
    transfers = _transfers(
        among.rank, among.size, None if group is None else group.comm, pieces, target,
        virtual_workers=virtual_workers, add=add, chunk_bytes=chunk_bytes, small_bytes=small_bytes,
    )  # fmt: skip
    return transport.submit(
        Collective(
            what,
            transfers,
            out.nbytes,
            label=label,
            step=step,
            ready=ready,
            payload=payload,
            arrived=arrived,
            guard=[*(array for *_, array in nodes), out, *guard],
        )
    )


def bytes_sent(nbytes: int, rank: int, size: int, virtual_workers: int) -> int:
    """The bytes that a rank sends in a `tree_all_reduce` of an array of `nbytes`.

    >>> bytes_sent(1 << 20, 0, 4, 8), bytes_sent(100, 0, 4, 8)
    (1572864, 300)
    """
    if size == 1:
        return 0
    most = collectives.most_nodes(size, virtual_workers)
    if nbytes * size * most <= SMALL_BYTES:
        return (size - 1) * most * nbytes
    nodes = 1 if collectives.power_of_two(size) and collectives.power_of_two(virtual_workers) else None
    nodes = len(maximal_nodes(block(rank, size, virtual_workers), virtual_workers)) if nodes is None else nodes
    return (nodes + 1) * (size - 1) * nbytes // size


def _prepare(
    nodes: Sequence[tuple[int, int, Array]], out: Array, *, rank: int, ranks: int, virtual_workers: int
) -> tuple[list[tuple[Node, Array]], Array]:
    """Check the caller's arrays, and make views of them that stay writable while the caller's are guarded."""
    expected = maximal_nodes(block(rank, ranks, virtual_workers), virtual_workers)
    got = tuple(Node(level, place) for level, place, _ in nodes)
    if got != expected and [cover(n, virtual_workers) for n in got] != [cover(n, virtual_workers) for n in expected]:
        raise ValueError(
            f"The nodes parameter of tree_all_reduce must be this rank's maximal nodes {[tuple(n) for n in expected]} "
            f"(rank {rank} of {ranks}, {virtual_workers} virtual workers). Got {[tuple(n) for n in got]} instead."
        )
    arrays = [array for *_, array in nodes]
    for name, array in (*zip(got, arrays, strict=True), ("out", out)):
        _check(name, array, out)
    overlap = any(np.may_share_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :])
    if overlap or any(a.ctypes.data != out.ctypes.data and np.may_share_memory(a, out) for a in arrays):
        raise ValueError(
            "The arrays of tree_all_reduce must not overlap (out may be exactly one of the nodes' arrays)."
        )
    return [(node, array.view()) for node, array in zip(expected, arrays, strict=True)], out.view()


def _check(name: object, array: Array, out: Array) -> None:
    if array.ndim != 1 or not array.flags.c_contiguous or array.dtype != out.dtype or array.size != out.size:
        raise ValueError(
            f"The arrays of tree_all_reduce must be flat, contiguous and like out ({out.size} of {out.dtype}). "
            f"Got {array.dtype} of shape {array.shape} and strides {array.strides} for {name} instead."
        )
    if not array.flags.writeable:
        raise ValueError(
            f"The arrays of tree_all_reduce must be writable, but {name} is read-only. A bucket in flight is read-only until "
            "its handle's wait() returns: post it again only after that."
        )


def _transfers(
    rank: int,
    size: int,
    own: Any,
    nodes: list[tuple[Node, Array]],
    out: Array,
    *,
    virtual_workers: int,
    add: Addition,
    chunk_bytes: int,
    small_bytes: int,
) -> Iterator[Callable[[Lane], Transfer]]:
    """One transfer per chunk."""
    small = out.nbytes * size * collectives.most_nodes(size, virtual_workers) <= small_bytes
    aligned = collectives.power_of_two(size) and collectives.power_of_two(virtual_workers)
    length = max(chunk_bytes, size * _SMALLEST_SLICE) // out.itemsize
    if size == 1 or small:
        length = max(out.size, 1)

    def transfer(start: int, lane: Lane) -> Transfer:
        span = slice(start, start + length)
        pieces, target = [(node, array[span]) for node, array in nodes], out[span]
        comm, tag, scratch = lane if own is None else (own, lane.tag, lane.scratch)
        if size == 1:
            return collectives.local(pieces, target, virtual_workers=virtual_workers)
        if small:
            return collectives.gather(
                comm, size, pieces, target, virtual_workers=virtual_workers, scratch=scratch, add=add
            )
        if aligned:
            return collectives.halving(comm, rank, size, pieces[0][1], target, tag=tag, scratch=scratch, add=add)
        return collectives.owners(
            comm, rank, size, pieces, target, virtual_workers=virtual_workers, tag=tag, scratch=scratch, add=add
        )

    return (partial(transfer, start) for start in range(0, max(out.size, 1), length))


def _payload(
    nodes: list[tuple[Node, Array]], out: Array, *, size: int, virtual_workers: int, add: Addition, room: int
) -> tuple[Array | None, Callable[[Array], None] | None]:
    """The data and what to do with all ranks' data, if they may travel with the desync check: `gather` without messages."""
    rows = collectives.most_nodes(size, virtual_workers)
    if size == 1 or rows * out.nbytes > room:
        return None, None
    mine = np.zeros((rows, out.size), out.dtype)
    for row, (_, array) in zip(mine, nodes, strict=False):
        row[:] = array

    def arrived(gathered: Array) -> None:
        everyone = np.ascontiguousarray(gathered).view(out.dtype).reshape(size, *mine.shape)
        with np.errstate(all="ignore"):
            collectives.assemble(everyone, out, virtual_workers=virtual_workers, add=add)

    return mine.view(np.uint8).reshape(-1), arrived
