"""One clock for all ranks: rank 0's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable


def offset_to_rank_0(comm: Any, rank: int, size: int, rounds: int = 10) -> float:
    """What to add to this rank's `time.perf_counter()` to get rank 0's. All ranks call it together.

    Each rank in turn makes some round trips to rank 0. Half of the quickest one is taken as the time of the way there
    (Cristian, 1989), so the error is at most half of that round trip.
    """
    buffer, best = np.empty(1), (np.inf, 0.0)
    for other in range(1, size):
        for _ in range(rounds):
            if rank == 0:
                comm.Recv(buffer, other)
                comm.Send(np.array([time.perf_counter()]), other)
            elif rank == other:
                start = time.perf_counter()
                comm.Send(buffer, 0)
                comm.Recv(buffer, 0)
                stop = time.perf_counter()
                best = min(best, (stop - start, float(buffer[0]) - (start + stop) / 2))
    return best[1]


def drift(
    clock: Callable[[], float],
    all_gather: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]],
    rank: int,
    rounds: int = 10,
) -> float:
    """How much this rank's idea of rank 0's clock has gone wrong since it was made: what to add to it, in seconds; often 0.

    Clocks of two hosts drift apart by up to some 50 microseconds per second, so an offset from the start of a long job is wrong
    later. What a rank receives was sent before. So each exchange gives two bounds: rank 0's time in it cannot be later than my
    receipt, nor my time in it later than rank 0's receipt. As long as 0 is between the tightest bounds, nothing shows that the
    clock is wrong, and it is left alone.

    Args:
        clock: this rank's idea of rank 0's clock.
        all_gather: everybody's array, by rank. All ranks call this function together.
        rank: this rank.
        rounds: exchanges.
    """
    low, high, sent, received = -np.inf, np.inf, 0.0, 0.0
    for number in range(rounds):
        now = clock()
        everyone = all_gather(np.array([now, received]))
        if number:
            high = min(high, float(everyone[0, 1]) - sent)  # rank 0's receipt of the exchange before
        sent, received = now, clock()
        low = max(low, float(everyone[0, 0]) - received)
    return 0.0 if rank == 0 or low <= 0.0 <= high else (low + high) / 2
