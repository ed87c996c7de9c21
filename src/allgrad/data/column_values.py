"""The texts of a table's column as numbers or as places in a list of names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from allgrad.data.errors import DataError, listed, quoted
from allgrad.data.number_texts import NumberTexts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = ["UNSEEN", "codes", "is_missing", "mean_and_scale", "missing_rows", "numbers", "shown_rows"]

UNSEEN = -2
"""The code of a text that is not in the list of names."""

_CONSTANT = float(np.finfo(np.float32).eps)
_MISSING_NUMBERS = {"", "na", "n/a", "nan", "null", "none", "?", "-"}


def is_missing(text: str, *, numeric: bool) -> bool:
    """Whether a text says that there is no value: an empty one, and for numbers also NA, NaN, null, none, `?`, `-`.

    Example:
        >>> is_missing("NA", numeric=True), is_missing("NA", numeric=False), is_missing(" ", numeric=False)
        (True, False, True)
    """
    return text.strip().lower() in _MISSING_NUMBERS if numeric else not text.strip()


def missing_rows(table: Table, name: str, *, numeric: bool) -> NDArray[np.int64]:
    """The rows of a column that have no value."""
    texts = table.column(name)
    if isinstance(texts, NumberTexts):
        return np.flatnonzero(np.isnan(texts.values))
    missing = [row for row, text in enumerate(texts) if is_missing(text, numeric=numeric)]
    return np.array(missing, dtype=np.int64)


def numbers(table: Table, name: str) -> NDArray[np.float64]:
    """The values of a column of numbers; NaN where the value is missing. Each column of a table is parsed once.

    Raises:
        DataError: when a text is neither a finite number nor missing.
    """
    if name in table.parsed:
        return table.parsed[name]
    values = _parsed(table.column(name), table.decimal)
    for row in np.flatnonzero(~np.isfinite(values)).tolist():
        text = table.column(name)[row]
        if not is_missing(text, numeric=True):
            mark = f" The decimal mark is {table.decimal!r}." if {",", "."} & set(text) else ""
            raise DataError(f"{table.place(row, name)}: expected a finite number. Got {quoted(text)}.{mark}")
    values.flags.writeable = False
    table.parsed[name] = values
    return values


def codes(table: Table, name: str, known: Sequence[str], *, unseen: bool = False) -> NDArray[np.int64]:
    """The place of each text in `known`; -1 where the value is missing and the empty text is not known.

    Args:
        unseen: a text that is not known has the code `UNSEEN`, and is not an error.

    Raises:
        DataError: when a text is neither known nor missing.
    """
    place = {text: code for code, text in enumerate(known)}
    empty = place.get("", -1)
    texts = table.column(name)
    code = {text: place.get(text, empty if not text.strip() else UNSEEN) for text in set(texts)}
    found = np.fromiter(map(code.__getitem__, texts), np.int64, len(texts))
    unknown = np.flatnonzero(found == UNSEEN)
    if len(unknown) and not unseen:
        row = int(unknown[0])
        raise DataError(f"{table.place(row, name)}: expected one of {listed(known)}. Got {quoted(texts[row])}.")
    return found


def shown_rows(table: Table, chosen: NDArray[np.bool_]) -> str:
    """The first of several chosen rows, for a message that names the first one already: ": lines 3, 8, 9, ..."."""
    rows = np.flatnonzero(chosen)[:5].tolist()
    if len(rows) < 2:
        return ""
    what, numbers_of = (
        ("rows", [row + 1 for row in rows]) if table.lines is None else ("lines", [table.lines[r] for r in rows])
    )
    return f": {what} {', '.join(map(str, numbers_of))}{', ...' if int(chosen.sum()) > len(rows) else ''}"


def mean_and_scale(values: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation; the deviation is 1 where the values are constant.

    Values count as constant when their standard deviation is at most 1.2e-7 (float32's machine epsilon) times their largest
    absolute value, since their variation may then be rounding noise.

    Example:
        >>> mean_and_scale(np.array([1.0, 3.0])), mean_and_scale(np.full(3, 0.1))[1]
        ((2.0, 1.0), 1.0)
    """
    mean, scale = float(values.mean()), float(values.std())
    return mean, 1.0 if scale <= _CONSTANT * float(np.abs(values).max()) else scale


def _parsed(texts: Sequence[str], decimal: str) -> NDArray[np.float64]:
    """The numbers; NaN for a text that is not a number."""
    if isinstance(texts, NumberTexts):
        return texts.values
    if decimal == ",":
        texts = [text.replace(",", ".") if "." not in text else "." for text in texts]
    try:
        return np.array(texts, dtype=np.float64)
    except ValueError:
        return np.array([_number(text) for text in texts])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
