"""Communication that hid, and communication that was waited for."""

from __future__ import annotations

from allgrad.comm import Times
from allgrad.parallel.timing import Overlap, StepTimes, union


def step(intervals, *, computed, end):
    buckets = tuple(Times("b", 0, 8, start, start, start, stop) for start, stop in intervals)
    return StepTimes(0, 0.0, computed, end, buckets)


def test_overlapping_intervals_count_once() -> None:
    assert union([(5.0, 6.0), (0.0, 3.0), (1.0, 2.0), (2.5, 4.0)]) == 5.0
    assert union([]) == 0


def test_a_step_is_split_at_the_end_of_its_computation() -> None:
    times = step([(1.0, 4.0), (3.0, 6.0), (7.0, 8.0)], computed=5.0, end=8.5)
    assert (times.compute, times.communication, times.hidden, times.exposed) == (5.0, 6.0, 4.0, 3.5)


def test_no_more_wait_is_counted_than_there_was_communication() -> None:
    overlap = Overlap()
    overlap.add(step([(0.0, 2.0), (1.0, 4.0)], computed=3.0, end=4.0))
    overlap.add(step([(10.0, 14.0)], computed=10.0, end=19.0))
    overlap.add(step([], computed=1.0, end=2.0))
    assert overlap.hidden_fraction == (3 + 0) / 8
    assert Overlap().hidden_fraction is None
