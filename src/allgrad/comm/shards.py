"""The two halves of an all-reduce: each rank gets the sums of its own part of an array, and later everybody gets all parts.

Who owns which part is given by *spans*: pieces of an array, each with its owner, the same on all ranks. The sums have the bits
of `tree_all_reduce`: the owner of a span receives every rank's maximal nodes of it and adds them in the order of the fixed
tree. Each rank sends what others own once in each half, (R - 1) / R of the array if it has one node.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from .transport import Collective
from .tree import Assembly, Node, rank_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from .transport import Handle, Lane, Transfer, Transport
    from .tree import Array

CHUNK_BYTES = 1 << 20
"""Spans are moved in pieces, so that all spans together have about this many bytes under way. Changes no bit."""


class Span(NamedTuple):
    """The elements [start, stop) of an array, which `owner` has."""

    owner: int
    start: int
    stop: int


def tree_reduce_scatter(
    transport: Transport,
    nodes: Sequence[tuple[int, int, Array]],
    out: Array,
    spans: Sequence[Span],
    *,
    virtual_workers: int,
    label: str = "",
    step: int = 0,
    layout: str = "",
    ready: float | None = None,
    guard: Sequence[Array] = (),
    peers: Mapping[int, Sequence[Node]] | None = None,
    prepare: Callable[[slice], None] | None = None,
) -> Handle:
    """Start the sum over all virtual workers; after `Handle.wait`, `out` holds it in the spans that this rank owns.

    Args:
        nodes, out, virtual_workers, label, step, layout, ready, guard: see `tree_all_reduce`. What `out` holds outside of the
            own spans is left open.
        spans: do not overlap, and cover `out`; the same on all ranks.
        peers: the ranks that add up their spans together, this one included, and the nodes that each of them has; by default
            all ranks, with those of the workers that they run. Other ranks do the same with their own peers, at once.
        prepare: called with a slice before its `nodes` are read.
    """
    rank, size = transport.topology.rank, transport.topology.size
    if peers is None:
        peers = dict(enumerate(rank_nodes(size, virtual_workers)))
    others = {other: theirs for other, theirs in peers.items() if other != rank}
    arrays = [(Node(level, place), array.view()) for level, place, array in nodes]  # views stay writable
    target = out.view()

    def transfer(pieces: list[Span], lane: Lane) -> Transfer:
        comm, tag, scratch = lane
        pieces = [piece for piece in pieces if piece.owner in peers]
        if prepare is not None:
            for _, start, stop in pieces:
                prepare(slice(start, stop))
        own = [slice(start, stop) for owner, start, stop in pieces if owner == rank]
        arriving = [(piece, other, node) for other, theirs in others.items() for piece in own for node in theirs]
        memory = scratch(sum(piece.stop - piece.start for piece, *_ in arriving), out.dtype)
        rows, start = [], 0
        for piece, *_ in arriving:
            rows.append(memory[start : start + piece.stop - piece.start])
            start += piece.stop - piece.start
        requests = [comm.Irecv(row, other, tag) for row, (_, other, _) in zip(rows, arriving, strict=True)]
        for owner, begin, end in pieces:
            if owner != rank:
                requests += [comm.Isend(array[begin:end], owner, tag) for _, array in arrays]
        yield requests
        for piece in own:
            whole = Assembly(virtual_workers, target[piece])
            for node, array in arrays:
                whole.add(node, array[piece])
            for row, (of, _, node) in zip(rows, arriving, strict=True):
                if of == piece:
                    whole.add(node, row)

    what = {
        "collective": "reduce-scatter",
        "bucket": label,
        "step": str(step),
        "elements": f"{out.size} {out.dtype.str}",
        "layout": layout,
        "virtual workers": str(virtual_workers),
    }
    guarded = [*(array for *_, array in nodes), out, *guard]
    return transport.submit(
        Collective(what, _in_pieces(spans, out, size, transfer), out.nbytes, label, step, ready, guard=guarded)
    )


def all_gather_spans(
    transport: Transport,
    array: Array,
    spans: Sequence[Span],
    *,
    label: str = "",
    step: int = 0,
    peers: Iterable[int] | None = None,
) -> Handle:
    """Start to give every rank all spans of an array, each from its owner, in place. `peers`: see `tree_reduce_scatter`."""
    rank, size = transport.topology.rank, transport.topology.size
    others = [other for other in (range(size) if peers is None else peers) if other != rank]

    def transfer(pieces: list[Span], lane: Lane) -> Transfer:
        requests = []
        for owner, start, stop in pieces:
            if owner in others:
                requests.append(lane.comm.Irecv(array[start:stop], owner, lane.tag))
            elif owner == rank:
                requests += [lane.comm.Isend(array[start:stop], other, lane.tag) for other in others]
        yield requests

    return transport.submit(_moving("all-gather of spans", array, spans, size, transfer, label, step))


def spans_to_rank_0(
    transport: Transport, array: Array, spans: Sequence[Span], into: Array | None, *, label: str = ""
) -> Handle:
    """Start to give rank 0 all spans of an array, in `into`; None on the other ranks."""
    rank, size = transport.topology.rank, transport.topology.size

    def transfer(pieces: list[Span], lane: Lane) -> Transfer:
        requests = []
        for owner, start, stop in pieces:
            if into is not None and owner == 0:
                into[start:stop] = array[start:stop]
            elif into is not None:
                requests.append(lane.comm.Irecv(into[start:stop], owner, lane.tag))
            elif owner == rank:
                requests.append(lane.comm.Isend(array[start:stop], 0, lane.tag))
        yield requests

    return transport.submit(_moving("spans to rank 0", array, spans, size, transfer, label, -1))


def _moving(
    name: str,
    array: Array,
    spans: Sequence[Span],
    size: int,
    transfer: Callable[[list[Span], Lane], Transfer],
    label: str,
    step: int,
) -> Collective:
    what = {"collective": name, "bucket": label, "step": str(step), "elements": f"{array.size} {array.dtype.str}"}
    return Collective(what, _in_pieces(spans, array, size, transfer), array.nbytes, label, step)


def _in_pieces(
    spans: Sequence[Span], array: Array, size: int, transfer: Callable[[list[Span], Lane], Transfer]
) -> Iterator[Callable[[Lane], Transfer]]:
    """One transfer for each piece of the longest span."""
    length = max(1, CHUNK_BYTES // size // array.itemsize)
    longest = max((span.stop - span.start for span in spans), default=0)
    for begin in range(0, longest, length):
        pieces = [
            Span(owner, start + begin, min(start + begin + length, stop))
            for owner, start, stop in spans
            if start + begin < stop
        ]
        yield partial(transfer, pieces)
