"""Tables as people have them: missing values, German numbers, columns found by themselves, stratified splits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.column_values import numbers
from allgrad.data.csv_files import Table
from allgrad.data.fit import Columns, fit_columns
from allgrad.data.preprocess import encode_inputs, feature_names
from allgrad.data.tables import table_source

if TYPE_CHECKING:
    from pathlib import Path

    from allgrad.data import DataSource

ROWS = {
    "size": ["1", "", "3", "NA", "5", "6"],
    "colour": ["red", "blue", "", "red", "red", "blue"],
    "grade": ["low", "high", "low", "high", "", "low"],
    "price": ["1", "2", "3", "4", "5", "6"],
}
TRAIN = np.array([0, 1, 2, 4])


def columns(missing: Any) -> Columns:
    return Columns("price", "values", ("size",), ("colour",), {"grade": ("low", "high")}, missing=missing)


def encoded(missing: Any) -> tuple[np.ndarray, list[str]]:
    table = Table(ROWS, "t.csv")
    fitted = json.loads(json.dumps(fit_columns(table, columns(missing), TRAIN)))
    return encode_inputs(table, fitted), feature_names(fitted)


@pytest.mark.parametrize("column", ["size", "colour", "grade"])
def test_missing_values_are_an_error_with_their_count(column: str) -> None:
    rows = {name: ["1" if name == "size" else "red" if name == "colour" else "low"] * 6 for name in ROWS} | {
        "price": ROWS["price"],
        column: ROWS[column],
    }
    table = Table(rows, "t.csv")
    absent = [str(row) for row, text in enumerate(ROWS[column], start=1) if text in ("", "NA")]
    where = f": rows {', '.join(absent)}" if len(absent) > 1 else ""
    with pytest.raises(
        DataError,
        match=rf"column '{column}': the value is missing \({len(absent)} of 6 rows{where}\)\. Fill in the values, or train with",
    ):
        encode_inputs(table, fit_columns(table, columns("error"), TRAIN))


def test_the_mean_of_the_training_rows_takes_their_place() -> None:
    inputs, names = encoded("mean")
    assert names == ["size", "colour=blue", "colour=red", "grade"]
    size = np.array([1, 3, 5.0])
    np.testing.assert_allclose(inputs[:, 0], ([1, 3, 3, 3, 5, 6] - size.mean()) / size.std(), rtol=1e-6)
    np.testing.assert_allclose(inputs[2, 1:3], [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(inputs[[0, 1], 1:3], [[0, 1], [1, 0]])
    assert inputs[4, 3] == 0


def test_missing_can_be_a_category() -> None:
    inputs, names = encoded("category")
    assert names == ["size", "size=missing", "colour=missing", "colour=blue", "colour=red", "grade", "grade=missing"]
    np.testing.assert_array_equal(inputs[:, 1], [0, 1, 0, 1, 0, 0])
    np.testing.assert_array_equal(inputs[:, 2:5].argmax(axis=1), [2, 1, 0, 2, 2, 1])
    np.testing.assert_array_equal(inputs[:, 6], [0, 0, 0, 0, 1, 0])
    assert inputs[1, 0] == 0


def test_a_column_that_was_never_missing_stays_so() -> None:
    whole = Table(ROWS | {"size": list("123456"), "colour": ["red"] * 6, "grade": ["low"] * 6}, "t.csv")
    fitted = fit_columns(whole, columns("category"), TRAIN)
    for column in ("size", "colour", "grade"):
        known = [text.replace("blue", "red").replace("high", "low") for text in ROWS[column]]
        table = Table({**whole.columns, column: known}, "new.csv")
        with pytest.raises(DataError, match=f"column '{column}': .* No training row had a missing value"):
            encode_inputs(table, fitted)


def source(tmp_path: Path, text: str, declared: Columns, **options: Any) -> DataSource:
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    return table_source(str(tmp_path / "t.csv"), declared, valid_fraction=0.25, split_seed=0, **options)


def everything(data: DataSource, key: str) -> np.ndarray:
    return np.concatenate([subset.batch(np.arange(len(subset)))[key] for subset in (data.train, data.valid)])


def test_rows_with_missing_values_are_left_out(tmp_path: Path) -> None:
    text = "size,price,note\n" + "".join(f"{i},{i * 2},\n" for i in range(12)) + ",3,x\n4,NA,x\n5,,x\n"
    declared = Columns("price", numeric=("size",), missing="drop")
    data = source(tmp_path, text, declared)
    assert len(data.train) + len(data.valid) == 12  # the unused column may be missing
    again = source(tmp_path, text, declared, fitted=data.fitted)
    np.testing.assert_array_equal(everything(again, "inputs"), everything(data, "inputs"))
    with pytest.raises(
        DataError, match=r"line 15, column 'price': the value is missing \(2 of 15 rows: lines 15, 16\)"
    ):
        source(tmp_path, text, Columns("price", numeric=("size",), missing="mean"))
    bad = text + "7,x,\n"
    with pytest.raises(DataError, match=r"line 17, column 'price': expected a finite number. Got 'x'"):
        source(tmp_path, bad, declared)  # the file's line, though rows were left out
    with pytest.raises(DataError, match="trained with missing = 'drop', but the configuration says 'mean'"):
        source(tmp_path, text, Columns("price", numeric=("size",), missing="mean"), fitted=data.fitted)


def test_a_german_table(tmp_path: Path) -> None:
    text = "Größe;Stoff;Preis\n" + "".join(f"{i},5;{'Öl' if i % 2 else 'Holz'};{i * 2},25\n" for i in range(12))
    data = source(tmp_path, text, Columns("Preis", numeric=("Größe",), categorical=("Stoff",)))
    assert data.info.extra["features"] == ["Größe", "Stoff=Holz", "Stoff=Öl"]
    scaling = data.fitted["columns"][0]
    sizes = np.sort(everything(data, "inputs")[:, 0]) * scaling["scale"] + scaling["mean"]
    np.testing.assert_allclose(sizes, np.arange(12) + 0.5, rtol=1e-5)


@pytest.mark.parametrize(("text", "decimal"), [("1.234,5", ","), ("1.5", ","), ("1,5", ".")])
def test_numbers_with_the_other_mark_are_refused(text: str, decimal: Any) -> None:
    with pytest.raises(DataError, match=f"expected a finite number. Got '{text}'. The decimal mark is '{decimal}'"):
        numbers(Table({"a": ["1", text]}, "t.csv", decimal=decimal), "a")


def test_numeric_columns_are_found(tmp_path: Path) -> None:
    text = "a,b,c,d,y\n" + "".join(f"{i},{i / 3},x{i},{'' if i == 3 else i},{i}\n" for i in range(12))
    declared = Columns("y", numeric="auto", missing="mean")
    data = source(tmp_path, text, declared)
    assert data.info.extra["features"] == ["a", "b", "d"]
    # Later the same columns are used, whatever the file then has.
    changed = text.replace("x", "1")
    assert source(tmp_path, changed, declared).info.extra["features"] == ["a", "b", "c", "d"]
    assert source(tmp_path, changed, declared, fitted=data.fitted).info.extra["features"] == ["a", "b", "d"]
    with pytest.raises(DataError, match="no input columns"):
        source(tmp_path, "c,y\n" + "x,1\n" * 8, declared)


def test_every_class_is_held_out_in_its_share(tmp_path: Path) -> None:
    text = "a,y\n" + "".join(f"{i},{'rare' if i % 10 == 0 else 'common'}\n" for i in range(80))
    declared = Columns("y", "classes", ("a",))
    data = source(tmp_path, text, declared, stratify=True)
    assert np.bincount(data.valid.batch(np.arange(len(data.valid)))["targets"]).tolist() == [18, 2]
    with pytest.raises(DataError, match="`stratify` needs `task: classes`"):
        source(tmp_path, text, Columns("a", "values", (), ("y",)), stratify=True)
