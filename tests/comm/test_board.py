"""The notice board: threads take the place of ranks."""

import threading
import time

import numpy as np
import pytest

from allgrad.comm.board import DIFFERENT, LATE, READ, RING, Board


class Memory:
    """What ranks share, and who asks."""

    def __init__(self, ranks):
        self.ranks, self.rank, self.array = ranks, 0, None

    def allocate(self, length, dtype):
        if self.array is None:
            self.array = np.zeros(length, dtype)
        return self.array


def boards(ranks):
    memory, made = Memory(ranks), []
    for rank in range(ranks):
        memory.rank = rank
        made.append(Board(memory))
    return made


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_everybody_reads_everybodys_message(ranks):
    rounds, failures = 4 * RING, []

    def run(board):
        for number in range(rounds):
            while not board.has_room():
                pass
            everyone = np.zeros((ranks, 3), np.uint8)
            payload = np.array([board.rank, number, 7], np.uint8)
            assert board.post(number, payload) == number
            if board.collect(number, number, everyone.reshape(-1), spins=0) != READ:  # late: as the engine does it
                while not board.arrived(number):
                    pass
                keys, rows = board.read(number, 3)
                everyone[:] = rows
                assert (keys == number).all()
                board.done(number)
            if everyone.tolist() != [[rank, number, 7] for rank in range(ranks)]:
                failures.append((board.rank, number, everyone.tolist()))

    threads = [threading.Thread(target=run, args=(board,)) for board in boards(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_place_is_used_again_only_when_all_have_read_it():
    first, second = boards(2)
    payload = np.zeros(1, np.uint8)
    for _ in range(RING):
        assert first.has_room()
        first.post(1, payload)
    assert not first.has_room()
    for number in range(RING):
        second.post(1, payload)
        assert second.arrived(number)
    first.done(0)
    assert not first.has_room()
    second.done(0)
    assert first.has_room()


def test_other_keys_are_seen_and_stay_to_be_read():
    first, second = boards(2)
    nothing, everyone = np.empty(0, np.uint8), np.empty(0, np.uint8)
    first.post(3, nothing)
    assert first.collect(0, 3, everyone, spins=10) == LATE
    second.post(4, nothing)
    assert second.collect(0, 4, everyone, spins=10) == DIFFERENT
    keys, _ = second.read(0, 0)
    assert keys.tolist() == [3, 4]


def test_a_sum_says_how_far_it_came():
    """Each message that is not exchanged stays on the board, to be read later."""
    from allgrad.kernels import shared_sums

    first, second = boards(2)
    a, b = np.ones(4), np.ones(4)
    additions = np.array(shared_sums.row(a, b, a))
    nothing = np.empty(0, np.uint8)
    assert first.sum_up(3, additions, spins=10, rounds=2)[0] == 0  # nobody else is there
    assert (first.posted, a.tolist()) == (1, [1, 1, 1, 1])
    second.post(3, nothing)
    assert first.arrived(0)
    first.done(0)
    assert first.sum_up(3, additions, spins=10, rounds=2)[0] == 0
    second.done(0)
    done, began, _ = second.sum_up(3, additions, spins=10, rounds=2)  # the first rank does not come a second time
    assert done == 1
    assert 0 < time.perf_counter() - began < 600
    assert (second.posted, a.tolist()) == (3, [2, 2, 2, 2])
    first.done(1)
    first.post(4, nothing)
    assert second.collect(2, 3, np.empty(0, np.uint8), spins=0) == DIFFERENT
