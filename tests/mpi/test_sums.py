"""Tree sums of small vectors in real jobs: the bits of one process, whoever drives MPI."""

import numpy as np
import pytest


def summing(totals):
    import numpy as np

    from allgrad import comm

    world = comm.init()
    results = []
    for mode in ("poll", "thread"):
        world.start_engine(mode=mode)
        for total in totals:
            rows = np.random.default_rng(total).standard_normal((total, 50))[comm.block(world.rank, world.size, total)]
            results.append([comm.tree_sum(world, rows, virtual_workers=t).tobytes().hex() for t in (None, total)])
    try:
        comm.tree_sum(world, np.ones((1 + 3 * (world.rank == 0), 2)))
    except ValueError as error:
        results.append(str(error))
    return results


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_same_bits_at_any_rank_count(mpirun, ranks):
    from allgrad.comm import World, tree_sum

    totals = [5, 8, 13]
    expected = [tree_sum(World(), np.random.default_rng(t).standard_normal((t, 50))).tobytes().hex() for t in totals]
    for value in mpirun(summing, ranks, totals).values:
        assert value[:-1] == [[e, e] for e in expected * 2]
        assert f"rows; {ranks + 3} workers on {ranks} ranks are" in value[-1]
