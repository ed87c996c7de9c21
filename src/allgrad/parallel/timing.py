"""Where a step's time went: computation, communication that hid behind it, and communication that was waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from allgrad.comm import Times


class WorkerTimes(NamedTuple):
    """When a virtual worker's forward began, when its backward began, and when it had ended: seconds on rank 0's clock.

    Workers that run as one batch have one entry: `worker` is the first of them, and `workers` how many there are.
    """

    worker: int
    start: float
    forward: float
    end: float
    workers: int = 1


@dataclass(frozen=True)
class StepTimes:
    """One rank's step, in seconds on rank 0's clock.

    Attributes:
        step: its number.
        start, computed, end: when it began, when this rank's last backward had ended, when all sums were there.
        buckets: the ready, posted, first-progress and done times of each bucket, in order of posting.
        workers: this rank's virtual workers, in the order in which they ended.

    >>> from allgrad.comm import Times
    >>> buckets = (Times("0", 7, 80, 1.0, 1.0, 1.1, 2.0), Times("1", 7, 80, 1.5, 1.5, 2.0, 3.5))
    >>> times = StepTimes(7, 0.0, 3.0, 3.6, buckets)
    >>> times.compute, times.communication, times.hidden, round(times.exposed, 3)
    (3.0, 2.5, 2.0, 0.6)
    """

    step: int
    start: float
    computed: float
    end: float
    buckets: tuple[Times, ...]
    workers: tuple[WorkerTimes, ...] = ()

    @property
    def compute(self) -> float:
        """From the start to the end of the last backward."""
        return self.computed - self.start

    @property
    def exposed(self) -> float:
        """The wait for communication after that."""
        return self.end - self.computed

    @property
    def communication(self) -> float:
        """How long some bucket was under way, from posted to done; overlaps count once."""
        return union((bucket.posted, bucket.done) for bucket in self.buckets)

    @property
    def hidden(self) -> float:
        """The part of `communication` during which this rank computed."""
        return union((bucket.posted, min(bucket.done, self.computed)) for bucket in self.buckets)


class Overlap:
    """Sums, over the steps of a run, the time in which buckets were under way, and the part of it that was waited for.

    Only as much of a step's wait is counted as its communication lasted: waking up after the last bucket is no communication.

    >>> from allgrad.comm import Times
    >>> overlap = Overlap()
    >>> overlap.hidden_fraction is None
    True
    >>> buckets = (Times("0", 7, 80, 0.0, 0.0, 0.0, 2.0), Times("1", 7, 80, 1.0, 1.0, 1.0, 4.0))
    >>> overlap.add(StepTimes(7, -1.0, 3.0, 4.0, buckets))
    >>> overlap.hidden_fraction
    0.75
    """

    def __init__(self) -> None:
        self.under_way = self.exposed = 0.0

    def add(self, times: StepTimes) -> None:
        """Add one step."""
        self.under_way += times.communication
        self.exposed += min(times.exposed, times.communication)

    @property
    def hidden_fraction(self) -> float | None:
        """Between 0 (all of it was waited for) and 1; None if nothing was communicated."""
        return 1 - self.exposed / self.under_way if self.under_way else None


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of a union of intervals; an interval that ends before it starts is empty.

    >>> union([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5), (9.0, 8.0)])
    3.5
    """
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
