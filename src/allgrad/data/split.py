"""Which rows are for training and which are held out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.data.errors import DataError
from allgrad.data.random import permutation

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["split_rows"]


def split_rows(
    count: int,
    fraction: float,
    seed: int,
    *,
    groups: NDArray[np.integer] | None = None,
    fold: tuple[int, int] | None = None,
    what: str = "split",
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers for training and for validation: `fraction` of a seeded shuffle (rounded) is held out; both in file order.

    Args:
        groups: (count,) integers; the fraction is then held out of each group by itself, for example of each class.
        fold: (number, of how many): instead of the fraction, this one of so many folds. Every row is in one of them. Their sizes
            differ by one row at most, and so do their shares of each group.
        what: what messages call the data.

    Raises:
        DataError: when either would be empty.

    Example:
        >>> train, valid = split_rows(10, 0.2, seed=0)
        >>> len(train), len(valid), sorted([*train.tolist(), *valid.tolist()]) == list(range(10))
        (8, 2, True)
        >>> train, valid = split_rows(10, 0.5, seed=0, groups=np.repeat([0, 1], [8, 2]))
        >>> int((valid < 8).sum()), int((valid >= 8).sum())
        (4, 1)
        >>> [split_rows(5, 0.2, seed=0, fold=(number, 2))[1].tolist() for number in (0, 1)]
        [[0, 1, 3], [2, 4]]
    """
    order = permutation(count, seed, epoch=0)
    if fold is not None:
        number, folds = fold
        if not 0 <= number < folds:
            raise DataError(f"{what}: fold must be in 0..{folds - 1}, because there are {folds} folds. Got {number}.")
        # Dealt out like cards, one group after another.
        dealt = order if groups is None else order[np.argsort(groups[order], kind="stable")]
        held_out = dealt[number::folds]
    elif groups is None:
        held_out = order[: round(count * fraction)]
    else:
        shuffled = [order[groups[order] == group] for group in np.unique(groups)]
        held_out = np.concatenate([rows[: round(len(rows) * fraction)] for rows in shuffled])
    if not 0 < len(held_out) < count:
        part = fraction if fold is None else f"fold {fold[0]} of {fold[1]}"
        raise DataError(
            f"{what}: holding out {part} of {count} rows leaves {count - len(held_out)} to train on and "
            f"{len(held_out)} to evaluate on. Both need at least one row."
        )
    valid = np.sort(held_out)
    return np.setdiff1d(np.arange(count), valid), valid
