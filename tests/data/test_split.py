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


def test_folds_partition_the_rows_and_each_class_as_scikit_learns_do() -> None:
    classes = np.repeat([0, 1, 2], [23, 11, 4])
    for groups in (None, classes):
        folds = [split_rows(38, 0.1, seed=1, groups=groups, fold=(number, 5)) for number in range(5)]
        assert np.array_equal(np.sort(np.concatenate([valid for _, valid in folds])), np.arange(38))
        assert all(np.array_equal(np.union1d(train, valid), np.arange(38)) for train, valid in folds)
        sizes = [len(valid) for _, valid in folds]
        assert max(sizes) - min(sizes) <= 1
        for group in range(3) if groups is not None else ():
            counts = [int((classes[valid] == group).sum()) for _, valid in folds]
            assert max(counts) - min(counts) <= 1
    with pytest.raises(DataError, match=r"fold must be in 0\.\.4, because there are 5 folds\. Got 5"):
        split_rows(38, 0.1, seed=1, fold=(5, 5))
