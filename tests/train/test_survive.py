"""Survival: whatever each survivor has finished, all of them go on from the same state, and nothing finished is lost."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.memory import PRIVATE
from allgrad.parallel import StepResult
from allgrad.parallel.exchanges import make_exchange
from allgrad.train.checkpoint.state import restore
from allgrad.train.run.progress import Progress
from allgrad.train.survive import Survivor, most_advanced, why_not

OUTSIDE = -1


def weights_after(steps: int) -> int:
    """A training in small: each step depends on all before it."""
    value = 7
    for step in range(steps):
        value = (value * 31 + step) % 1_000_003
    return value


class Weights:
    def __init__(self, value: int, buffer: int) -> None:
        self.value, self.buffer = np.array([value]), np.array([buffer])

    def state_dict(self):
        return {"weights": self.value, "buffer": self.buffer}

    def load_state_dict(self, state):
        self.value, self.buffer = np.array(state["weights"]), np.array(state["buffer"])

    def buffers_state(self):
        return {"buffer": self.buffer.copy()}

    def load_buffers_state(self, state):
        self.buffer = state["buffer"]


@dataclass
class Position:
    at: int

    def state_dict(self):
        return {"at": self.at}

    def load_state_dict(self, state):
        self.at = state["at"]


@dataclass
class RecordedWorld:
    """One rank; what the leader broadcasts is recorded, and the others, which are asked later, receive it."""

    rank: int
    size: int
    positions: list
    tape: list
    survival: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(wanted=9))
    read: int = 0
    node: int = 0

    def all_gather(self, mine):
        assert tuple(mine) == (*self.positions[self.rank], self.node)
        return np.array([(*position, self.node) for position in self.positions])

    def broadcast_json(self, value, root):
        return self._pass(json.dumps(value), root, json.loads)

    def broadcast(self, array, root):
        array[...] = self._pass(array.copy(), root, lambda x: x)
        return array

    def _pass(self, value, root, read):
        if self.rank == root:
            self.tape.append(value)
            return read(value)
        self.read += 1
        return read(self.tape[self.read - 1])


class Rank:
    """A trainer in small that has finished some steps, and may be in the middle of the next."""

    def __init__(self, world, path, steps: int, evaluated: int, middle: bool) -> None:
        self.world, self.directory, self.config = world, path, None
        self.outside = steps == OUTSIDE
        steps = max(steps, 0)
        self.model, self.loader = Weights(weights_after(steps), steps), Position(steps)
        self.progress = Progress(step=steps, evaluated=evaluated)
        self.parts = {"model": self.model, "loader": self.loader, "progress": self.progress}
        self.optimizer = SimpleNamespace(steps={"w": steps}, make_moments=lambda: None, forget_plan=lambda: None)
        self.ema = SimpleNamespace(updates=steps)
        flat = SimpleNamespace(sharing=PRIVATE, writing=nullcontext)
        self.replica = SimpleNamespace(flat=flat, placement=SimpleNamespace(memory="rank"))
        self.last_step, self.gradient_norm, self.writer, self.rebuilt = None, None, None, 0
        self.survivor = Survivor(self, {}, pair=object() if self.outside else None)
        if middle and not self.outside:
            self.survivor.open_step()
            self.loader.at += 1  # the batch was taken, the buffers are merged, the weights are as they were
            self.model.buffer = self.model.buffer + 1
            self.optimizer.steps["w"] += 1
            self.ema.updates += 1

    def load(self, checkpoint):
        restore(self.parts, checkpoint)

    def rebuild(self, *, holds):
        assert holds == self.rank_is_ahead()
        self.rebuilt += 1

    def rank_is_ahead(self):
        position = tuple(self.world.positions[self.world.rank])
        return position == max(tuple(one) for one in self.world.positions)

    def go_back_to(self, checkpoint):
        self.load(checkpoint)


ranks = st.lists(st.tuples(st.integers(OUTSIDE, 1), st.booleans(), st.booleans()), min_size=1, max_size=6).filter(
    lambda found: any(ahead > OUTSIDE for ahead, *_ in found)
)


@given(ranks, st.integers(0, 20))
def test_wherever_survivors_are_they_go_on_from_the_same_state(tmp_path_factory, found, first) -> None:
    positions, states = [], []
    for ahead, evaluated, middle in found:
        steps = OUTSIDE if ahead == OUTSIDE else first + ahead
        at = steps if evaluated else -1
        states.append((steps, -1 if steps == OUTSIDE else at, middle))
        positions.append((-1, -1, -1, -1) if steps == OUTSIDE else (0, 0, steps, at))
    leader, behind = most_advanced(positions)
    tape: list = []
    made = {}
    for rank in sorted(range(len(found)), key=lambda rank: rank != leader):  # the leader speaks first
        world = RecordedWorld(rank, len(found), positions, tape)
        made[rank] = Rank(world, tmp_path_factory.getbasetemp(), *states[rank])
        made[rank].survivor._rebuild()
    most = max(steps for steps, *_ in states)
    for rank in made.values():
        assert (rank.progress.step, rank.loader.at, int(rank.model.buffer[0])) == (most, most, most)
        assert int(rank.model.value[0]) == weights_after(most)
        if rank.rank_is_ahead():
            assert (rank.optimizer.steps["w"], rank.ema.updates) == (most, most)
        assert rank.progress.evaluated == max(at for *_, steps, at in positions if steps == most)
        assert rank.rebuilt == 1
        assert rank.survivor.outside is None
    assert (not tape) == (not behind)  # nothing is sent if nobody is behind


def test_the_lowest_rank_at_the_most_advanced_position_leads() -> None:
    assert most_advanced([(0, 4, -1), (0, 4, 4), (0, 4, 4)]) == (1, [0])
    assert most_advanced([(0, 9, -1), (1, 5, -1)]) == (1, [0])  # it has rolled back, which the other has yet to do
    assert most_advanced([(1, 0, 9, -1), (2, 0, 5, 5), (0, 0, 9, -1)]) == (
        1,
        [0, 2],
    )  # it has left the wrong sums behind
    assert most_advanced([(0, 3, -1), (0, 3, -1)]) == (0, [])


@pytest.mark.parametrize(
    ("memory", "shard", "reduction", "named"),
    [
        ("auto", None, "exact", ""),
        ("auto", None, "mpi", ""),
        ("node", None, "exact", ""),
        ("auto", "optimizer", "exact", "parallel.shard=optimizer"),
        ("auto", None, "top_k", "parallel.reduction=top_k"),
        ("auto", None, "power_sgd", "parallel.reduction=power_sgd"),
        ("auto", None, "local", "parallel.reduction=local"),
    ],
)
def test_state_that_dies_with_a_rank_is_refused_by_name(memory, shard, reduction, named) -> None:
    parallel = SimpleNamespace(memory=memory, shard=shard, reduction=SimpleNamespace(name=reduction))
    reason = why_not(SimpleNamespace(parallel=parallel), make_exchange(reduction))
    assert reason.startswith(named)
    assert bool(reason) == bool(named)


def test_a_rank_that_is_behind_can_report_the_step_that_it_did_not_see(tmp_path) -> None:
    positions, tape = [(0, 0, 4, -1), (0, 0, 5, -1)], []
    ahead = Rank(RecordedWorld(1, 2, positions, tape), tmp_path, 5, -1, False)
    ahead.last_step, ahead.gradient_norm = (
        StepResult(0.5, {"loss": 0.5}, {"loss": 10.0}, frozenset(), 0.1, 0.0, None),
        2.0,
    )
    ahead.survivor._rebuild()
    behind = Rank(RecordedWorld(0, 2, positions, tape), tmp_path, 4, -1, True)
    behind.survivor._rebuild()
    assert (behind.last_step.loss, behind.last_step.terms, behind.gradient_norm) == (0.5, {"loss": 0.5}, 2.0)
