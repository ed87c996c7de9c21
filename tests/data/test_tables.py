"""CSV files with typed columns."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import numpy as np
import pytest

from allgrad.data import DataError
from allgrad.data.table_files import read_table
from allgrad.data.tables import Columns, table_source

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [(f"{i / 4}", "red" if i % 3 else "blue", ["low", "mid", "high"][i % 3], f"{2.0**i}", "7") for i in range(20)]
CSV = "size,colour,grade,price,same\n" + "".join(",".join(row) + "\n" for row in ROWS)
COLUMNS = Columns(
    "price",
    numeric=("size", "same"),
    categorical=("colour",),
    ordinal={"grade": ("low", "mid", "high")},
    transform="log",
)


def write(directory: Path, text: str) -> str:
    path = directory / "table.csv"
    path.write_text(text)
    return str(path)


def test_columns_become_features(tmp_path: Path) -> None:
    data = table_source(write(tmp_path, CSV), COLUMNS, valid_fraction=0.2, split_seed=0)
    train, valid = (subset.batch(np.arange(len(subset))) for subset in (data.train, data.valid))
    assert data.info.extra["features"] == ["size", "same", "colour=blue", "colour=red", "grade"]
    assert (data.info.kind, data.info.input_shape, data.info.outputs) == ("values", (5,), 1)
    assert (train["inputs"].dtype, train["inputs"].shape, valid["inputs"].shape) == (np.float32, (16, 5), (4, 5))
    assert (train["targets"].dtype, train["targets"].shape) == (np.float32, (16, 1))
    assert set(map(tuple, train["inputs"][:, 2:4].tolist())) == {(0, 1), (1, 0)}
    np.testing.assert_array_equal(train["inputs"][:, 1], 0)  # a constant column


def test_standardised_with_the_training_rows_only(tmp_path: Path) -> None:
    data = table_source(write(tmp_path, CSV), COLUMNS, valid_fraction=0.4, split_seed=0)
    train, valid = (subset.batch(np.arange(len(subset))) for subset in (data.train, data.valid))
    for values in (train["inputs"][:, 0], train["targets"][:, 0], train["inputs"][:, 4]):
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-6)
    assert abs(valid["inputs"][:, 0].mean()) > 1e-3  # not with its own mean
    back = np.exp(valid["targets"] * data.info.extra["target_scale"] + data.info.extra["target_mean"])
    prices = [2.0**i for i in range(20)]
    assert all(min(abs(price / p - 1) for p in prices) < 1e-5 for price in back[:, 0])


def test_the_split_depends_only_on_its_seed(tmp_path: Path) -> None:
    path = write(tmp_path, CSV)

    def held_out(seed: int) -> list[float]:
        subset = table_source(path, COLUMNS, valid_fraction=0.2, split_seed=seed).valid
        return subset.batch(np.arange(len(subset)))["targets"][:, 0].tolist()

    assert held_out(0) == held_out(0)
    assert len({tuple(held_out(seed)) for seed in range(5)}) == 5


def test_classes(tmp_path: Path) -> None:
    columns = Columns("colour", task="classes", numeric=("size",))
    data = table_source(write(tmp_path, CSV), columns, valid_fraction=0.2, split_seed=0)
    targets = data.train.batch(np.arange(len(data.train)))["targets"]
    assert (data.info.outputs, data.info.extra["classes"], targets.dtype) == (2, ["blue", "red"], np.int64)


def test_gzip_quotes_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress('\ufeffa,b\r\n"1,5","x\ny"\r\n'.encode()))
    assert read_table(str(path)).columns == {"a": ["1,5"], "b": ["x\ny"]}


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("\n0.5,red", "\nabc,red", "line 4, column 'size': expected a finite number. Got 'abc'"),
        ("\n0.5,red", "\n,red", r"line 4, column 'size': the value is missing \(1 of 20 rows\)"),
        ("\n0.5,red", "\nnan,red", r"line 4, column 'size': the value is missing \(1 of 20 rows\)"),
        ("\n0.5,red", "\ninf,red", "line 4, column 'size': expected a finite number. Got 'inf'"),
        ("red,mid", "red,odd", r"line 3, column 'grade': expected one of 'low', 'mid', 'high'. Got 'odd'"),
        (",2.0,", ",0.0,", "line 3, column 'price': transform log needs values above 0. Got '0.0'"),
        ("\n0.5,red", "\n0.5,red,red", "line 4: expected 5 fields, as in the header. Got 6"),
        ("size,", "sice,", "no column 'size'. The columns are: 'sice', 'colour'"),
        ("size,", "price,", "more than once: 'price'"),
        (CSV, "size,colour\n", "a header and at least one row"),
        (CSV, 'size\n"1', "not readable as CSV"),
        (CSV, "".join(CSV.splitlines(keepends=True)[:3]), "leaves"),
    ],
)
def test_what_is_wrong_is_named_with_its_row(tmp_path: Path, old: str, new: str, match: str) -> None:
    text = CSV.replace(old, new, 1)
    assert text != CSV
    with pytest.raises(DataError, match=match):
        table_source(write(tmp_path, text), COLUMNS, valid_fraction=0.2, split_seed=0)


@pytest.mark.parametrize(
    ("columns", "match"),
    [
        (Columns("price"), "no input columns"),
        (Columns("price", numeric=("price",)), "'price' is declared more than once"),
    ],
)
def test_declarations_that_make_no_sense(tmp_path: Path, columns: Columns, match: str) -> None:
    with pytest.raises(DataError, match=match):
        table_source(write(tmp_path, CSV), columns, valid_fraction=0.2, split_seed=0)


def test_diamonds() -> None:
    """The file that comes with allgrad; least squares explains about 95 % of the log price."""
    columns = Columns(
        "price",
        numeric=("carat", "depth", "table", "x", "y", "z"),
        categorical=("cut", "color", "clarity"),
        transform="log",
    )
    data = table_source("package:diamonds.csv.gz", columns, valid_fraction=0.1, split_seed=0)
    train, valid = (subset.batch(np.arange(len(subset))) for subset in (data.train, data.valid))
    assert len(train["inputs"]) + len(valid["inputs"]) == 53_940
    weights = np.linalg.lstsq(train["inputs"].astype(float), train["targets"].astype(float))[0]
    error = valid["targets"] - valid["inputs"] @ weights
    assert 0.94 < 1 - (error**2).sum() / ((valid["targets"] - valid["targets"].mean()) ** 2).sum() < 0.99
