"""What is posted to the engine: jobs and their handles, the checks of a caller's arrays, and a job cut into chunks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import collectives
from .desync import room
from .tree import Node, block, cover, maximal_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .collectives import Part
    from .engine import Engine
    from .flight import Running
    from .tree import Array

_SMALLEST_SLICE = 1 << 14  # bytes: with many ranks a chunk grows so that the slices sent do not fall below this


class Times(NamedTuple):
    """When a job's data were final, when it was posted, first moved, and done: seconds on rank 0's clock."""

    label: str
    step: int
    nbytes: int
    ready: float
    posted: float
    progress: float
    done: float


class Handle:
    """A posted collective. Its arrays are read-only until `wait`."""

    def __init__(self, engine: Engine, guarded: Sequence[Array]) -> None:
        self.engine = engine
        self.event = threading.Event()
        self.error: BaseException | None = None
        self.times: Times | None = None  # once it is done, if the engine records
        self._guarded = [array for array in guarded if array.flags.writeable]
        for array in self._guarded:
            array.flags.writeable = False

    @property
    def done(self) -> bool:
        """Whether `wait` would return (or raise) at once."""
        return self.event.is_set()

    def wait(self) -> None:
        """Return when the result is there; the arrays are the caller's again. Raises what went wrong."""
        if not self.event.is_set():
            self.engine.wait_for(self)
        if self.error is not None:
            raise self.error
        guarded, self._guarded = self._guarded, []
        for array in guarded:
            array.flags.writeable = True


@dataclass
class Job:
    """A collective inside the engine: what it is, its chunks still to start, and how far it has come."""

    what: dict[str, str]
    label: str
    step: int
    nbytes: int
    parts: Iterator[Callable[[int, int], Part]]
    ready: float | None
    payload: Array | None = None  # uint8: data that travel with the check ...
    arrived: Callable[[Array], None] | None = None  # ... and who takes all ranks' rows of them
    number: int = -1
    posted: float = 0.0
    progress: float | None = None
    handle: Handle | None = None
    check: Running | None = None
    exhausted: bool = False
    live: int = 0

    def describe(self) -> str:
        """The job in words, for a report."""
        if self.step < 0:
            return f"{self.what['collective']} (collective number {self.number})"
        bucket, step = f"bucket {self.label!r}", f"step {self.step}"
        return f"{self.what['collective']} of {bucket}, {step} (collective number {self.number})"

    @property
    def complete(self) -> bool:
        """Whether every chunk has been started and has ended."""
        return self.exhausted and not self.live


def prepare(
    nodes: Sequence[tuple[int, int, Array]], out: Array, *, rank: int, ranks: int, virtual_workers: int
) -> tuple[list[tuple[Node, Array]], Array]:
    """Check what a caller posts, and make views of it that stay writable while the caller's arrays are guarded."""
    expected = maximal_nodes(block(rank, ranks, virtual_workers), virtual_workers)
    got = tuple(Node(level, place) for level, place, _ in nodes)
    if got != expected and [cover(node, virtual_workers) for node in got] != [
        cover(node, virtual_workers) for node in expected
    ]:
        raise ValueError(
            f"The nodes parameter of post must be this rank's maximal nodes {[tuple(n) for n in expected]} "
            f"(rank {rank} of {ranks}, {virtual_workers} virtual workers). Got {[tuple(n) for n in got]} instead."
        )
    arrays = [array for *_, array in nodes]
    for name, array in (*zip(got, arrays, strict=True), ("out", out)):
        if array.dtype not in (np.float32, np.float64):
            raise TypeError(f"The arrays of post must be float32 or float64. Got {array.dtype} for {name} instead.")
        if array.ndim != 1 or not array.flags.c_contiguous or array.dtype != out.dtype or array.size != out.size:
            raise ValueError(
                f"The arrays of post must be flat, contiguous and like out ({out.size} of {out.dtype}). "
                f"Got {array.dtype} of shape {array.shape} and strides {array.strides} for {name} instead."
            )
        if not array.flags.writeable:
            raise ValueError(
                f"The arrays of post must be writable, {name} is read-only. A bucket that is in flight is guarded until "
                "its handle's wait(): post it again only after that."
            )
    overlap = any(np.may_share_memory(a, b) for i, a in enumerate(arrays) for b in arrays[i + 1 :])
    if overlap or any(a.ctypes.data != out.ctypes.data and np.may_share_memory(a, out) for a in arrays):
        raise ValueError("The arrays of post must not overlap (out may be exactly one of the nodes' arrays).")
    return [(node, array.view()) for node, array in zip(expected, arrays, strict=True)], out.view()


def chunks(
    engine: Engine, nodes: list[tuple[Node, Array]], out: Array, *, virtual_workers: int, reduction: str
) -> Iterator[Callable[[int, int], Part]]:
    """The parts of an all-reduce, each to be called with its tag and its place in the window."""
    if reduction not in ("exact", "mpi"):
        raise ValueError(f"The reduction parameter of post must be 'exact' or 'mpi'. Got {reduction!r} instead.")
    rank, size = engine.world.rank, engine.world.size
    small = out.nbytes * size * collectives.most_nodes(size, virtual_workers) <= engine.small_bytes
    aligned = collectives.power_of_two(size) and collectives.power_of_two(virtual_workers)
    length = max(engine.chunk_bytes, size * _SMALLEST_SLICE) // out.itemsize
    if size == 1 or reduction == "mpi" or small:
        length = max(out.size, 1)

    def part(start: int, tag: int, slot: int) -> Part:
        span = slice(start, start + length)
        pieces, target = [(node, array[span]) for node, array in nodes], out[span]
        scratch = partial(engine.scratch, slot)
        if size == 1:
            return collectives.alone(pieces, target, virtual_workers=virtual_workers)
        if reduction == "mpi":
            return collectives.library(engine.data, pieces, target)
        if small:
            return collectives.gather(
                engine.data, size, pieces, target, virtual_workers=virtual_workers, scratch=scratch
            )
        if aligned:
            return collectives.halving(engine.data, rank, size, pieces[0][1], target, tag=tag, scratch=scratch)
        return collectives.owners(
            engine.data, rank, size, pieces, target, virtual_workers=virtual_workers, tag=tag, scratch=scratch
        )

    return (partial(part, start) for start in range(0, max(out.size, 1), length))


def in_one_message(job: Job, nodes: list[tuple[Node, Array]], out: Array, *, size: int, virtual_workers: int) -> None:
    """Where an all-reduce is small enough, let it travel with its check: `collectives.gather` in no exchange of its own."""
    if size == 1 or collectives.most_nodes(size, virtual_workers) * out.nbytes > room(size):
        return
    mine = np.zeros((collectives.most_nodes(size, virtual_workers), out.size), out.dtype)
    for row, (_, array) in zip(mine, nodes, strict=False):
        row[:] = array

    def arrived(rows: Array) -> None:
        everyone = np.ascontiguousarray(rows).view(out.dtype).reshape(size, *mine.shape)
        with np.errstate(all="ignore"):
            collectives.assemble(everyone, out, virtual_workers=virtual_workers)

    job.payload, job.arrived, job.parts = mine.view(np.uint8).reshape(-1), arrived, iter(())
