"""Tree sums of small vectors."""

import numpy as np
import pytest

from allgrad.comm import World, sums, tree_sum
from allgrad.comm.tree import Node, additions, block


def test_one_process_adds_along_the_tree():
    rows = np.random.default_rng(0).standard_normal((5, 400))
    before = rows.copy()
    expected = ((rows[0] + rows[1]) + (rows[2] + rows[3])) + rows[4]
    assert tree_sum(World(), rows).tobytes() == expected.tobytes()
    assert tree_sum(World(), rows, virtual_workers=5).tobytes() == expected.tobytes()
    assert (rows == before).all()
    assert np.signbit(tree_sum(World(), -np.zeros((5, 1))))
    assert expected.tobytes() != rows.sum(axis=0).tobytes()


@pytest.mark.parametrize("virtual_workers", [1, 2, 5, 8, 12, 31, 64])
def test_the_additions_level_by_level_are_those_of_the_tree(virtual_workers):
    for ranks in range(1, virtual_workers + 1):
        for rank in range(ranks):
            workers = block(rank, ranks, virtual_workers)
            rows = np.random.default_rng(rank).standard_normal((len(workers), 3))
            one_by_one = rows.copy()
            steps, nodes = additions([Node(0, worker) for worker in workers], virtual_workers)
            for left, right in steps:
                one_by_one[left] += one_by_one[right]
            rows = sums.add_levels(rows, sums.levels_of(workers, virtual_workers))
            assert rows.tobytes() == one_by_one[[place for _, place in nodes]].tobytes()


def test_the_sum_of_one_worker_is_no_view_of_its_numbers():
    rows = np.ones((1, 2))
    summed = tree_sum(World(), rows, virtual_workers=1)
    rows[:] = 5
    assert summed.tolist() == [1, 1]


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(workers, values\).*\(3,\)"):
        tree_sum(World(), np.ones(3))
    with pytest.raises(ValueError, match=r"rank 0's 8 workers.*Got 3 rows"):
        tree_sum(World(), np.ones((3, 2)), virtual_workers=8)


def test_examples_in_the_docstrings():
    import doctest

    assert doctest.testmod(sums).failed == 0
