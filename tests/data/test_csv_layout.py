"""Encoding, separator and decimal mark of a CSV file, given or found."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allgrad.data import DataError
from allgrad.data.csv_files import parse_csv
from allgrad.data.csv_layout import Layout, decode_text, find_decimal, find_separator

TEXT = "Größe;Preis\n1,5;2\n"


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8-sig"), ("utf-8-sig", "utf-8-sig"), ("latin-1", "cp1252"), ("utf-16", "utf-16")],
)
def test_the_encoding_is_found(encoding: str, found: str) -> None:
    assert decode_text(TEXT.encode(encoding), "auto", "t.csv") == (TEXT, found)


def test_the_encoding_is_given() -> None:
    assert decode_text("Größe".encode("cp437"), "cp437", "t.csv")[0] == "Größe"
    with pytest.raises(DataError, match=r"t.csv: not text in ascii .invalid byte at offset 2"):
        decode_text(TEXT.encode(), "ascii", "t.csv")
    with pytest.raises(DataError, match="there is no encoding 'utf-99'"):
        decode_text(TEXT.encode(), "utf-99", "t.csv")


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b\n1,5;2,5\n", ";"),
        ("a\tb\n1 2\t3\n", "\t"),
        ("a|b\n1|2\n", "|"),
        ("a;b,c\n1;2,3\n", ","),  # both fit: the first in the list
        ("a;b;c,d\n1;2;3,4\n", ";"),  # both fit: more fields
        ('a,b\n"x;y",2\n', ","),
        ("name, first;price\nx;1\n", ";"),  # the rows decide
        ("a\n1\n", ","),  # one column
        ("a;b\n1;2;3\n", ";"),  # a damaged row: the header decides
        ("", ","),
    ],
)
def test_the_separator_is_found(text: str, separator: str) -> None:
    assert find_separator(text) == separator


def test_only_the_beginning_of_a_long_file_is_looked_at() -> None:
    wide = ";".join(f"column {i}" for i in range(9000)) + "\n"
    assert len(wide) > 1 << 16
    assert find_separator(wide + ";".join("1" * 9000) + "\n") == ";"
    assert find_separator(wide.strip()) == ";"  # without an end of line
    quoted = "a;b\n" + '"1\n2";"3\n4"\n' * 20_000  # the sample may end inside a quoted field
    for shift in range(12):
        assert find_separator("x" * shift + quoted) == ";"


fields = st.text(st.sampled_from("abcXYZ 019.-_äß"), min_size=1, max_size=6)


@given(st.sampled_from(",;\t|"), st.integers(2, 5), st.data())
def test_tables_that_python_writes_are_read(separator: str, width: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(fields, min_size=width, max_size=width), min_size=1, max_size=8))
    rows = [[f"{field}." for field in row] for row in rows]  # no blank rows
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([[f"c{i}" for i in range(width)], *rows])
    table = parse_csv(text.getvalue().encode(), "t.csv")
    assert [list(row) for row in zip(*table.columns.values(), strict=True)] == rows


@pytest.mark.parametrize(
    ("rows", "separator", "decimal"),
    [
        ([["1,5", "x"]], ";", ","),
        ([["1.5", "2,5"]], ";", "."),
        ([["1", "2"]], ";", "."),
        ([["1,5"]], ",", "."),
        ([["-,5e3"]], "\t", ","),
        ([["1.234,5"]], ";", "."),  # thousands are not understood, and refused later
    ],
)
def test_the_decimal_mark_is_found(rows: Any, separator: str, decimal: str) -> None:
    assert find_decimal(rows, separator) == decimal


def test_a_layout_that_is_given_is_used() -> None:
    table = parse_csv(b"a b\n1,5 2.5\n", "t.csv", Layout(" ", ",", "latin-1"))
    assert (table.columns, table.decimal) == ({"a": ["1,5"], "b": ["2.5"]}, ",")
    for separator in ("", ";;", '"'):
        with pytest.raises(DataError, match="the separator must be one character"):
            parse_csv(b"a,b\n1,2\n", "t.csv", Layout(separator))
