"""Class labels as integers: how many classes there are, and whether each label is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from allgrad.data.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["class_count"]

_ALWAYS = 1000  # this many classes are accepted however few samples there are
_PER_SAMPLE = 10  # and beyond them, this many classes per sample


def class_count(labels: NDArray[Any], what: str, *, known: int | None = None) -> int:
    """The number of classes: `known`, or the largest label plus one.

    Raises:
        DataError: when the labels are not a vector of integers (or bools) from 0, a label is not below `known`, or the largest
            label is far above the number of samples, which is more likely a mistake than a number of classes.

    Example:
        >>> class_count(np.array([0, 2, 1]), "labels.npy")
        3
    """
    if labels.ndim != 1 or labels.dtype.kind not in "biu" or not len(labels):
        raise DataError(
            f"{what}: class labels must be a vector of integers from 0. Got dtype {labels.dtype}, shape {labels.shape}."
        )
    low, high = int(labels.min()), int(labels.max())
    limit = known if known is not None else _ALWAYS + _PER_SAMPLE * len(labels)
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        where = f"{what}, sample {int(np.argmax(labels == wrong))}"
        if low < 0:
            raise DataError(f"{where}: class labels must be integers from 0. Got {wrong}.")
        if known is not None:
            raise DataError(
                f"{where}: class label {wrong} is unknown; the model was trained with classes 0..{known - 1}."
            )
        raise DataError(
            f"{where}: class label {wrong} would mean {wrong + 1:,} classes for {len(labels):,} samples. "
            "Renumber the classes from 0 without gaps, or use `task: values`."
        )
    return high + 1 if known is None else known
