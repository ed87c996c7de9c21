"""All-reduce over the fixed tree, as generators that somebody else polls.

Each function here is a transfer (see `transport.py`): it carries one chunk of a flat array through one all-reduce. It yields
lists of MPI requests and is resumed when all of them are complete; between two yields it adds. So none of them blocks, and
many can be under way at once. That is how chunks are pipelined: one chunk is added while another travels. The engine
resumes them. A test may do it in any order, without MPI.

`tree.py` fixes which additions are done. The algorithm decides where they are done:

- `halving`: V and R are powers of two, and each rank holds one node. Recursive vector halving with *distance doubling*:
  partner r ^ 1 first, then r ^ 2, ... so that step s adds siblings of level log2(V / R) + s, the lower rank's on the
  left. The mirrored all-gather follows. 2 (R - 1) / R of the array cross each rank's link, which is the minimum.
- `owners`: any V and R. The array is cut into R slices. The owner of a slice receives every rank's maximal nodes of it,
  adds them in tree order, and sends the sum back to all.
- `gather`: small arrays, where latency counts. Every rank gets the maximal nodes of all ranks and adds them itself.

Messages between the same two ranks with the same tag arrive in the order in which they were sent (MPI guarantees it), so
a chunk needs one tag.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .tree import Assembly, rank_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .transport import Transfer
    from .tree import Addition, Array, Node

    Scratch = Callable[[int, np.dtype[Any]], Array]


def local(nodes: Sequence[tuple[Node, Array]], out: Array, *, virtual_workers: int) -> Transfer:
    """For a single rank: its only maximal node is the root."""
    whole = Assembly(virtual_workers, out)
    for node, array in nodes:
        whole.add(node, array)
    yield []


def halving(
    comm: Any,
    rank: int,
    size: int,
    node: Array,
    data: Array,
    *,
    tag: int,
    scratch: Scratch,
    add: Addition = np.add,
) -> Transfer:
    """From this rank's one `node` to the root in `data`, which may be the same memory; `size` is a power of two."""
    if node.ctypes.data != data.ctypes.data:
        np.copyto(data, node)
    received = scratch(data.size - data.size // 2, data.dtype)
    steps = []
    start, stop = 0, data.size
    for level in range(size.bit_length() - 1):
        partner, middle = rank ^ (1 << level), (start + stop) // 2
        low, high = data[start:middle], data[middle:stop]
        if partner > rank:
            mine, given, stop = low, high, middle
        else:
            mine, given, start = high, low, middle
        theirs = received[: mine.size]
        yield [comm.Irecv(theirs, partner, tag), comm.Isend(given, partner, tag)]
        left, right = (mine, theirs) if partner > rank else (theirs, mine)
        add(left, right, mine)
        steps.append((partner, mine, given))
    for partner, mine, given in reversed(steps):
        yield [comm.Irecv(given, partner, tag), comm.Isend(mine, partner, tag)]


def owners(
    comm: Any,
    rank: int,
    size: int,
    nodes: Sequence[tuple[Node, Array]],
    out: Array,
    *,
    virtual_workers: int,
    tag: int,
    scratch: Scratch,
    table: Sequence[Sequence[Node]] | None = None,
    add: Addition = np.add,
) -> Transfer:
    """From every rank's maximal `nodes` to the root in `out`, which may be the memory of one of them.

    `table`: which nodes each rank has; by default those of the workers that it runs.
    """
    table = rank_nodes(size, virtual_workers) if table is None else table
    cuts = [owner * out.size // size for owner in range(size + 1)]
    own = slice(cuts[rank], cuts[rank + 1])
    others = [other for other in range(size) if other != rank]
    arriving = [(other, node) for other in others for node in table[other]]
    rows = scratch(len(arriving) * (own.stop - own.start), out.dtype).reshape(len(arriving), own.stop - own.start)
    requests = [comm.Irecv(row, other, tag) for row, (other, _) in zip(rows, arriving, strict=True)]
    requests += [comm.Isend(array[cuts[o] : cuts[o + 1]], o, tag) for o in others for _, array in nodes]
    yield requests
    whole = Assembly(virtual_workers, out[own], add)
    for node, array in nodes:
        whole.add(node, array[own])
    for row, (_, node) in zip(rows, arriving, strict=True):
        whole.add(node, row)
    # The sends above are complete, so `out` may be overwritten even where it is the memory of a node.
    requests = [comm.Irecv(out[cuts[o] : cuts[o + 1]], o, tag) for o in others]
    yield requests + [comm.Isend(out[own], o, tag) for o in others]


def gather(
    comm: Any,
    size: int,
    nodes: Sequence[tuple[Node, Array]],
    out: Array,
    *,
    virtual_workers: int,
    scratch: Scratch,
    add: Addition = np.add,
) -> Transfer:
    """Like `owners`, but in one exchange. Ranks with fewer nodes than others send rows that nobody reads."""
    most = most_nodes(size, virtual_workers)
    memory = scratch((size + 1) * most * out.size, out.dtype).reshape(size + 1, most, out.size)
    mine, everyone = memory[0], memory[1:]
    mine[len(nodes) :] = 0
    for row, (_, array) in zip(mine, nodes, strict=False):
        row[:] = array
    yield [comm.Iallgather(mine, everyone)]
    assemble(everyone, out, virtual_workers=virtual_workers, add=add)


def assemble(everyone: Array, out: Array, *, virtual_workers: int, add: Addition = np.add) -> None:
    """Add the gathered nodes of all ranks; `everyone`: (ranks, rows, n), where each rank's first rows are its maximal nodes."""
    whole = Assembly(virtual_workers, out, add)
    for theirs, row_nodes in zip(everyone, rank_nodes(len(everyone), virtual_workers), strict=True):
        for node, row in zip(row_nodes, theirs, strict=False):
            whole.add(node, row)


@cache
def most_nodes(size: int, virtual_workers: int) -> int:
    """The most maximal nodes that any rank has."""
    return max(len(row) for row in rank_nodes(size, virtual_workers))


def power_of_two(number: int) -> bool:
    """Whether a positive integer is a power of two."""
    return number & (number - 1) == 0
