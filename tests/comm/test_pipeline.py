"""Collectives on two ranks, with a network that delivers in an order that the test chooses."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.comm import Collective, DesyncError, Handle
from allgrad.comm.pipeline import Communicators, Pipeline


def collective(kind: str, log: list[str] | None = None, label: str = "b") -> Collective:
    def transfer(lane):
        if log is not None:
            log.append(kind)
        yield []

    return Collective({"collective": kind}, iter([transfer]), 8, label=label, step=3)


class Ranks:
    """Two ranks, each with a network for checks and one for their details."""

    def __init__(self, make_network):
        self.checks, self.details = make_network(2), make_network(2)
        self.pipelines = [
            Pipeline(
                Communicators(self.checks.comms[rank], self.checks.comms[rank], self.details.comms[rank]),
                window=4,
                record=True,
                check=True,
                offset=0.0,
            )
            for rank in range(2)
        ]

    def post(self, rank, what):
        handle = Handle(None, ())
        self.pipelines[rank].add(what, handle)
        self.pipelines[rank].take_in()
        return handle

    def move(self):
        errors = []
        for pipeline in self.pipelines:
            try:
                while pipeline.move():
                    pass
            except DesyncError as error:
                pipeline.fail(error)
                errors.append(str(error))
        return errors


@pytest.fixture
def ranks(make_network):
    return Ranks(make_network)


def test_all_ranks_find_the_same_first_difference(ranks) -> None:
    """The check of the second collective arrives first; it must wait for the first one's."""
    for rank in range(2):
        for number in range(2):
            ranks.post(rank, collective(f"number {number} of rank {rank}"))
    ranks.checks.deliver(max)
    assert ranks.move() == []
    assert all(pipeline.error is None for pipeline in ranks.pipelines)
    ranks.checks.deliver(min)
    ranks.move()
    ranks.details.deliver(min)
    first, second = ranks.move()
    assert first == second
    assert "as number 0 (step 3)" in first
    assert "'number 0 of rank 0' on rank 0; 'number 0 of rank 1' on rank 1" in first


def test_a_collective_starts_when_its_check_has_passed_and_not_before_its_predecessor(ranks) -> None:
    logs: list[list[str]] = [[], []]
    handles = [[ranks.post(rank, collective(name, logs[rank])) for name in "ab"] for rank in range(2)]
    ranks.checks.deliver(max)
    ranks.move()
    assert logs == [[], []]
    ranks.checks.deliver(min)
    ranks.move()
    assert logs == [["a", "b"]] * 2
    assert all(handle.done and handle.error is None for mine in handles for handle in mine)
    assert [times.label for times in ranks.pipelines[0].take_times()] == ["b", "b"]


def test_data_that_fit_travel_with_the_check(ranks) -> None:
    got = []
    for rank in range(2):
        what = collective("sum")
        mine = np.full(3, rank, np.uint8)
        ranks.post(
            rank, Collective(what.what, iter(()), 3, payload=mine, arrived=lambda rows: got.append(rows.tolist()))
        )
    ranks.checks.deliver(min)
    ranks.move()
    assert got == [[[0] * 3, [1] * 3]] * 2


def test_a_failed_pipeline_tells_everyone_the_first_error(ranks) -> None:
    handle = ranks.post(0, collective("a"))
    first = ZeroDivisionError("the first")
    ranks.pipelines[0].fail(first)
    ranks.pipelines[0].fail(KeyError("a consequence"))
    assert handle.done
    assert handle.error is first
    assert ranks.post(0, collective("b")).error is first
    assert ranks.pipelines[0].unfinished() is None
