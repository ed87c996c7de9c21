"""Rows in Python's forms as tables, and files of Parquet and Arrow, against the same rows as CSV."""

from __future__ import annotations

import datetime
import importlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.column_values import numbers
from allgrad.data.frames import table_of
from allgrad.data.table_files import read_table

if TYPE_CHECKING:
    from allgrad.data.csv_files import Table

NAMES = ["number", "whole", "name", "flag", "day"]
ROWS = [
    {"number": 1.5, "whole": 7, "name": "Köln", "flag": True, "day": datetime.date(2024, 5, 31)},
    {"number": None, "whole": 2**60 + 1, "name": None, "flag": False, "day": None},
]
TEXTS = {
    "number": ["1.5", ""],
    "whole": ["7", str(2**60 + 1)],
    "name": ["Köln", ""],
    "flag": ["True", "False"],
    "day": ["2024-05-31", ""],
}


def texts(table: Table) -> dict[str, list[str]]:
    """The texts of a table, with the times of midnight left out: frames make times of dates."""
    return {name: [t.removesuffix("T00:00:00.000000") for t in table.columns[name]] for name in NAMES}


def test_dicts_and_columns() -> None:
    assert texts(table_of(ROWS, NAMES)) == TEXTS
    assert texts(table_of({name: [row[name] for row in ROWS] for name in NAMES}, NAMES)) == TEXTS
    assert len(table_of(ROWS[0], NAMES)) == 1


def test_frames() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is one of the libraries whose frames are read")
    polars = pytest.importorskip("polars", reason="polars is one of the libraries whose frames are read")
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is one of the libraries whose frames are read")
    frame = pandas.DataFrame(ROWS)
    typed = frame.assign(day=pandas.to_datetime(frame["day"]), name=frame["name"].astype("category"))
    for rows in (frame, typed, polars.DataFrame(ROWS), pyarrow.Table.from_pylist(ROWS)):
        assert texts(table_of(rows, NAMES)) == TEXTS


def test_files(tmp_path) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow reads Parquet and Arrow files")
    table = pyarrow.Table.from_pylist([{**row, "list": [1]} for row in ROWS])
    importlib.import_module("pyarrow.parquet").write_table(table, tmp_path / "t.parquet")
    importlib.import_module("pyarrow.feather").write_feather(table, str(tmp_path / "t.arrow"))
    for name in ("t.parquet", "t.arrow"):
        found = read_table(str(tmp_path / name))
        assert texts(found) == TEXTS
        assert "list" not in found.columns
    cut = (tmp_path / "t.parquet").read_bytes()[:-20]
    (tmp_path / "cut.parquet").write_bytes(cut)
    with pytest.raises(DataError, match=r"cut\.parquet: damaged, or not a Parquet or Arrow file"):
        read_table(str(tmp_path / "cut.parquet"))


def test_numbers_stay_numbers_and_their_texts_are_those_of_whole_numbers() -> None:
    table = table_of({"a": np.array([1.0, np.nan, 2.5], np.float32)}, ["a"])
    assert list(table.columns["a"]) == ["1", "", "2.5"]
    assert np.array_equal(numbers(table, "a"), [1.0, np.nan, 2.5], equal_nan=True)
    assert numbers(table.rows([2]), "a").tolist() == [2.5]
    with pytest.raises(DataError, match=r"row 1, column 'a': expected a finite number\. Got 'inf'"):
        numbers(table_of({"a": [np.inf]}, ["a"]), "a")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": [1], "b": [1, 2]}, "one common length"),
        ([[1, 2, 3]], r"expected rows with the 2 columns 'a', 'b'.* Got an array of shape \(1, 3\)"),
        (7, "Got a int"),
        ({"a": [[1, 2]], "b": [1]}, r"column 'a': expected one value per row. Got an array of shape \(1, 2\)"),
    ],
)
def test_what_is_no_table_is_an_error(rows, message) -> None:
    with pytest.raises(DataError, match=message):
        table_of(rows, ["a", "b"])
