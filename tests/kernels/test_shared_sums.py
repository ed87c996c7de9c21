"""Sums in shared memory: NumPy's bits, and nobody adds before everybody has come. Threads take the place of ranks."""

import threading
import time

import numpy as np
import pytest

from allgrad.kernels import shared_sums


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 7, 1000])
def test_additions_have_the_bits_of_numpy(kind, size, rng):
    a, b, c = (rng.standard_normal(size).astype(kind) * 10.0**k for k in (0, 8, 20))
    expected = (a + b) + c
    out = np.full(size, np.nan, kind)
    shared_sums.add_up(np.array([*shared_sums.row(a, b, a), *shared_sums.row(a, c, out)]))
    assert out.tobytes() == expected.tobytes()


def test_a_sum_that_overflows_is_infinite(recwarn):
    a = np.full(40, np.finfo(np.float32).max)
    shared_sums.add_up(np.array(shared_sums.row(a, a.copy(), a)))
    assert np.isinf(a).all()
    assert not len(recwarn)


def test_nobody_adds_before_all_ranks_have_come_or_leaves_before_all_have_added():
    """Each rank adds the other's array, which that one has written just before; a race would show old numbers."""
    from allgrad.comm.board import FULL, NO_BYTES, READ, Board

    size, rounds, wrong = 3000, 300, []
    shared = np.zeros(1 << 19, np.uint8)

    class Memory:
        ranks = 2

        def __init__(self, rank):
            self.rank = rank

        def allocate(self, length, dtype):
            return shared[:length].view(dtype)

    boards = [Board(Memory(rank)) for rank in range(2)]
    mine, sums = np.zeros((2, size)), np.zeros((2, size))
    half = size // 2

    def run(rank):
        part = slice(rank * half, (rank + 1) * half)
        additions = np.array(shared_sums.row(mine[0, part], mine[1, part], sums[0, part]))
        before = time.perf_counter()
        for number in range(1, rounds):
            mine[rank] = number * (rank + 1)
            while (found := boards[rank].sum_up(5, additions, spins=1000, rounds=100_000))[0] == FULL:
                pass
            done, began, ended = found
            if done != 2 or not (sums[0] == 3 * number).all() or not before <= began <= ended <= time.perf_counter():
                wrong.append((rank, number, found))
            before = ended
            while (read := boards[rank].exchange(6, NO_BYTES, np.empty(0, np.uint8), 1000, 100_000)) == FULL:
                pass
            assert read == READ

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
