"""Rows for training and held-out rows."""

from __future__ import annotations

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.split import split_rows


@pytest.mark.parametrize("fraction", [0.0, 0.04, 0.96, 1.0])
def test_neither_part_may_be_empty(fraction: float) -> None:
    with pytest.raises(DataError, match="split"):
        split_rows(10, fraction, seed=0)


def test_a_split_is_complete_and_shuffled() -> None:
    train, valid = split_rows(1000, 0.1, seed=0)
    assert np.array_equal(np.sort(np.concatenate([train, valid])), np.arange(1000))
    assert 300 < valid.mean() < 700
    assert (np.diff(train) > 0).all()
    assert (np.diff(valid) > 0).all()


def test_every_group_is_split_by_itself() -> None:
    groups = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [900, 90, 10]))
    train, valid = split_rows(1000, 0.1, seed=0, groups=groups)
    assert np.bincount(groups[valid]).tolist() == [90, 9, 1]
    assert np.array_equal(np.sort(np.concatenate([train, valid])), np.arange(1000))
    assert not np.array_equal(valid, split_rows(1000, 0.1, seed=1, groups=groups)[1])
