"""How much of the communication of gradients hid behind the backward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Overlap", "union"]


class Overlap:
    """Sums, over the steps of a run, the time in which buckets were under way, and the part of it that was waited for.

    Buckets overlap each other, so their intervals are united first. Of the wait only what fits into that union is
    counted: waking up after the last bucket is no communication.

    Example:
        >>> overlap = Overlap()
        >>> overlap.hidden_fraction is None
        True
        >>> overlap.add([(0.0, 2.0), (1.0, 4.0)], waited=1.0)
        >>> overlap.hidden_fraction
        0.75
    """

    def __init__(self) -> None:
        self.under_way = self.exposed = 0.0

    def add(self, intervals: Iterable[tuple[float, float]], waited: float) -> None:
        """One step.

        Args:
            intervals: (posted, done) of each bucket, in seconds.
            waited: seconds between the end of the backward pass and the last bucket's arrival.
        """
        length = union(intervals)
        self.under_way += length
        self.exposed += min(waited, length)

    @property
    def hidden_fraction(self) -> float | None:
        """Between 0 (all of it was waited for) and 1; None where nothing was communicated."""
        return 1 - self.exposed / self.under_way if self.under_way else None


def union(intervals: Iterable[tuple[float, float]]) -> float:
    """The length of a union of intervals.

    >>> union([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5)])
    3.5
    """
    total, end = 0.0, float("-inf")
    for start, stop in sorted(intervals):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
