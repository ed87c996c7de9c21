"""A shadow of shared memory: whoever dies in the middle of a write, the others find what was there before it."""

import threading

import numpy as np
import pytest

import allgrad as ag
from allgrad.memory import PRIVATE, Private, Shadow, aligned_zeros, flatten

RANKS = 3


class Threads(Private):
    """Processes that share memory, as threads: all of them get the same arrays, in order."""

    def __init__(self, rank, arrays, wait):
        self.rank, self.ranks, self._arrays, self._wait, self._made = rank, RANKS, arrays, wait, 0

    def allocate(self, length, dtype):
        if self.rank == 0:
            self._arrays.append(aligned_zeros(length, dtype))
        self._wait.wait()
        self._made += 1
        return self._arrays[self._made - 1]

    def barrier(self):
        self._wait.wait()


def as_ranks(function):
    """[function(rank, sharing) for each rank], at once."""
    arrays, wait, results = [], threading.Barrier(RANKS), [None] * RANKS

    def run(rank):
        try:
            results[rank] = function(rank, Threads(rank, arrays, wait))
        except BaseException:
            wait.abort()
            raise

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(RANKS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not wait.broken
    return results


def model(sharing=PRIVATE):
    leaves = [("w", ag.tensor(np.arange(200.0), requires_grad=True)), ("b", ag.tensor([7.0], requires_grad=True))]
    flat = flatten(leaves, sharing=sharing)
    return leaves, flat, flat.new_arena()


def in_shared_memory(rank, sharing):
    leaves, flat, moments = model(sharing)
    sharing.barrier()
    if rank == 0:
        moments["w"][...] = 3.0
    sharing.barrier()
    return leaves, flat, moments, Shadow(flat)


@pytest.mark.parametrize("dead", ["before it saves", "in the save", "in the write", "after the write"])
def test_what_was_saved_is_there_again(dead):
    made = as_ranks(in_shared_memory)
    flat, moments = made[0][1], made[0][2]
    shadows = [shadow for *_, shadow in made]
    for shadow in shadows:
        shadow.save()  # an earlier write, which all have finished
    for array in (flat.params.flat, moments.flat):
        for values in array.values():
            values += 1
    before = [array.copy() for array in (flat.params["w"], flat.params["b"], moments["w"])]
    shadows[0].save()
    shadows[2].save()
    if dead == "in the save":
        shadows[1]._marks[1] = 0
        shadows[1]._own[0][1][:8] = np.nan
    if dead in ("in the write", "after the write"):
        shadows[1].save()
        for array in (flat.params.flat, moments.flat):
            for values in array.values():
                values[: None if dead == "after the write" else 150] = np.nan
    for _ in range(2):  # a process may die in the middle of it, and the next one does it again
        shadows[2].restore()
        for found, expected in zip((flat.params["w"], flat.params["b"], moments["w"]), before, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("source", [0, 2, None])
def test_values_move_into_other_memory(source):
    def move(rank, sharing):
        leaves, flat, moments = model()
        if rank == source:
            flat.params["w"][...] = 5.0
            moments["w"][...] = 3.0
        old = flat.params["w"]
        flat.move(sharing, fills=rank == source)
        return leaves, flat, moments, old

    made = as_ranks(move)
    expected = (5.0, 3.0, 7.0) if source is not None else (0.0, 0.0, 0.0)
    for leaves, flat, moments, old in made:
        (_, w), (_, b) = leaves
        assert (w.value[9], moments["w"][9], b.value[0]) == expected
        assert w.value is flat.params["w"]
        assert not np.shares_memory(old, w.value)
        assert np.shares_memory(moments["w"], made[0][2]["w"])
        assert np.shares_memory(w.value, made[0][1].params["w"])
        with pytest.raises(ValueError, match="read-only"):
            w.value[0] = 1
    shares = [flat.own_share(whole=False)[np.dtype(np.float64)] for _, flat, *_ in made]
    assert [start for start, _ in shares[1:]] == [stop for _, stop in shares[:-1]]


def test_a_move_that_another_process_does_not_finish_changes_nothing():
    _, flat, moments = model()

    class Dead(Private):
        def barrier(self):
            raise ConnectionError

    before = flat.params.flat, moments.flat, flat.sharing
    with pytest.raises(ConnectionError):
        flat.move(Dead(), fills=True)
    assert all(now is then for now, then in zip((flat.params.flat, moments.flat, flat.sharing), before, strict=True))
