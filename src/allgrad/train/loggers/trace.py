"""`trace.json`: what every rank did in the traced steps, for ui.perfetto.dev, chrome://tracing and `allgrad report`.

Contract. Steps are traced in windows: the first steps of a run (`logging.trace`), or any later ones on demand (`allgrad
trace RUN`, SIGUSR2). All ranks begin a window at the same step, because the request travels with what they exchange before
each step anyway. Nothing is written or exchanged inside a window. After it, rank 0 gathers the events of all ranks and
replaces the file in one step, with all windows of this job. Outside a window a traced place costs one comparison.

The file is in the trace-event format (JSON object form). A rank is a process. Its lane 0 has what it computes; workers that
run as threads, one inside the time of another, have further lanes, because slices of one lane either nest or do not
overlap. From lane `BUCKETS` on there are its buckets, in as many lanes as there are buckets under way at once. Times are
microseconds on rank 0's clock (comm/clock.py), from the first event.

| category     | what                                                                                                         |
|--------------|--------------------------------------------------------------------------------------------------------------|
| `step`       | a step, around the slices below                                                                              |
| `agree`      | the ranks exchange whether anyone was asked to stop: waits for the slowest rank                              |
| `load`       | waiting for the micro-batches                                                                                |
| `forward`    | one virtual worker's loss, or that of all the rank's workers as one batch, under the first one's number      |
| `backward`   | its backward pass                                                                                            |
| `wait`       | from the end of the last backward pass until all sums are there: exposed communication                       |
| `update`     | the check for NaN, clipping, the optimizer                                                                   |
| `bucket`     | one bucket's all-reduce, from posted to done                                                                 |
| `evaluation`, `checkpoint` | between steps                                                                                  |
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

from allgrad.comm.clock import drift
from allgrad.train.atomic import write_atomic
from allgrad.train.run.machine import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from allgrad.comm import World
    from allgrad.parallel.timing import StepTimes

__all__ = ["BUCKETS", "FIRST_STEPS", "LONGEST", "ON_SIGNAL", "Tracer", "ask_for_trace", "lanes", "take_request"]

FIRST_STEPS = 20
"""How many steps `logging.trace: true` traces."""

ON_SIGNAL = 3
"""How many steps SIGUSR2 traces."""

LONGEST = 1000
"""The longest window, in steps: its events are in memory until it ends."""

BUCKETS = 100
"""The first lane of a rank's buckets."""

_REQUEST = ".trace-request"
_NOTHING: AbstractContextManager[None] = nullcontext()
_ORDER = ("agree", "load", "update")  # the parts of a step that the trainer reports, besides those of StepTimes


class Span(NamedTuple):
    """Something that lasted from `start` to `end`, in seconds on rank 0's clock."""

    kind: str
    start: float
    end: float
    name: str
    details: dict[str, Any]


class Tracer:
    """Records what this rank does, and writes what all ranks did.

    Args:
        world: the ranks.
        steps: how many steps to trace from the start.
    """

    def __init__(self, world: World, steps: int) -> None:
        self.world, self.left = world, steps
        self._drift = 0.0  # of this rank's clock since the start of the job, in seconds
        self._spans: list[Span] = []
        self._pending: list[Span] = []  # of the step that is under way
        self._events: list[dict[str, Any]] = []  # on rank 0: of all ranks and all windows

    def span(self, kind: str) -> AbstractContextManager[None]:
        """Around something that the trainer does."""
        return self._record(kind) if self.left else _NOTHING

    @contextmanager
    def _record(self, kind: str) -> Iterator[None]:
        if kind == _ORDER[0]:
            self._pending = []  # those of a step that was rolled back
        start = self.world.clock()
        yield
        span = Span(kind, start, self.world.clock(), kind, {})
        (self._pending if kind in _ORDER else self._spans).append(span)

    def add(self, step: int, times: StepTimes | None) -> None:
        """A step has ended. Every rank calls this at the same step.

        Args:
            step: its number, from 0.
            times: what its parts took, unless it was not measured.
        """
        if not self.left:
            return
        self.left -= 1
        inside = [*self._pending, *(_parts_of(times) if times is not None else ())]
        self._pending = []
        if inside:
            whole = Span("step", min(s.start for s in inside), max(s.end for s in inside), f"step {step}", {})
            memory = Span("memory", whole.end, whole.end, "memory", {"MB": resident_bytes() / 1e6})
            self._spans += [s._replace(details={**s.details, "step": step}) for s in (whole, *inside)]
            self._spans.append(memory)

    def begin(self, steps: int, directory: Path) -> None:
        """Between two steps: write a window that has ended, and begin one of `steps` steps unless that is 0.

        Every rank calls this with the same number. Only rank 0 uses the directory, which is the run's.
        """
        if self._spans and not self.left:
            self.write(directory)
        if steps and not self.left:
            self.left = min(steps, LONGEST)
            self._drift = drift(self.world.clock, self.world.all_gather, self.world.rank)

    def write(self, directory: Path) -> None:
        """Gather what was recorded and write the file, if there is anything. All ranks call this together."""
        if not self._spans:
            return
        moved = [span._replace(start=span.start + self._drift, end=span.end + self._drift) for span in self._spans]
        everyone = self.world.all_gather_json([self.world.host, moved])
        self._spans = []
        if self.world.rank:
            return
        if not self._events:
            self._origin = min(span[1] for _, spans in everyone for span in spans)
        for rank, (_, spans) in enumerate(everyone):
            self._events += _events_of(rank, [Span(*span) for span in spans], self._origin)
        names = _names([host for host, _ in everyone], {(event["pid"], event["tid"]) for event in self._events})
        content = {"traceEvents": [*names, *self._events], "displayTimeUnit": "ms"}
        write_atomic(directory / "trace.json", json.dumps(content, separators=(",", ":")).encode())


def _parts_of(times: StepTimes) -> Iterator[Span]:
    for worker, start, forward, end, count in times.workers:
        details = {"worker": worker, "workers": count}
        who = f"worker {worker}" if count == 1 else f"workers {worker} to {worker + count - 1}"
        yield Span("forward", start, forward, f"forward, {who}", details)
        yield Span("backward", forward, end, f"backward, {who}", details)
    yield Span("wait", times.computed, times.end, "wait", {})
    for bucket in times.buckets:
        moved: dict[str, Any] = {
            "bytes": bucket.nbytes,
            "ready_ms_before": round(1e3 * (bucket.posted - bucket.ready), 3),
        }
        yield Span("bucket", bucket.posted, bucket.done, f"bucket {bucket.label}", moved)


def _events_of(rank: int, spans: Sequence[Span], origin: float) -> Iterator[dict[str, Any]]:
    """One rank's spans as trace events."""

    def microseconds(seconds: float) -> float:
        return round((seconds - origin) * 1e6, 3)

    lane_of = _lanes_of(spans)
    for span in spans:
        common = {"name": span.name, "pid": rank, "ts": microseconds(span.start)}
        if span.kind == "memory":
            yield {"ph": "C", "tid": 0, **common, "args": {"MB": span.details["MB"]}}
        else:
            length = round(microseconds(span.end) - microseconds(span.start), 3)
            lane = lane_of.get(id(span), 0)
            yield {"ph": "X", "cat": span.kind, "tid": lane, **common, "dur": length, "args": span.details}


def _lanes_of(spans: Sequence[Span]) -> dict[int, int]:
    """From the id of a span to its lane, where that is not lane 0."""
    found: dict[int, int] = {}
    buckets = [span for span in spans if span.kind == "bucket"]
    for span, lane in zip(buckets, lanes((s.start, s.end) for s in buckets), strict=True):
        found[id(span)] = BUCKETS + lane
    workers: dict[tuple[int, int], list[Span]] = {}
    for span in spans:
        if span.kind in ("forward", "backward"):
            workers.setdefault((span.details["step"], span.details["worker"]), []).append(span)
    whole = [(min(s.start for s in pair), max(s.end for s in pair)) for pair in workers.values()]
    for pair, lane in zip(workers.values(), lanes(whole), strict=True):
        found |= {id(span): lane for span in pair}
    return found


def _names(hosts: Sequence[str], used: set[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """The events that name ranks and lanes."""
    for rank, host in enumerate(hosts):
        yield _name("process_name", rank, 0, name=f"rank {rank} ({host})")
        yield _name("process_sort_index", rank, 0, sort_index=rank)
    for rank, lane in sorted(used):
        label = f"buckets {lane - BUCKETS}" if lane >= BUCKETS else f"compute {lane}" if lane else "compute"
        yield _name("thread_name", rank, lane, name=label)


def _name(what: str, rank: int, lane: int, **arguments: Any) -> dict[str, Any]:
    return {"ph": "M", "name": what, "pid": rank, "tid": lane, "args": arguments}


def lanes(intervals: Iterable[tuple[float, float]]) -> list[int]:
    """The lowest lane for each interval in which it overlaps none of those that start before it.

    >>> lanes([(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)])
    [0, 1, 0]
    """
    given = list(intervals)
    found, free_from = [0] * len(given), list[float]()
    for index in sorted(range(len(given)), key=lambda i: given[i]):
        start, end = given[index]
        lane = next((n for n, busy_until in enumerate(free_from) if busy_until <= start), len(free_from))
        free_from[lane : lane + 1] = [end]
        found[index] = lane
    return found


# Asking a running job for a trace.


def ask_for_trace(directory: Path, steps: int) -> None:
    """Ask the job that owns a run's directory to trace its next steps.

    Raises:
        OSError: the directory cannot be written to.
    """
    write_atomic(directory / _REQUEST, f"{steps}\n".encode())


def take_request(directory: Path) -> int:
    """How many steps somebody asked to trace, once; 0 if nobody did."""
    path = directory / _REQUEST
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return 0
    try:
        text = os.read(file, 20).decode(errors="replace").strip()
    finally:
        os.close(file)
    path.unlink(missing_ok=True)
    return min(int(text), LONGEST) if text.isdecimal() else 0
