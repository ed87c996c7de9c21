"""Columns of dates: how they are written, and the numbers that a model gets for them.

A date becomes the seconds since 1970-01-01 00:00 UTC, and from these come the model's inputs:

    NAME                        the time, standardised, so that a model can see a trend
    NAME=year sin, NAME=year cos    where in the year it is, as a point on a circle: 31 December is next to 1 January
    NAME=week sin, NAME=week cos    where in the week
    NAME=day sin, NAME=day cos      where in the day, if any training row has a time of day

A year has 365.2425 days. A date without a time zone counts as UTC.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import numpy as np

from allgrad.data.errors import DataError, listed, quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from allgrad.data.csv_files import Table

__all__ = ["DAY", "PERIODS", "cycles", "date_seconds", "find_format"]

DAY = 86400.0
PERIODS = {"year": 365.2425 * DAY, "week": 7 * DAY, "day": DAY}
"""The length of each cycle in seconds. A week begins on a Thursday here, as 1970 did, which is as good as any other day."""

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_DAYS = ("%d.%m.%Y", "%Y/%m/%d", "%m/%d/%Y", "%d/%m/%Y", "%d-%m-%Y", "%d.%m.%y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S")
_ISO = "iso"


def find_format(table: Table, name: str) -> str:
    """The format in which all dates of a column are written: "iso" (ISO 8601), or one of `strptime`'s.

    Raises:
        DataError: a text is no date, or there are two ways to read all of them.

    Example:
        >>> from allgrad.data.csv_files import Table
        >>> find_format(Table({"day": ["31.12.2023", "01.01.2024"]}), "day")
        '%d.%m.%Y'
    """
    texts = [text for text in dict.fromkeys(table.column(name)) if text.strip()]
    formats = [_ISO, *(day + clock for day in _DAYS for clock in _CLOCKS)]
    fitting = [written for written in formats if _all_fit(texts, written)]
    if not fitting:
        wrong = next((text for text in texts if not any(_all_fit([text], written) for written in formats)), None)
        what = "expected a date such as 2024-05-31 or 31.05.2024" if wrong else "the dates are written in several ways"
        wrong = wrong or next(text for text in texts if not _all_fit([text], _first_format(texts, formats)))
        row = list(table.column(name)).index(wrong)
        raise DataError(f"{table.place(row, name)}: {what}. Got {quoted(wrong)}. Give the format as `date_format`.")
    if len(fitting) > 1:
        raise DataError(
            f"{table.name}, column {name!r}: {quoted(texts[0])} can be read in several ways: {listed(fitting)}. Give the "
            "right one as `date_format`."
        )
    return fitting[0]


def date_seconds(table: Table, name: str, written: str) -> NDArray[np.float64]:
    """The dates of a column in seconds since 1970-01-01 UTC; NaN for a row without a date.

    Raises:
        DataError: when a text is no date in this format.

    Example:
        >>> from allgrad.data.csv_files import Table
        >>> date_seconds(Table({"day": ["1970-01-02", ""]}), "day", "iso").tolist()
        [86400.0, nan]
    """
    texts = table.column(name)
    known: dict[str, float] = {}
    for text in set(texts):
        try:
            known[text] = _seconds(text, written) if text.strip() else np.nan
        except ValueError as error:
            row = list(texts).index(text)
            wanted = "a date in ISO 8601, such as 2024-05-31" if written == _ISO else f"a date in the format {written}"
            raise DataError(f"{table.place(row, name)}: expected {wanted}. Got {quoted(text)}.") from error
    return np.array([known[text] for text in texts], np.float64)


def cycles(seconds: NDArray[np.float64], *, clock: bool) -> NDArray[np.float64]:
    """Sine and cosine of the year, the week and, with `clock`, the day: (rows, 4 or 6)."""
    periods = [period for name, period in PERIODS.items() if clock or name != "day"]
    angles = [2 * np.pi * (seconds / period % 1.0) for period in periods]
    return np.stack([wave(angle) for angle in angles for wave in (np.sin, np.cos)], axis=1)


def _seconds(text: str, written: str) -> float:
    parse = datetime.datetime.fromisoformat if written == _ISO else None
    moment = parse(text.strip()) if parse else datetime.datetime.strptime(text.strip(), written)
    zoned = moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)
    return (zoned - _EPOCH).total_seconds()


def _all_fit(texts: Sequence[str], written: str) -> bool:
    try:
        for text in texts:
            _seconds(text, written)
    except ValueError:
        return False
    return True


def _first_format(texts: Sequence[str], formats: Sequence[str]) -> str:
    return next(written for written in formats if _all_fit(texts[:1], written))
