"""Where a step's time went: compute, communication that hid behind it, and communication that was waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from allgrad.comm import Times


@dataclass(frozen=True)
class StepTimes:
    """One rank's step, in seconds on rank 0's clock.

    Attributes:
        step: its number.
        start, computed, end: when it began, when this rank's last backward had ended, when all sums were there.
        buckets: each bucket's ready, posted, first-progress and done times, in order of posting.

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

    @property
    def compute(self) -> float:
        """From the start to the end of the last backward."""
        return self.computed - self.start

    @property
    def exposed(self) -> float:
        """Waited for communication after that."""
        return self.end - self.computed

    @property
    def communication(self) -> float:
        """How long some bucket was under way: from posted to done, overlaps counted once."""
        return self._under_way(float("inf"))

    @property
    def hidden(self) -> float:
        """The part of `communication` during which this rank computed."""
        return self._under_way(self.computed)

    def _under_way(self, until: float) -> float:
        total, reached = 0.0, float("-inf")
        for bucket in sorted(self.buckets, key=lambda times: times.posted):
            total += max(0.0, min(bucket.done, until) - max(bucket.posted, reached))
            reached = max(reached, bucket.done)
        return total
