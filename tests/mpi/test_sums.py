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


def differently(sizes):
    """Ranks of which one has fetched an earlier exchange and the other has not: they choose different ways for what follows."""
    import numpy as np

    from allgrad import comm
    from allgrad.kernels import shared_sums

    world = comm.init()
    world.start_engine(stall_seconds=5)
    assert not world.open_board()
    memory = comm.NodeMemory(world)
    found = []
    for size in sizes:
        rows = memory.rows(world.size, size, np.dtype(np.float64))
        out = memory.allocate(size, np.dtype(np.float64))
        rows[world.rank] = world.rank + 1
        kind = comm.Kind({"collective": "sum of rows", "size": str(size)})
        own = [(rows[0], rows[1], out)] if world.rank == 0 else []
        additions = np.array([shared_sums.row(*each) for each in own], np.int64).reshape(-1)
        fetch = world.all_gather_later(np.array([world.rank]))
        if world.rank:
            fetch()
        world.barrier()
        world.sum_in_memory(kind, additions)
        found.append([out.tolist(), fetch().reshape(-1).tolist()])
    try:
        world.sum_in_memory(comm.Kind({"collective": "sum of rows", "size": str(world.rank)}), np.empty(0, np.int64))
    except comm.DesyncError as error:
        found.append(str(error))
    return found


def test_ranks_may_choose_different_ways(mpirun):
    for value in mpirun(differently, 2, [1, 5000]).values:
        assert value[:2] == [[[3.0], [0, 1]], [[3.0] * 5000, [0, 1]]]
        assert "size: '0' on rank 0; '1' on rank 1" in value[2]
