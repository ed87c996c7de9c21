"""What the ranks decide before a step, from what each of them knows."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pytest

from allgrad.train.boundary import Boundary, Decision
from allgrad.train.loggers.trace import ON_SIGNAL, ask_for_trace


class Ranks:
    """A world of three, seen from one of them, in which the other two say what they are told to."""

    def __init__(self, rank: int, others: list[list[int]]) -> None:
        self.rank, self.others = rank, others

    def all_gather(self, mine):
        rows = list(self.others)
        rows.insert(self.rank, list(mine))
        return np.array(rows)


NOTHING = [[0, 0, 0, 0], [0, 0, 0, 0]]


def decide(directory, *, rank=0, others=NOTHING, asked=False, trace=False, minutes=None, age=0.0, joins=False):
    signals = SimpleNamespace(asked=asked, trace=trace)
    boundary = Boundary(Ranks(rank, others), directory, signals, minutes)
    return boundary.decide(saved_at=time.monotonic() - age, joins=joins)


def test_nothing_is_due(tmp_path) -> None:
    assert decide(tmp_path) == Decision(stop=False, save=False, trace=0, join=False)


def test_one_rank_is_enough_to_stop_or_to_trace(tmp_path) -> None:
    assert decide(tmp_path, others=[[0, 0, 5, 0], [1, 0, 0, 0]]) == Decision(True, False, 5, False)
    assert decide(tmp_path, rank=2, asked=True, trace=True) == Decision(True, False, ON_SIGNAL, False)


@pytest.mark.parametrize("rank", [0, 1])
def test_minutes_and_replacements_are_rank_0s(tmp_path, rank) -> None:
    found = decide(tmp_path, rank=rank, minutes=2, age=1000, joins=True)
    assert (found.save, found.join) == (rank == 0, rank == 0)


def test_rank_0_finds_a_request_in_the_directory(tmp_path) -> None:
    ask_for_trace(tmp_path, 7)
    assert decide(tmp_path, rank=1).trace == 0
    assert decide(tmp_path).trace == 7
    assert decide(tmp_path).trace == 0
