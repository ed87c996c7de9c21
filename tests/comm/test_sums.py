"""Tree sums of small vectors."""

import numpy as np
import pytest

from allgrad.comm import World, sums, tree_sum


def test_one_process_adds_along_the_tree():
    rows = np.random.default_rng(0).standard_normal((5, 400))
    before = rows.copy()
    expected = ((rows[0] + rows[1]) + (rows[2] + rows[3])) + rows[4]
    assert tree_sum(World(), rows).tobytes() == expected.tobytes()
    assert tree_sum(World(), rows, virtual_workers=5).tobytes() == expected.tobytes()
    assert (rows == before).all()
    assert expected.tobytes() != rows.sum(axis=0).tobytes()


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"\(workers, values\).*\(3,\)"):
        tree_sum(World(), np.ones(3))
    with pytest.raises(ValueError, match=r"rank 0's 8 workers.*Got 3 rows"):
        tree_sum(World(), np.ones((3, 2)), virtual_workers=8)


def test_examples_in_the_docstrings():
    import doctest

    assert doctest.testmod(sums).failed == 0
