"""A column of numbers that can also be read as texts, so that a table from a frame or from Parquet is a table like any other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["NumberTexts"]


class NumberTexts(Sequence[str]):
    """The texts of an array of numbers; NaN is the empty text, and a whole number has no decimal point.

    So a class or a category that is 1 in an integer column is the same one as 1.0 in a float column, which is what other
    libraries make of integers as soon as one of them is missing.

    Args:
        numbers: (rows,) of any real dtype. `values` has them as float64.

    Example:
        >>> list(NumberTexts(np.array([1.0, 2.5, np.nan])))
        ['1', '2.5', '']
    """

    def __init__(self, numbers: NDArray[Any]) -> None:
        self.numbers = numbers

    @property
    def values(self) -> NDArray[np.float64]:
        return self.numbers.astype(np.float64)

    def take(self, rows: Sequence[int]) -> NumberTexts:
        """The same column with only these rows."""
        return NumberTexts(self.numbers[np.asarray(rows, np.int64)])

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return NumberTexts(self.numbers[index])
        return _text(self.numbers[index].item())


def _text(value: float) -> str:
    if value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else repr(value)
