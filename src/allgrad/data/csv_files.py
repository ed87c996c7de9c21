"""CSV files as columns of texts."""

from __future__ import annotations

import csv
import io
import logging
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from allgrad.data.csv_layout import Layout, decode_text, find_decimal, find_separator
from allgrad.data.errors import DataError, listed
from allgrad.data.number_texts import NumberTexts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Table", "parse_csv"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Table:
    """Columns of texts, and where they came from.

    Attributes:
        columns: the texts of each column, by name; all columns have the same length.
        name: what messages call the table, usually the file's path.
        lines: the line of the file in which each row begins, from 1; without it, messages count rows from 1.
        decimal: the decimal mark of its numbers.
        separator: the character between the fields of its file.
        parsed: the columns that were read as numbers already.
    """

    columns: Mapping[str, Sequence[str]]
    name: str = "table"
    lines: Sequence[int] | None = None
    decimal: Literal[".", ","] = "."
    separator: str = ","
    parsed: dict[str, NDArray[np.float64]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str) -> Sequence[str]:
        """The texts of one column.

        Raises:
            DataError: when there is no such column.
        """
        if name not in self.columns:
            hint = f" Is the separator {self.separator!r} right?" if len(self.columns) == 1 else ""
            raise DataError(f"{self.name}: there is no column {name!r}. The columns are: {listed(self.columns)}.{hint}")
        return self.columns[name]

    def place(self, row: int, column: str) -> str:
        """Where a value is, for messages.

        Example:
            >>> Table({"size": ["1", "x"]}, "rows.csv", lines=[2, 3]).place(1, "size")
            "rows.csv, line 3, column 'size'"
        """
        where = f"row {row + 1}" if self.lines is None else f"line {self.lines[row]}"
        return f"{self.name}, {where}, column {column!r}"

    def rows(self, chosen: Sequence[int]) -> Table:
        """The table with only these rows."""
        columns = {
            name: texts.take(chosen) if isinstance(texts, NumberTexts) else [texts[row] for row in chosen]
            for name, texts in self.columns.items()
        }
        lines = self.lines or range(1, len(self) + 1)
        return replace(self, columns=columns, lines=[lines[row] for row in chosen], parsed={})


def parse_csv(content: bytes, name: str, layout: Layout | None = None) -> Table:
    """The table in a CSV file with a header. Lines without any value are skipped.

    Raises:
        DataError: when the content is not text or not CSV, has no rows, repeats a column name, or has a row with another
            number of fields than the header.
    """
    layout = layout or Layout()
    text, encoding = decode_text(content, layout.encoding, name)
    separator = find_separator(text) if layout.separator == "auto" else layout.separator
    if len(separator) != 1 or separator in '"\r\n':
        raise DataError(f"{name}: the separator must be one character, and not a quote. Got {separator!r}.")
    rows, lines = _read_rows(text, separator, name)
    if len(rows) < 2:
        found = "There is only one line with values." if rows else "There is no line with values."
        raise DataError(f"{name}: expected a header and at least one row. {found}")
    header = rows[0]
    if repeated := [column for column, count in Counter(header).items() if count > 1]:
        raise DataError(f"{name}: the header names these columns more than once: {listed(repeated)}.")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(header):
            raise DataError(
                f"{name}, line {line}: expected {len(header)} fields, as in the header. Got {len(row)}. "
                f"(The separator is {separator!r}.)"
            )
    decimal = find_decimal(rows[1:], separator) if layout.decimal == "auto" else layout.decimal
    if (encoding, separator, decimal) != ("utf-8-sig", ",", "."):
        _log.info(
            "%s is read as %s, with the separator %r and the decimal mark %r.", name, encoding, separator, decimal
        )
    columns = dict(zip(header, map(list, zip(*rows[1:], strict=True)), strict=True))
    return Table(columns, name, lines[1:], decimal, separator)


def _read_rows(text: str, separator: str, name: str) -> tuple[list[list[str]], list[int]]:
    """The rows that have a value, and the line in which each begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []
    begin = 1
    try:
        for row in reader:
            if row and (row[0].strip() or any(field.strip() for field in row)):
                rows.append(row)
                lines.append(begin)
            begin = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}, line {begin}: not readable as CSV: {error}.") from error
    return rows, lines
