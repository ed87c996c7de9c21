"""How a CSV file is written: its encoding, the separator of its fields, its decimal mark. Each is given or found."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from allgrad.data.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Layout", "decode_text", "find_decimal", "find_separator"]

_SEPARATORS = (",", ";", "\t", "|")
_SAMPLE = 1 << 16  # characters
_SAMPLE_ROWS = 1000
_CONTROL = re.compile("[\0-\x08\x0e-\x1f]")
_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Layout:
    """How a CSV file is written; "auto" means that it is found from the content.

    Attributes:
        separator: one character. "auto": the one of `,` `;` tab `|` that gives all rows the same number of fields.
        decimal: "." or ",". "auto": a comma, if the separator is another character and numbers are written with commas only.
        encoding: any of Python's encodings. "auto": UTF-16 if the file begins with its byte order mark, else UTF-8, else
            Windows-1252.
    """

    separator: str = "auto"
    decimal: Literal["auto", ".", ","] = "auto"
    encoding: str = "auto"


def decode_text(content: bytes, encoding: str, name: str) -> tuple[str, str]:
    """The text, and the encoding that it was read with.

    Raises:
        DataError: when the content is not text in this encoding, or in none of those that are tried.

    Example:
        >>> decode_text("Größe".encode("cp1252"), "auto", "t.csv")
        ('Größe', 'cp1252')
    """
    for tried in _encodings(content) if encoding == "auto" else (encoding,):
        try:
            text = content.decode(tried)
        except LookupError as error:
            raise DataError(f"{name}: there is no encoding {encoding!r}.") from error
        except UnicodeDecodeError as error:
            reason = f"invalid byte at offset {error.start}"
            continue
        if tried != "cp1252" or not _CONTROL.search(text):
            return text, tried
        reason = "it has control characters"
    wanted = "text in UTF-8, UTF-16 or Windows-1252" if encoding == "auto" else f"text in {encoding}"
    raise DataError(f"{name}: not {wanted} ({reason}). Give its encoding, or convert the file to UTF-8.")


def find_separator(text: str) -> str:
    """The separator that gives all rows at the beginning of the text the same number of fields, at least two.

    Where several do, the one with the most fields is taken; where none does, the one with the most fields in the header.

    Example:
        >>> find_separator("a;b\\n1,5;2,5\\n")
        ';'
    """
    sample = text if len(text) <= _SAMPLE else text[: max(text.rfind("\n", 0, _SAMPLE), text.find("\n")) + 1] or text
    consistent: dict[str, int] = {}
    header: dict[str, int] = {}
    for separator in _SEPARATORS:
        lengths = _row_lengths(sample, separator, cut=len(sample) < len(text))
        header[separator] = lengths[0] if lengths else 0
        if len(set(lengths)) == 1 and lengths[0] > 1:
            consistent[separator] = lengths[0]
    votes = consistent or {separator: fields for separator, fields in header.items() if fields > 1} or {",": 1}
    return max(votes, key=votes.__getitem__)  # the first one of equals


def find_decimal(rows: Iterable[Sequence[str]], separator: str) -> Literal[".", ","]:
    """The decimal mark of the numbers in the first rows: a comma only if no number has a point.

    Example:
        >>> find_decimal([["1,5", "red"], ["2", "blue"]], separator=";")
        ','
    """
    commas = 0
    for row, _ in zip(rows, range(_SAMPLE_ROWS), strict=False):
        for field in row:
            if _POINT.fullmatch(field.strip()):
                return "."
            commas += _COMMA.fullmatch(field.strip()) is not None
    return "," if commas and separator != "," else "."


def _encodings(content: bytes) -> tuple[str, ...]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return ("utf-16",)
    return ("utf-8-sig", "cp1252")


def _row_lengths(text: str, separator: str, *, cut: bool) -> list[int]:
    """How many fields each row has; a zero at the end where the text is not CSV, unless it was cut inside a quoted field."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lengths: list[int] = []
    try:
        lengths.extend(len(row) for row in reader if any(field.strip() for field in row))
    except csv.Error:
        if not cut:
            lengths.append(0)
    return lengths
