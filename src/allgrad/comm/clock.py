"""One clock for all ranks: rank 0's."""

from __future__ import annotations

import time
from typing import Any

import numpy as np


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
